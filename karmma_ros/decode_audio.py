# SPDX-License-Identifier: Apache-2.0
"""From the sound messages of three families to the core's samples, without ROS.

    karmma_msgs/msg/Audio                     float32, from microphone_node
    audio_common_msgs/msg/AudioStamped        of mgonzs13/audio_common; a format of PortAudio's (`info.format`)
    audio_common_msgs/msg/AudioDataStamped    of ros-drivers/audio_common; bytes, and an AudioInfo on a topic of its own

Which one a message is of shows in its fields: rclpy's messages, those of a bag reader and plain objects will do.
Whatever is wrong with a message raises `SampleError` and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError
from karmma_ros.fields import count_of, shown, text_of

__all__ = [
    "AUDIO",
    "AUDIO_DATA_STAMPED",
    "AUDIO_INFO",
    "AUDIO_STAMPED",
    "PcmFormat",
    "audio_seconds",
    "audio_to_chunk",
    "info_to_format",
]

Float32Array = npt.NDArray[np.float32]

AUDIO = "karmma_msgs/msg/Audio"
AUDIO_STAMPED = "audio_common_msgs/msg/AudioStamped"
AUDIO_DATA_STAMPED = "audio_common_msgs/msg/AudioDataStamped"
AUDIO_INFO = "audio_common_msgs/msg/AudioInfo"  # of the family of AUDIO_DATA_STAMPED

_RATES = (1_000, 768_000)  # [Hz] nothing that records sound is slower or faster
_MAX_CHANNELS = 64
_MAX_VALUES = 1 << 22  # in a message, over all channels: 16 MB as float32, 10 s of eight channels at 48 kHz
# PortAudio's PaSampleFormat -> (field of AudioData, type of its values)
_PORTAUDIO = {
    0x01: ("float32_data", "f4"),
    0x02: ("int32_data", "i4"),
    0x08: ("int16_data", "i2"),
    0x10: ("int8_data", "i1"),
    0x20: ("uint8_data", "u1"),
}
# GStreamer's raw formats, without the byte order
_GSTREAMER = {"S8": "i1", "U8": "u1", "S16": "i2", "U16": "u2", "S32": "i4", "U32": "u4", "F32": "f4", "F64": "f8"}
_ORDERS = {"LE": "<", "BE": ">"}
_RAW = ("", "wave", "wav", "pcm", "raw")  # names under which drivers send plain samples


@dataclass(frozen=True)
class PcmFormat:
    """What the bytes of sound are."""

    rate: int  # [Hz]
    channels: int  # interleaved
    dtype: np.dtype[Any]


def audio_to_chunk(msg: Any, *, max_seconds: float = 10.0, pcm: PcmFormat | None = None) -> tuple[Float32Array, int]:
    """A chunk of sound as samples. Its stamp is that of its first sample.

    :param msg: a message of one of the three families.
    :param max_seconds: longer chunks are refused; so is one of more than 4194304 samples over all channels.
    :param pcm: of an AudioDataStamped: what its bytes are, see `info_to_format`.
    :return: ((n, channels) float32, finite, full scale is [-1, 1], may be a view; sample rate [Hz]).
    :raises SampleError: the message cannot be used.
    """
    values, found = _content(msg, pcm)
    if not _RATES[0] <= found.rate <= _RATES[1]:
        raise SampleError("audio has no usable sample rate", f"{found.rate} Hz")
    if not 1 <= found.channels <= _MAX_CHANNELS:
        raise SampleError("audio has no usable number of channels", str(found.channels))
    size = len(values)
    if size == 0:
        raise SampleError("audio is empty")
    if size > _MAX_VALUES:
        raise SampleError("audio chunk is too large", f"{size} samples, at most {_MAX_VALUES}: publish shorter chunks")
    if size % found.channels:
        raise SampleError("audio has a wrong size", f"{size} samples in {found.channels} channels")
    seconds = size / found.channels / found.rate
    if seconds > max_seconds:
        raise SampleError("audio chunk is too long", f"{seconds:.1f} s, at most {max_seconds:g} s")
    samples = _scaled(values, found.dtype)
    if samples.shape != (size,):
        raise SampleError("malformed message", "samples")
    if not np.isfinite(samples).all():
        raise SampleError("audio is not finite")
    return samples.reshape(-1, found.channels), found.rate


def audio_seconds(msg: Any, pcm: PcmFormat | None = None) -> float:
    """[s] that a message of any family spans; 0 where it does not say."""
    try:
        values, found = _content(msg, pcm)
        return len(values) / found.channels / found.rate
    except (SampleError, ZeroDivisionError):
        return 0.0


def info_to_format(info: Any) -> PcmFormat:
    """What the bytes of an AudioDataStamped are, from the AudioInfo beside it.

    :param info: has `channels`, `sample_rate`, `sample_format` (as GStreamer names them) and `coding_format`.
    :raises SampleError: they are not plain samples, or not of 8, 16 or 32 bits or floats.
    """
    coding, named = text_of(info, "coding_format"), text_of(info, "sample_format")
    if coding.strip().lower() not in _RAW:
        raise SampleError("audio is compressed", f"{shown(coding)}: set the driver's format to wave")
    order = _ORDERS.get(named[-2:], "")
    kind = _GSTREAMER.get(named[:-2] if order else named)
    if kind is None:
        raise SampleError("unsupported audio format", f"{shown(named)}: set the driver to S16LE")
    return PcmFormat(count_of(info, "sample_rate"), count_of(info, "channels"), np.dtype((order or "<") + kind))


def _content(msg: Any, pcm: PcmFormat | None) -> tuple[Any, PcmFormat]:
    """The samples of a message as it has them (a sequence), and what they are."""
    if hasattr(msg, "samples"):
        return _sequence(msg, "samples"), PcmFormat(
            count_of(msg, "sample_rate"), count_of(msg, "channels"), np.dtype("f4")
        )
    inner: Any = getattr(msg, "audio", None)
    if hasattr(inner, "audio_data"):
        info = getattr(inner, "info", None)
        code = count_of(info, "format")
        if code not in _PORTAUDIO:
            raise SampleError("unsupported audio format", f"PortAudio's format {code}: set the driver to 8 (int16)")
        field, dtype = _PORTAUDIO[code]
        return _sequence(inner.audio_data, field), PcmFormat(
            count_of(info, "rate"), count_of(info, "channels"), np.dtype(dtype)
        )
    if hasattr(inner, "data"):
        if pcm is None:
            raise SampleError("audio has no format yet", "no usable AudioInfo has been received")
        data = _sequence(inner, "data")
        try:
            octets = np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)
        except (TypeError, ValueError, BufferError):
            raise SampleError("malformed message", "data") from None
        if octets.size % pcm.dtype.itemsize:
            raise SampleError("audio has a wrong size", f"{octets.size} bytes of {pcm.dtype.itemsize} each")
        return octets.view(pcm.dtype), pcm
    raise SampleError("malformed message", "samples")


def _sequence(msg: Any, name: str) -> Any:
    values = getattr(msg, name, None)
    try:
        len(values)  # type: ignore[arg-type]
    except TypeError:
        raise SampleError("malformed message", name) from None
    return values


def _scaled(values: Any, dtype: np.dtype[Any]) -> Float32Array:
    """float32 with a full scale of 1."""
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused as that
            array = np.asarray(values, dtype=dtype)
            if dtype.kind == "f":
                return array.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError):
        raise SampleError("malformed message", "samples") from None
    half = 2.0 ** (8 * dtype.itemsize - 1)
    middle = half if dtype.kind == "u" else 0.0
    # In float64, as 32-bit integers do not fit float32.
    return ((array - middle) / half).astype(np.float32)
