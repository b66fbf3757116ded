# SPDX-License-Identifier: Apache-2.0
"""Sound messages of both packages named audio_common_msgs, beside our own, as plain objects with their fields."""

from __future__ import annotations

import array
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karmma_ros.decode_audio import PcmFormat, audio_seconds, audio_to_chunk, info_to_format
from karmma_ros.errors import SampleError
from karmma_ros.memory import wipe

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(320) / 16_000)
FIELDS = {1: ("float32_data", "f"), 2: ("int32_data", "i"), 8: ("int16_data", "h"), 16: ("int8_data", "b"),
          32: ("uint8_data", "B")}  # fmt: skip


def stored(tone: np.ndarray, kind: str) -> np.ndarray:
    """A tone in [-1, 1] as samples of a NumPy type."""
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return tone.astype(dtype)
    half = 2.0 ** (8 * dtype.itemsize - 1)
    return np.round(tone * half + (half if dtype.kind == "u" else 0)).astype(dtype)


def stamped(values: Any, code: int, rate: int = 16_000, channels: int = 1) -> SimpleNamespace:
    """An AudioStamped of mgonzs13/audio_common."""
    data = {name: array.array(kind) for name, kind in FIELDS.values()}
    if code in FIELDS:
        data[FIELDS[code][0]] = values
    info = SimpleNamespace(format=code, channels=channels, rate=rate, chunk=512)
    return SimpleNamespace(audio=SimpleNamespace(audio_data=SimpleNamespace(**data), info=info))


def data_stamped(octets: bytes) -> SimpleNamespace:
    """An AudioDataStamped of ros-drivers/audio_common."""
    return SimpleNamespace(audio=SimpleNamespace(data=array.array("B", octets)))


def info(sample_format: str = "S16LE", **changes: Any) -> SimpleNamespace:
    """The AudioInfo beside it."""
    fields = {
        "channels": 1,
        "sample_rate": 16_000,
        "sample_format": sample_format,
        "bitrate": 0,
        "coding_format": "wave",
    }
    return SimpleNamespace(**(fields | changes))


@pytest.mark.parametrize("code", FIELDS)
def test_every_portaudio_format_of_8_16_and_32_bits_is_read(code: int) -> None:
    kind = FIELDS[code][1]
    values = array.array(kind, stored(TONE, kind).tobytes())
    samples, rate = audio_to_chunk(stamped(values, code))
    assert (samples.shape, samples.dtype, rate) == ((320, 1), np.float32, 16_000)
    assert np.abs(samples[:, 0] - TONE).max() <= {1: 1e-7, 2: 1e-6, 8: 2e-5}.get(code, 0.005)


@pytest.mark.parametrize(
    ("name", "kind"),
    {
        "S8": "i1", "U8": "u1", "S16LE": "<i2", "S16BE": ">i2", "U16LE": "<u2", "U16BE": ">u2", "S32LE": "<i4",
        "S32BE": ">i4", "U32LE": "<u4", "F32LE": "<f4", "F32BE": ">f4", "F64LE": "<f8", "F64BE": ">f8",
    }.items(),
)  # fmt: skip
def test_every_gstreamer_format_of_8_16_and_32_bits_is_read(name: str, kind: str) -> None:
    pcm = info_to_format(info(name))
    samples, rate = audio_to_chunk(data_stamped(stored(TONE, kind).tobytes()), pcm=pcm)
    assert (samples.shape, samples.dtype, rate) == ((320, 1), np.float32, 16_000)
    assert np.abs(samples[:, 0] - TONE).max() <= (0.005 if "8" in name else 2e-5)


def test_channels_are_interleaved_in_every_family() -> None:
    left, right = stored(TONE, "i2"), stored(-TONE / 2, "i2")
    values = array.array("h", np.stack([left, right], axis=1).tobytes())
    pcm = info_to_format(info(channels=2, sample_rate=44_100))
    for message in (stamped(values, 8, 44_100, 2), data_stamped(values.tobytes())):
        samples, rate = audio_to_chunk(message, pcm=pcm)
        assert (samples.shape, rate) == ((320, 2), 44_100)
        np.testing.assert_allclose(samples[:, 1], -samples[:, 0] / 2, atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"coding_format": "mp3"}, "audio is compressed"),
        ({"sample_format": "S24LE"}, "unsupported audio format"),
        ({"sample_format": "S24_32LE"}, "unsupported audio format"),
        ({"sample_format": "S64LE"}, "unsupported audio format"),
        ({"sample_format": ""}, "unsupported audio format"),
        ({"sample_format": None}, "malformed message"),
        ({"channels": -1}, "malformed message"),
    ],
)
def test_an_info_that_is_no_plain_sound_is_refused_with_its_cause(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(SampleError) as caught:
        info_to_format(info(**changes))
    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (stamped([1, 2, 3], 4), "unsupported audio format"),  # 24 bits
        (stamped([1, 2, 3], 0), "unsupported audio format"),
        (stamped(array.array("h"), 8), "audio is empty"),
        (stamped(array.array("h", [1, 2, 3]), 8, channels=2), "audio has a wrong size"),
        (stamped(array.array("h", [1]), 8, channels=0), "audio has no usable number of channels"),
        (stamped(array.array("h", [1]), 8, rate=-1), "malformed message"),
        (stamped(array.array("f", [math.nan]), 1), "audio is not finite"),
        (stamped(np.zeros(16_000 * 11, np.float32), 1), "audio chunk is too long"),
        (SimpleNamespace(audio=SimpleNamespace(audio_data=None, info=None)), "malformed message"),
        (SimpleNamespace(audio=None), "malformed message"),
        (SimpleNamespace(), "malformed message"),
        (data_stamped(b"\0\0"), "audio has no format yet"),
    ],
)
def test_sound_of_other_families_is_refused_with_its_cause(message: SimpleNamespace, cause: str) -> None:
    with pytest.raises(SampleError) as caught:
        audio_to_chunk(message)
    assert caught.value.cause == cause


def test_bytes_that_are_no_whole_samples_are_refused() -> None:
    with pytest.raises(SampleError, match="3 bytes of 2 each"):
        audio_to_chunk(data_stamped(b"\0\0\0"), pcm=info_to_format(info()))
    with pytest.raises(SampleError, match="empty"):
        audio_to_chunk(data_stamped(b""), pcm=info_to_format(info()))


@given(
    octets=st.binary(max_size=64),
    kind=st.sampled_from(["i1", "u1", "<i2", ">i2", "<i4", ">u4", "<f4", ">f4", "<f8"]),
    channels=st.integers(0, 4),
    rate=st.integers(0, 800_000),
)
def test_any_bytes_are_samples_in_range_or_refused(octets: bytes, kind: str, channels: int, rate: int) -> None:
    try:
        samples, found = audio_to_chunk(data_stamped(octets), pcm=PcmFormat(rate, channels, np.dtype(kind)))
    except SampleError:
        return
    assert samples.shape == (len(octets) // np.dtype(kind).itemsize // channels, channels)
    assert found == rate
    assert np.isfinite(samples).all()
    if np.dtype(kind).kind != "f":
        assert np.abs(samples).max() <= 1


def test_the_length_is_known_without_decoding_and_0_where_it_is_not() -> None:
    assert audio_seconds(stamped(array.array("h", bytes(640)), 8)) == pytest.approx(0.02)
    assert audio_seconds(data_stamped(bytes(640)), info_to_format(info(channels=2))) == pytest.approx(0.01)
    assert audio_seconds(data_stamped(bytes(640))) == 0
    assert audio_seconds(stamped(array.array("h", bytes(640)), 8, channels=0)) == 0


def test_a_message_that_is_dropped_is_wiped_in_every_family() -> None:
    first, second = stamped(array.array("h", [7] * 9), 8), data_stamped(b"\7" * 9)
    wipe(first)
    wipe(second)
    assert set(first.audio.audio_data.int16_data) == {0}
    assert set(second.audio.data) == {0}
