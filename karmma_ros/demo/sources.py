# SPDX-License-Identifier: Apache-2.0
"""What the demo plays: a rendered scene, or a video file with its sound. They travel to other processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import MediaError
from karmma_ros.media import Frame, read_audio, read_video
from karmma_ros.records import Truth
from karmma_ros.resample import Resampler
from karmma_ros.samples import to_mono
from karmma_ros.tabletop.sequence import make_sequence

__all__ = ["SOUND_RATE", "FileSource", "SceneSource", "Source", "open_file_source"]

SOUND_RATE = 16000  # [Hz] of what the demo's microphone delivers
_LARGEST = (640, 480)  # a camera frame of the demo; larger files are shrunk to fit
_NS = 1_000_000_000

Sound = npt.NDArray[np.float32]


class Source(Protocol):
    """A camera and a microphone: frames of `size` (width, height) at `rate` per second, for `seconds`."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def rate(self) -> float: ...
    @property
    def seconds(self) -> float: ...

    def frames(self) -> Iterator[Frame]:
        """Frames in order, stamped from the start."""

    def sound(self) -> Sound | None:
        """float32 (n,) at `SOUND_RATE` from the start, or None without a microphone."""

    def truth(self, pairs: Sequence[tuple[str, str]]) -> Truth | None:
        """What happens in it, for a bundle whose action ids mean `pairs`; None where nobody knows."""


@dataclass(frozen=True)
class SceneSource:
    """A rendered sequence of the test split."""

    seed: int
    seconds: float
    size: tuple[int, int] = _LARGEST
    rate: float = 30.0

    def frames(self) -> Iterator[Frame]:
        """See `Source`."""
        for index, rgb in enumerate(self._sequence().frames()):
            yield Frame(round(index * _NS / self.rate), rgb)

    def sound(self) -> Sound | None:
        """See `Source`."""
        return np.asarray(self._sequence().sound(), dtype=np.float32)

    def truth(self, pairs: Sequence[tuple[str, str]]) -> Truth | None:
        """See `Source`."""
        sequence = self._sequence()
        changes = [interval.start_s for interval in sequence.intervals[1:]]
        return Truth(sequence.action_at, changes, pairs)

    def _sequence(self):  # type: ignore[no-untyped-def]
        return make_sequence(self.seed, "test", duration_s=self.seconds, size=self.size, fps=self.rate)


@dataclass(frozen=True)
class FileSource:
    """A video file, repeated with stamps that go on until `seconds` are over. Made by `open_file_source`."""

    path: Path
    seconds: float
    size: tuple[int, int]
    rate: float
    span_s: float = field(default=0.0)  # [s] length of the file
    first_ns: int = field(default=0)  # stamp of its first frame, from which picture and sound count

    def frames(self) -> Iterator[Frame]:
        """See `Source`."""
        span_ns, end_ns = round(self.span_s * _NS), round(self.seconds * _NS)
        for start_ns in range(0, end_ns, span_ns):
            with read_video(self.path) as reader:
                for frame in reader:
                    offset_ns = frame.stamp_ns - self.first_ns
                    if offset_ns >= span_ns or start_ns + offset_ns >= end_ns:
                        break
                    yield Frame(start_ns + offset_ns, _shrunk(frame.rgb, self.size))

    def sound(self) -> Sound | None:
        """See `Source`."""
        once = _decode_sound(self.path, self.span_s, self.first_ns)
        if once is None:
            return None
        return np.resize(once, round(self.seconds * SOUND_RATE))  # np.resize repeats

    def truth(self, pairs: Sequence[tuple[str, str]]) -> Truth | None:
        """See `Source`."""
        return None


def open_file_source(path: Path, seconds: float) -> FileSource:
    """Looks into a video file.

    :raises MediaError: if it cannot be played.
    """
    with read_video(path) as reader:
        stamps = []
        for frame in reader:  # of a long file no more than is played
            stamps.append(frame.stamp_ns)
            if stamps[-1] - stamps[0] > seconds * _NS:
                break
        width, height, rate = reader.width, reader.height, reader.rate
    if len(stamps) > 1:
        rate = (len(stamps) - 1) * _NS / (stamps[-1] - stamps[0])
    if not 0.5 <= rate <= 240:
        raise MediaError(f"{path}: {rate:.3g} frames per second cannot be played in real time (0.5 to 240)")
    scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return FileSource(path, seconds, size, rate, (stamps[-1] - stamps[0]) / _NS + 1 / rate, stamps[0])


def _shrunk(rgb: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if rgb.shape[1::-1] == size:
        return rgb
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _decode_sound(path: Path, span_s: float, first_ns: int) -> Sound | None:
    """The sound at `SOUND_RATE`, laid out by its stamps over the file's length, from the first frame on."""
    reader = read_audio(path)
    if reader is None:
        return None
    with reader:
        timeline = np.zeros(round(span_s * reader.rate), dtype=np.float32)
        for chunk in reader:
            start = round((chunk.stamp_ns - first_ns) * reader.rate / _NS)
            mono = to_mono(chunk.samples)[max(-start, 0) :]
            start = max(start, 0)
            if start >= len(timeline):
                break
            timeline[start : start + len(mono)] = mono[: len(timeline) - start]
        rate = reader.rate
    resampler = Resampler(rate, SOUND_RATE)
    resampled = np.concatenate([resampler.process(timeline), resampler.flush()])
    return np.clip(resampled, -1.0, 1.0)
