# SPDX-License-Identifier: Apache-2.0
"""Video and sound files in and out, through PyAV: the only place that knows containers and codecs.

Reading gives samples with stamps from the container, never counted ones, so that odd and variable frame rates keep
their timing. Writing gives files that appear whole or not at all.
"""

from __future__ import annotations

import wave
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import av
import av.error
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.errors import MediaError
from karmma_ros.files import whole_file

__all__ = [
    "AudioChunk",
    "AudioReader",
    "Frame",
    "VideoReader",
    "VideoWriter",
    "is_lying",
    "open_container",
    "origin_s",
    "read_audio",
    "read_video",
    "silent_pieces",
    "to_pcm16",
    "turned",
    "upright",
    "write_wav",
]

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

_NS = 1_000_000_000
_TICKS = (
    90_000  # the time base of written videos, per second: MPEG's own, exact for 24, 25, 30 and 50 frames per second
)
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
_HOPELESS = 1000  # damaged packets in a row after which nothing more is expected of a file
_UNKNOWN_RATE = 25.0  # frames per second where a container does not say: what ffmpeg assumes as well


class Frame(NamedTuple):
    """One decoded frame: `stamp_ns` from the start of the file, `rgb` uint8 (H, W, 3)."""

    stamp_ns: int
    rgb: Image


class AudioChunk(NamedTuple):
    """Decoded sound: `stamp_ns` of its first sample from the start of the file, float32 (n, channels) in [-1, 1]."""

    stamp_ns: int
    samples: Samples


class _Reader:
    """An open container, the start of its time and the stream to decode."""

    def __init__(self, path: Path, kind: Literal["video", "audio"]) -> None:
        self.path = path
        self.damaged = 0  # packets that could not be decoded and were left out
        self.late = 0  # frames left out since their stamp is not after that of the one before
        self.ended_early = False  # the file cannot be read to its end
        self._container = open_container(path)
        streams = getattr(self._container.streams, kind)
        # FFmpeg may have no decoder for a stream: its codec context is None then
        self._stream: Any = next((stream for stream in streams if stream.codec_context is not None), None)
        self._origin_s = origin_s(self._container)

    def close(self) -> None:
        """Closes the file. Iterating ends."""
        self._container.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _decoded(self) -> Iterator[Any]:
        """Frames of the stream; damaged packets are counted and left out."""
        packets = self._container.demux(self._stream)
        in_a_row = 0
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError:  # the demuxer has given up: it is a generator, and ends with its error
                self.ended_early = True
                return
            try:
                yield from packet.decode()
                in_a_row = 0
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                in_a_row += 1
                if in_a_row > _HOPELESS:
                    self.ended_early = True
                    return

    def _stamp_ns(self, frame: Any) -> int | None:
        if frame.pts is None or frame.time_base is None:
            return None
        return round((frame.pts * Fraction(frame.time_base) - self._origin_s) * _NS)


class VideoReader(_Reader):
    """The frames of a video file, decoded one at a time while iterating; a context manager.

    `width`, `height`: as displayed, rotation included. `rate`: mean frames per second. `duration_s`, `frames`: what the
    container claims, or None.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "video")
        if self._stream is None or not self._stream.codec_context.width:
            self.close()
            raise MediaError(f"{path}: no video in this file")
        self._stream.thread_type = "AUTO"
        self._reformatter = VideoReformatter()
        rate = self._stream.average_rate or self._stream.base_rate
        self.rate = float(rate) if rate else _UNKNOWN_RATE
        self.frames: int | None = self._stream.frames or None
        self.duration_s = _duration_s(self._container, self._stream)
        self._frames = self._read()
        self._first: Frame | None = next(self._frames, None)
        if self._first is None:
            self.close()
            raise MediaError(f"{path}: not a single frame could be decoded")
        self.height, self.width = self._first.rgb.shape[:2]

    def close(self) -> None:
        """Closes the file; iterating ends."""
        if hasattr(self, "_frames"):
            self._frames.close()  # before the container that it reads from
        super().close()

    def __iter__(self) -> Iterator[Frame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._frames

    def _read(self) -> Generator[Frame, None, None]:
        last: int | None = None
        period_ns = round(_NS / self.rate)
        for frame in self._decoded():
            stamp = self._stamp_ns(frame)
            if stamp is None:  # raw streams carry no time
                stamp = 0 if last is None else last + period_ns
            if last is not None and stamp <= last:  # a repeated or late stamp: time is data, and this frame has none
                self.late += 1
                continue
            last = stamp
            yield Frame(stamp, upright(frame, self._reformatter))


class AudioReader(_Reader):
    """The sound of a file, decoded chunk by chunk while iterating; a context manager.

    `rate`: samples per second; `channels`; `duration_s`: what the container claims, or None.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "audio")
        self.rate = 0
        self.channels = 0
        self.duration_s: float | None = None
        if self._stream is not None:
            self.rate = int(self._stream.rate or 0)
            self.channels = int(self._stream.channels or 0)
            self.duration_s = _duration_s(self._container, self._stream)

    def __iter__(self) -> Iterator[AudioChunk]:
        if self._stream is None:
            return
        expected = 0
        for frame in self._decoded():
            stamp = self._stamp_ns(frame)
            if stamp is None:
                stamp = expected
            samples = _interleaved(frame)
            expected = stamp + round(len(samples) * _NS / self.rate)
            if len(samples):
                yield AudioChunk(stamp, samples)


def read_video(path: str | Path) -> VideoReader:
    """Opens a video file.

    :raises MediaError: if it is missing, unreadable, no video, or holds not a single frame.
    """
    return VideoReader(Path(path))


def read_audio(path: str | Path) -> AudioReader | None:
    """Opens the sound of a file, or gives None if it has none.

    :raises MediaError: if the file is missing, unreadable or no media file.
    """
    reader = AudioReader(Path(path))
    if reader.rate <= 0 or reader.channels <= 0:
        reader.close()
        return None
    return reader


def silent_pieces(count: int, channels: int, rate: int) -> Iterator[Samples]:
    """`count` samples of silence (none below 1), at most a second at a time: it may be hours.  -> (n, channels) each"""
    for begin in range(0, count, rate):
        yield np.zeros((min(rate, count - begin), channels), np.float32)


class VideoWriter:
    """Writes one video file; a context manager. The file appears under its name when the block ends well.

    `codec` "h264" (yuv420p in MP4, plays everywhere; odd sizes gain a row or column), "h264rgb" (in MP4, RGB comes back
    bit for bit at its own times) or "lossless" (FFVHUFF in AVI: RGB comes back bit for bit at a constant rate, every
    frame stands alone, the same frames give the same bytes; measured on noisy 320x240 frames: 1.2 ms to write and
    1.5 ms to read against FFV1's 4.2 and 4.6, at 1.17 times its size).

    :param path: where to; the folder is made.
    :param size: (width, height) of the frames to come.
    :param rate: frames per second, nominal.
    :param sound: (rate in Hz, channels) to mux sound in as AAC; not with "lossless".
    :param crf: quality of "h264", from 0 to 51, less is better: 22 to look at, 12 to learn from.
    :raises MediaError: if this PyAV lacks the encoder. :raises OSError: if the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        rate: float,
        *,
        sound: tuple[int, int] | None = None,
        codec: Literal["h264", "h264rgb", "lossless"] = "h264",
        crf: int = 22,
    ) -> None:
        self.size = size
        self._codec = codec
        self._last_tick = -1
        self._sound: Any = None
        self._samples = 0
        self._stack = ExitStack()
        temporary = self._stack.enter_context(whole_file(path))
        try:
            if codec == "lossless":
                self._container: Any = av.open(str(temporary), "w", format="avi", options={"fflags": "+bitexact"})
                self._rate = Fraction(rate).limit_denominator(1001)
                self._stream = self._video_stream("ffvhuff", self._rate, "gbrp", {"threads": "1"})
            else:
                options = {"movflags": "+faststart"}
                self._container = av.open(str(temporary), "w", format="mp4", options=options)
                self._rate = Fraction(rate).limit_denominator(1001)
                if codec == "h264rgb":
                    exact = {"preset": "veryfast", "qp": "0"}
                    self._stream = self._video_stream("libx264rgb", self._rate, "rgb24", exact)
                else:
                    quality = {"preset": "veryfast", "crf": str(crf)}
                    self._stream = self._video_stream("libx264", self._rate, "yuv420p", quality)
                self._stream.codec_context.time_base = Fraction(1, _TICKS)
                if sound is not None:
                    self._sound = self._container.add_stream("aac", rate=sound[0])
                    self._sound.layout = "mono" if sound[1] == 1 else "stereo"
        except Exception as error:
            self._stack.__exit__(type(error), error, None)
            if isinstance(error, (ValueError, av.error.FFmpegError)) and not isinstance(error, OSError):
                raise MediaError(f"{path}: cannot write this video: {error}") from error
            raise

    def _video_stream(self, encoder: str, rate: Fraction, pixels: str, options: dict[str, str]) -> Any:
        stream = self._container.add_stream(encoder, rate=rate, options=options)
        even = self._codec == "h264"
        stream.width = self.size[0] + (self.size[0] % 2 if even else 0)
        stream.height = self.size[1] + (self.size[1] % 2 if even else 0)
        stream.pix_fmt = pixels
        return stream

    def write(self, rgb: Image, stamp_ns: int) -> None:
        """Adds a frame, uint8 (H, W, 3), at `stamp_ns` from the start of the file; stamps increase.

        "lossless" keeps a constant rate: the frame goes to the nearest place on that grid.
        """
        height, width = rgb.shape[:2]
        if (width, height) != self.size:
            raise ValueError(f"a frame of {width}x{height} in a video of {self.size[0]}x{self.size[1]}")
        if self._codec == "lossless":
            frame = _planar(rgb)
            tick, frame.time_base = round(stamp_ns * self._rate / _NS), 1 / self._rate
        else:
            if self._codec == "h264" and (width % 2 or height % 2):
                rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            tick, frame.time_base = round(stamp_ns * _TICKS / _NS), Fraction(1, _TICKS)
        self._last_tick = frame.pts = max(tick, self._last_tick + 1)
        self._container.mux(self._stream.encode(frame))

    def write_sound(self, samples: Samples) -> None:
        """Adds sound after what was added before: float32 (n, channels) or (n,) in [-1, 1]."""
        if self._sound is None:
            raise ValueError("this video was opened without sound")
        if not len(samples):
            return
        block = np.clip(samples.reshape(len(samples), -1), -1.0, 1.0).astype(np.float32)
        layout = self._sound.layout.name
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = self._sound.rate
        frame.time_base = Fraction(1, self._sound.rate)
        frame.pts = self._samples
        self._samples += len(block)
        self._container.mux(self._sound.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
                if self._sound is not None and self._samples:
                    self._container.mux(self._sound.encode(None))
            self._container.close()
        except Exception as failure:
            self._stack.__exit__(type(failure), failure, None)
            raise
        self._stack.__exit__(kind, error, trace)


def to_pcm16(samples: Samples) -> npt.NDArray[np.int16]:
    """Samples in [-1, 1] as 16-bit PCM, little-endian; what is louder is clipped."""
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")


def write_wav(path: str | Path, samples: Samples, rate: int) -> None:
    """Writes 16-bit PCM, whole or not at all. `samples`: float32 (n,) or (n, channels) in [-1, 1].

    :raises OSError: if the file cannot be written.
    """
    block = samples[:, np.newaxis] if samples.ndim == 1 else samples
    pcm = to_pcm16(block)
    with whole_file(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(block.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def _planar(rgb: Image) -> Any:
    """A gbrp frame. `VideoFrame.from_ndarray` does the same in five times the time."""
    height, width = rgb.shape[:2]
    frame = av.VideoFrame(width, height, "gbrp")
    red, green, blue = cv2.split(rgb)
    for plane, channel in zip(frame.planes, (green, blue, red), strict=True):
        padding = plane.line_size - width
        rows = np.pad(channel, ((0, 0), (0, padding))) if padding else channel
        plane.update(rows.tobytes())
    return frame


def open_container(path: Path) -> Any:
    """PyAV's container of a file.

    :raises MediaError: it is missing or unreadable.
    """
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: is a folder, not a video or sound file")
    try:
        return av.open(str(path))
    except PermissionError as error:
        raise MediaError(f"{path}: no permission to read it") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{path}: not a readable video or sound file ({reason})") from error


def origin_s(container: Any) -> Fraction:
    """One origin for picture and sound: the earliest stream starts at 0, the other keeps its offset."""
    # The container's own start time says the same, but rounded to microseconds.
    starts = [
        stream.start_time * Fraction(stream.time_base)
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None and stream.time_base
    ]
    return min(starts, default=Fraction(0))


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def upright(frame: Any, reformatter: VideoReformatter | None = None) -> Image:
    """The frame as it is meant to be seen: phones store portrait video lying on its side, with a note.

    :param reformatter: that of the other frames: making one for each takes longer than converting a small frame.
    """
    converted = frame.reformat(format="rgb24") if reformatter is None else reformatter.reformat(frame, format="rgb24")
    return turned(frame, np.asarray(converted.to_ndarray(), np.uint8))


def turned(frame: Any, rgb: Image) -> Image:
    """A frame's pixels (h, w, 3), turned as its note says."""
    turn = _TURNS.get(_note(frame))
    return rgb if turn is None else cv2.rotate(rgb, turn)  # type: ignore[return-value]


def is_lying(frame: Any) -> bool:
    """Whether the upright frame has this one's height as its width."""
    return _note(frame) in (90, 270)


def _note(frame: Any) -> int:
    return int(getattr(frame, "rotation", 0)) % 360  # older PyAV does not know the note


def _interleaved(frame: Any) -> Samples:
    """float32 (n, channels) in [-1, 1], whatever the codec's sample format."""
    block = frame.to_ndarray()
    channels = len(frame.layout.channels)
    block = block.T if frame.format.is_planar else block.reshape(-1, channels)
    if block.dtype.kind == "f":
        return np.ascontiguousarray(block, dtype=np.float32)
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - 128.0) / 128.0
    return block.astype(np.float32) / np.float32(2.0 ** (8 * block.dtype.itemsize - 1))
