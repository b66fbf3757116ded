# SPDX-License-Identifier: Apache-2.0
"""A bag's samples as media files: what `karmma train` reads.

All files of a bag start at the same moment, the stamp of its first picture (without a camera: its first stamp), and
keep their own times from there on: pictures to 1/90000 s, flow to the nanosecond, sound on one clock with silence where
none was recorded.
"""

from __future__ import annotations

import wave
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from karmma_ros.audio import JOIN_S
from karmma_ros.bags.reader import Bag, Topic, header_ns
from karmma_ros.bags.sound import SoundDecoder
from karmma_ros.bags.topics import FUTURE_S, Sensors, picture_decoder, usual_rate_hz
from karmma_ros.decode import check_stamp, flow_to_field, scale_flow
from karmma_ros.errors import KarmmaError, SampleError
from karmma_ros.files import whole_file
from karmma_ros.flow import FlowIntervals
from karmma_ros.flow_file import FlowFileWriter
from karmma_ros.media import VideoWriter, silent_pieces, to_pcm16
from karmma_ros.samples import prepare_flow

__all__ = ["ExtractSettings", "Extracted", "extract"]

_NS = 1_000_000_000
_CRF = 12  # of the pictures: no difference to be seen
_FLOW_WIDTH = 160  # pixels; larger fields are shrunk, training shrinks them further
_LOST_S = 1.0  # silence longer than this is sound that was not recorded
_LARGEST_WAV = 2**32 - 64  # bytes of sound
_LONGEST_GAP_S = 3600.0  # a longer step of the stamps is a clock that was set


@dataclass(frozen=True)
class ExtractSettings:
    """How media are written."""

    rotate: int = 0  # clockwise degrees that make the picture upright
    lossless: bool = False  # pictures bit for bit; twelve times the size on rendered scenes
    flow_unit: str = "pixels_per_second"


@dataclass
class Extracted:
    """A bag's files. `files`: modality -> name, of those that hold something; `origin_ns`: the stamp they start at.

    `stop_s`: end of the last sample; `silent`: stretches without recorded sound [s]; `left_out`: why samples are not
    in the files, counted.
    """

    name: str
    origin_ns: int
    files: dict[str, str] = field(default_factory=dict)
    stop_s: float = 0.0
    silent: list[tuple[float, float]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def heard_share(self, start_s: float, stop_s: float) -> float:
        """The share of a stretch in which sound was recorded."""
        lost = sum(max(0.0, min(stop_s, end) - max(start_s, begin)) for begin, end in self.silent)
        return 1.0 - lost / (stop_s - start_s)


def extract(
    bag: Bag,
    sensors: Sensors,
    folder: Path,
    settings: ExtractSettings | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Extracted:
    """Writes the bag's media into `folder`.

    :param progress: called with the seconds of log time done.
    :raises KarmmaError: there is nothing that can be used, or the bag is damaged.
    :raises OSError: the files cannot be written.
    """
    settings = settings or ExtractSettings()
    modalities = sensors.modality_of()
    made: Extracted | None = None
    left_out: Counter[str] = Counter()
    with ExitStack() as stack:
        files = {m: stack.enter_context(_file(m, topic, bag, folder, settings)) for m, topic in sensors.items()}
        leading = next(iter(files))  # what comes before its first sample is not in the files
        for message in bag.messages(list(modalities)):
            modality = modalities[message.topic.name]
            try:
                decoded = message.decode()
                stamp_ns = header_ns(decoded)
                check_stamp(stamp_ns, message.log_ns, FUTURE_S)  # one ahead would make the next ones "not newer"
                sample = files[modality].decode(stamp_ns, decoded)
                if made is None and modality == leading:
                    made = Extracted(bag.name, stamp_ns, left_out=left_out)
                if made is not None:
                    files[modality].write(stamp_ns - made.origin_ns, sample)
            except SampleError as error:
                left_out[f"{modality}: {error.cause}"] += 1
            progress((message.log_ns - bag.start_ns) / _NS)
        if made is None:
            raise KarmmaError(f"{bag.path}: no {leading} in it can be used; `karmma record-check` says why")
        made.stop_s = max(file.stop_s for file in files.values())
        made.files = {modality: file.path.name for modality, file in files.items() if file.stop_s > 0}
        made.silent = [gap for file in files.values() for gap in file.silent(made.stop_s)]
    return made


def _file(modality: str, topic: Topic, bag: Bag, folder: Path, settings: ExtractSettings) -> _File:
    stem, rate_hz = folder / bag.name, usual_rate_hz(bag, topic)
    if modality == "audio":
        return _Sound(stem, topic, rate_hz, settings, SoundDecoder(bag, topic))
    return (_Pictures if modality == "video" else _Flow)(stem, topic, rate_hz, settings)


class _File:
    """One modality's file; a context manager. Nothing is written before the first sample."""

    suffix = ""

    def __init__(self, stem: Path, topic: Topic, rate_hz: float, settings: ExtractSettings) -> None:
        self.path = stem.with_name(stem.name + self.suffix)
        self.stop_s = 0.0  # end of the last sample
        self._topic, self._rate_hz, self._settings = topic, rate_hz, settings
        self._stack = ExitStack()

    def decode(self, stamp_ns: int, message: Any) -> Any:
        """The message's sample. :raises SampleError: it holds none."""
        raise NotImplementedError

    def write(self, time_ns: int, sample: Any) -> None:
        """Adds a sample, `time_ns` from the start of the file. :raises SampleError: it comes too late."""
        raise NotImplementedError

    def silent(self, stop_s: float) -> list[tuple[float, float]]:
        """Stretches without sound, of a file of sound."""
        return []

    def _check_newer(self, time_ns: int) -> None:
        last_ns = round(self.stop_s * _NS)
        if time_ns < 0 or (self.stop_s > 0 and time_ns <= last_ns):
            raise SampleError("stamp is not newer than the one before")
        if time_ns - last_ns > _LONGEST_GAP_S * _NS:
            raise SampleError("stamp is hours after the one before")

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.__exit__(*exc)


class _Pictures(_File):
    suffix = ".mp4"
    _writer: VideoWriter | None = None

    def decode(self, stamp_ns: int, message: Any) -> npt.NDArray[np.uint8]:
        return picture_decoder(self._topic)(message, rotate=self._settings.rotate)

    def write(self, time_ns: int, sample: npt.NDArray[np.uint8]) -> None:
        self._check_newer(time_ns)
        if self._writer is None:
            codec: Literal["h264rgb", "h264"] = "h264rgb" if self._settings.lossless else "h264"
            size = (sample.shape[1], sample.shape[0])
            self._writer = self._stack.enter_context(VideoWriter(self.path, size, self._rate_hz, codec=codec, crf=_CRF))
        if sample.shape[1::-1] != self._writer.size:
            raise SampleError("picture of another size than the first")
        self._writer.write(sample, time_ns)
        self.stop_s = time_ns / _NS or 1e-9  # the first picture is one too


class _Flow(_File):
    suffix = ".npz"
    _writer: FlowFileWriter | None = None

    def __init__(self, stem: Path, topic: Topic, rate_hz: float, settings: ExtractSettings) -> None:
        super().__init__(stem, topic, rate_hz, settings)
        self._intervals = FlowIntervals()

    def decode(self, stamp_ns: int, message: Any) -> npt.NDArray[np.float32]:
        interval_s = self._intervals.next(stamp_ns)
        return scale_flow(flow_to_field(message), self._settings.flow_unit, interval_s)

    def write(self, time_ns: int, sample: npt.NDArray[np.float32]) -> None:
        self._check_newer(time_ns)
        if self._writer is None:
            height, width = sample.shape[:2]
            shrink = min(1.0, _FLOW_WIDTH / width)
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            self._writer = self._stack.enter_context(FlowFileWriter(self.path, size))
        self._writer.write(time_ns, prepare_flow(sample, self._writer.size[::-1]))
        self.stop_s = time_ns / _NS or 1e-9


class _Sound(_File):
    """16-bit PCM on one clock from the file's start."""

    suffix = ".wav"
    _writer: wave.Wave_write | None = None

    def __init__(
        self, stem: Path, topic: Topic, rate_hz: float, settings: ExtractSettings, to_samples: SoundDecoder
    ) -> None:
        super().__init__(stem, topic, rate_hz, settings)
        self._to_samples = to_samples
        self._silent: list[tuple[float, float]] = []
        self._format = (0, 0)  # (rate, channels)
        self._samples = 0

    def decode(self, stamp_ns: int, message: Any) -> tuple[npt.NDArray[np.float32], int]:
        return self._to_samples(message)

    def write(self, time_ns: int, sample: tuple[npt.NDArray[np.float32], int]) -> None:
        chunk, rate = sample
        if self._writer is None:
            self._open(rate, chunk.shape[1])
        assert self._writer is not None
        if self._format != (rate, chunk.shape[1]):
            raise SampleError("sound of another rate or number of channels than the first")
        late = round(time_ns * rate / _NS) - self._samples
        if late > _LONGEST_GAP_S * rate:
            raise SampleError("stamp is hours after the one before")
        gap = late if late > JOIN_S * rate else 0
        if late < -JOIN_S * rate:
            chunk = chunk[-late:]  # known already
            if not len(chunk):
                raise SampleError("stamp is not newer than the one before")
        self._check_length(gap + len(chunk))
        if gap > _LOST_S * rate:
            self._silent.append((self._samples / rate, (self._samples + gap) / rate))
        for silence in silent_pieces(gap, chunk.shape[1], rate):
            self._write(silence)
        self._write(chunk)
        self.stop_s = self._samples / rate

    def _open(self, rate: int, channels: int) -> None:
        temporary = self._stack.enter_context(whole_file(self.path))
        self._writer = self._stack.enter_context(wave.open(str(temporary), "wb"))  # noqa: SIM115 the stack closes it
        self._writer.setnchannels(channels)
        self._writer.setsampwidth(2)
        self._writer.setframerate(rate)
        self._format = (rate, channels)

    def _check_length(self, more: int) -> None:
        """A WAV file counts its bytes in 32 bits."""
        if 2 * self._format[1] * (self._samples + more) > _LARGEST_WAV:
            raise SampleError("sound is longer than a WAV file can hold")

    def _write(self, samples: npt.NDArray[np.float32]) -> None:
        assert self._writer is not None
        self._writer.writeframes(to_pcm16(samples).tobytes())
        self._samples += len(samples)

    def silent(self, stop_s: float) -> list[tuple[float, float]]:
        ends_s = [(self.stop_s, stop_s)] if self._writer is not None and stop_s - self.stop_s > _LOST_S else []
        return self._silent + ends_s
