# SPDX-License-Identifier: Apache-2.0
"""Bytes -> messages that are nearly right, for fuzzers that steer by bytes and for random ones alike."""

from __future__ import annotations

import array
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

__all__ = ["KINDS", "SOUNDS", "Bytes", "detections", "message", "settings"]

SOUNDS = ("audio", "audio_stamped", "audio_data")  # the three families of messages
KINDS = ("image", "compressed", "flow", *SOUNDS)
NAMES = ["rgb8", "bgr8", "rgba8", "bgra16", "mono8", "mono16", "bayer_gbrg8", "bayer_rggb16", "yuv422", "yuv422_yuy2"]
NAMES += ["nv12", "nv21", "i420", "uyvy", "8UC1", "8UC3", "8SC1", "16SC4", "32SC1", "32FC1", "32FC3", "64FC1", "8UC999"]
PIXELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra16": 8, "mono16": 2, "bayer_rggb16": 2, "yuv422": 2}  # bytes, else 1
PIXELS |= {"yuv422_yuy2": 2, "uyvy": 2, "8UC3": 3, "16SC4": 8, "32SC1": 4, "32FC1": 4, "32FC3": 12, "64FC1": 8}
LARGE = (2**16, 2**31 - 1, 2**31, 2**32 - 1)
# PortAudio's formats and those of GStreamer: (field of the message, type of its values), name of what bytes are
PORTAUDIO = {1: ("float32_data", "f"), 2: ("int32_data", "i"), 8: ("int16_data", "h"), 16: ("int8_data", "b")}
PORTAUDIO |= {32: ("uint8_data", "B"), 4: ("int16_data", "h"), 0: ("float32_data", "f"), 2**31: ("int8_data", "b")}
GSTREAMER = ("S16LE", "S16BE", "U8", "S8", "U16LE", "S32LE", "U32BE", "F32LE", "F64BE", "S24LE", "S24_32LE", "LE", "")


class Bytes:
    """Reads choices off a string of bytes; at its end all choices are the first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """`count` bytes, zeros where there are no more."""
        part = self._data[self._at : self._at + count]
        self._at += len(part)
        return part.ljust(count, b"\0")

    def number(self, below: int) -> int:
        """0 to below - 1."""
        return int.from_bytes(self.take(2 if below <= 65536 else 5), "little") % below

    def choice(self, options: Any) -> Any:
        """One of them."""
        return options[self.number(len(options))]

    def count(self, usual: int) -> int:
        """The usual count mostly; else one nearby, or a huge one."""
        kind = self.number(16)
        return usual if kind < 12 else max(0, usual + self.number(9) - 4) if kind < 15 else self.choice(LARGE)


def message(data: bytes, kinds: Sequence[str] = KINDS) -> tuple[str, SimpleNamespace]:
    """(kind, message), the message with all fields of its ROS type; beside "audio_data" its AudioInfo, as `info`."""
    source = Bytes(data)
    kind = source.choice(kinds)
    make = {
        "image": _image,
        "compressed": _compressed,
        "flow": _flow,
        "audio": _audio,
        "audio_stamped": _audio_stamped,
        "audio_data": _audio_data,
    }
    return kind, make[kind](source)


def detections(data: bytes) -> SimpleNamespace:
    """What an object detector says, with the fields of a Detection2DArray."""
    source = Bytes(data)
    return SimpleNamespace(detections=[_detection(source) for _ in range(source.number(7))])


def settings(data: bytes) -> SimpleNamespace:
    """What a user may set and a clock may say; from the end of the bytes, so that the message stays as it is."""
    source = Bytes(data[::-1])
    return SimpleNamespace(
        rotate=source.choice((0, 90, 180, 270)),
        unit=source.choice(("pixels_per_second", "pixels_per_frame")),
        dt_s=source.choice((1 / 30, 1e-30, 0.0, -1.0, float("nan"), float("inf"), None)),
        stamp_ns=source.choice((10**9, 0, -1, 2 * 10**9, 2**63 - 1)),
        clock_ns=source.choice((10**9, 0)),
        late_ns=source.choice((-(10**12), -(10**9), -(10**7), -1, 10**6, 10**7, 10**9, 10**12, 2**62)),
    )


def _image(source: Bytes) -> SimpleNamespace:
    height, width = 1 + source.number(10), 1 + source.number(10)
    count = source.count if source.number(2) else int  # half of them fit together
    encoding = source.choice(NAMES) if source.number(16) else source.take(source.number(12)).decode("latin-1")
    pixel = PIXELS.get(encoding, 1) if source.number(8) else source.choice((1, 2, 3, 4, 6, 8, 12, 16, 32))
    step = width * pixel + source.choice((0, 0, 0, 1, 5))
    rows = height + source.choice((0, 0, height // 2))
    return SimpleNamespace(
        height=count(height),
        width=count(width),
        encoding=encoding,
        is_bigendian=source.choice((0, 0, 0, 1, 255)),
        step=count(step),
        data=array.array("B", _content(source, min(count(rows * step), 40_000))),
    )


def _content(source: Bytes, count: int) -> bytes:
    """Pixels: a few bytes of the source, repeated."""
    seed = source.take(32)
    return (seed * (count // len(seed) + 1))[:count]


def _compressed(source: Bytes) -> SimpleNamespace:
    noise = np.random.default_rng(source.number(4)).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    data = bytearray(cv2.imencode(source.choice([".jpg", ".png"]), noise)[1].tobytes())
    for _ in range(source.number(5)):
        start = source.number(len(data) + 1)
        data[start : start + source.number(7)] = source.take(source.number(7))
    text = (
        "rgb8; jpeg compressed bgr8",
        "jpeg",
        "png",
        "bayer_rggb8; png compressed",
        "16UC1; compressedDepth png",
        "",
    )
    return SimpleNamespace(format=source.choice(text), data=array.array("B", bytes(data)))


def _flow(source: Bytes) -> SimpleNamespace:
    height, width = 1 + source.number(10), 1 + source.number(10)
    values = np.frombuffer(_content(source, 8 * height * width), np.float32).copy()
    if source.number(4):
        values = np.clip(np.nan_to_num(values), -1e3, 1e3)
    return SimpleNamespace(
        height=source.count(height),
        width=source.count(width),
        encoding=source.choice(("32FC2", "32FC2", "32FC2", "32FC1", "64FC2", "8UC2")),
        is_bigendian=source.choice((0, 0, 0, 1)),
        step=source.count(8 * width),
        data=array.array("B", values.tobytes()[: source.count(8 * height * width)]),
    )


def _audio(source: Bytes) -> SimpleNamespace:
    frames, channels = source.number(300), 1 + source.number(4)
    samples = _samples(source, "f", frames * channels)
    return SimpleNamespace(sample_rate=_rate(source), channels=source.count(channels), samples=samples)


def _audio_stamped(source: Bytes) -> SimpleNamespace:
    """Of mgonzs13/audio_common."""
    frames, channels = source.number(300), 1 + source.number(4)
    code = source.choice(tuple(PORTAUDIO))
    data = {name: array.array(kind) for name, kind in PORTAUDIO.values()}
    # The field that the format means, mostly.
    name, kind = PORTAUDIO[code if source.number(8) else source.choice(tuple(PORTAUDIO))]
    data[name] = _samples(source, kind, frames * channels)
    info = SimpleNamespace(format=code, channels=source.count(channels), rate=_rate(source), chunk=frames)
    return SimpleNamespace(audio=SimpleNamespace(audio_data=SimpleNamespace(**data), info=info))


def _audio_data(source: Bytes) -> SimpleNamespace:
    """Of ros-drivers/audio_common."""
    frames, channels = source.number(300), 1 + source.number(4)
    named = source.choice(GSTREAMER)
    width = next((size for bits, size in (("16", 2), ("32", 4), ("64", 8)) if bits in named), 1)
    octets = _content(source, min(source.count(width * channels * frames), 40_000))
    info = SimpleNamespace(
        channels=source.count(channels),
        sample_rate=_rate(source),
        sample_format=named if source.number(16) else source.take(source.number(6)).decode("latin-1"),
        bitrate=0,
        coding_format=source.choice(("wave", "wave", "", "RAW ", "pcm", "mp3")),
    )
    return SimpleNamespace(audio=SimpleNamespace(data=array.array("B", octets)), info=info)


def _samples(source: Bytes, kind: str, count: int) -> array.array[Any]:
    """Whole numbers of any size; floats within full scale mostly, else any."""
    octets = _content(source, array.array(kind).itemsize * count)
    if kind == "f" and source.number(4):
        octets = np.clip(np.nan_to_num(np.frombuffer(octets, np.float32)), -1, 1).tobytes()
    return array.array(kind, octets)


def _rate(source: Bytes) -> int:
    """A usual one, any that a device may have, or none at all."""
    kind = source.number(8)
    if kind < 4:
        return source.choice((16_000, 44_100, 48_000, 8_000, 11_025))
    return source.number(800_000) if kind < 7 else source.choice((0, 1, 999, 768_001, *LARGE))


def _detection(source: Bytes) -> SimpleNamespace:
    position = SimpleNamespace(x=_number(source, 320.0), y=_number(source, 240.0))
    theta = _number(source, 3.0) if source.number(2) else 0.0
    # The second is how it was before version 4 of vision_msgs.
    center = source.choice(
        (SimpleNamespace(position=position, theta=theta), SimpleNamespace(**vars(position), theta=theta))
    )
    names = ("hand", "cup", "1", "-1", "", "dragon", "99999999999", "\u0663")
    results = [
        SimpleNamespace(hypothesis=SimpleNamespace(class_id=source.choice(names), score=_number(source, 1.0)))
        for _ in range(source.choice((1, 1, 2, 0)))
    ]
    bbox = SimpleNamespace(center=center, size_x=_number(source, 99.0), size_y=_number(source, 99.0))
    return SimpleNamespace(results=results, bbox=bbox)


def _number(source: Bytes, most: float) -> Any:
    """Between 0 and most, mostly; else any double there is, or no number at all."""
    kind = source.number(64)
    if kind < 62:
        return most * (1 + source.number(1000)) / 1000
    return (
        source.choice((None, "1", 10**400, True)) if kind == 62 else float(np.frombuffer(source.take(8), np.float64)[0])
    )
