# SPDX-License-Identifier: Apache-2.0
"""Sensors send all sorts of things: every one of them is either a sample or a SampleError, and costs nothing else."""

import array
import math
import tracemalloc
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karmma_ros.decode import audio_to_chunk, compressed_to_rgb, flow_to_field, image_to_rgb
from karmma_ros.errors import SampleError

FIELDS: dict[str, Any] = {
    "encoding": "rgb8",
    "height": 4,
    "width": 6,
    "step": 18,
    "is_bigendian": 0,
    "data": bytes(72),
}


def image(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**(FIELDS | fields))


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"height": 0}, "image is empty"),
        ({"width": 0, "step": 0}, "image is empty"),
        ({"height": -4}, "malformed message"),
        ({"height": 4.0}, "malformed message"),
        ({"step": 17}, "wrong step"),
        ({"step": 0}, "wrong step"),
        ({"step": 19}, "wrong data size"),
        ({"data": bytes(71)}, "wrong data size"),
        ({"data": bytes(73)}, "wrong data size"),
        ({"data": b""}, "image has no data"),
        ({"data": array.array("B")}, "image has no data"),
        ({"data": None}, "image has no data"),
        ({"data": "text"}, "image has no data"),
        ({"encoding": ""}, "unsupported encoding"),
        ({"encoding": "RGB8"}, "unsupported encoding"),
        ({"encoding": b"rgb8"}, "malformed message"),
        ({"encoding": "rgb16"}, "wrong step"),
        ({"encoding": "8UC2"}, "image has no usable number of channels"),
        ({"encoding": "8UC5"}, "image has no usable number of channels"),
        ({"encoding": "yuv422", "width": 5}, "odd size"),
        ({"encoding": "nv12", "height": 3}, "odd size"),
        ({"encoding": "nv12"}, "wrong data size"),
        ({"encoding": "i420", "step": 4}, "wrong step"),
        ({"encoding": "bayer_rggb8", "width": 2, "step": 18}, "image is too small"),
        ({"encoding": "32FC1", "step": 24, "data": np.full(24, np.nan, np.float32).tobytes()}, "image is not finite"),
        ({"encoding": "32FC1", "step": 24, "data": np.full(24, 255.0, np.float32).tobytes()}, "image is out of range"),
        ({"height": 2**16, "width": 2**16, "step": 3 * 2**16}, "image is too large"),
        ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "image is too large"),
    ],
)
def test_images_are_refused(fields: dict[str, Any], cause: str) -> None:
    with pytest.raises(SampleError) as caught:
        image_to_rgb(image(**fields))
    assert caught.value.cause == cause
    assert "\n" not in str(caught.value)


def test_a_larger_limit_lets_larger_images_in() -> None:
    with pytest.raises(SampleError, match="too large"):
        image_to_rgb(image(), max_pixels=23)
    assert image_to_rgb(image(), max_pixels=24).shape == (4, 6, 3)


def test_a_lying_message_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SampleError, match="wrong data size"):
            image_to_rgb(image(encoding="64FC4", height=4000, width=4000, step=4000 * 32))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def flow(field: np.ndarray, **fields: Any) -> SimpleNamespace:
    height, width = field.shape[:2]
    made = {"encoding": "32FC2", "height": height, "width": width, "step": width * 8, "data": field.tobytes()}
    return image(**(made | fields))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_flow_that_is_not_finite_is_refused(value: float) -> None:
    field = np.zeros((5, 7, 2), np.float32)
    assert flow_to_field(flow(field)).shape == (5, 7, 2)
    field[3, 2, 1] = value
    with pytest.raises(SampleError) as caught:
        flow_to_field(flow(field))
    assert caught.value.cause == "flow is not finite"


def test_other_images_are_not_flow() -> None:
    with pytest.raises(SampleError, match="flow is not 32FC2: '32FC1'"):
        flow_to_field(flow(np.zeros((5, 7, 2), np.float32), encoding="32FC1"))
    with pytest.raises(SampleError, match="wrong step"):
        flow_to_field(flow(np.zeros((5, 7, 2), np.float32), step=8))
    with pytest.raises(SampleError, match="too large"):
        flow_to_field(flow(np.zeros((5, 7, 2), np.float32)), max_pixels=34)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"sample_rate": 0}, "audio has no usable sample rate"),
        ({"sample_rate": 999}, "audio has no usable sample rate"),
        ({"sample_rate": 2**32 - 1}, "audio has no usable sample rate"),
        ({"channels": 0}, "audio has no usable number of channels"),
        ({"channels": 2**32 - 1}, "audio has no usable number of channels"),
        ({"channels": 3}, "audio has a wrong size"),
        ({"samples": []}, "audio is empty"),
        ({"samples": [0.0, math.nan]}, "audio is not finite"),
        ({"samples": [0.0, -math.inf]}, "audio is not finite"),
        ({"samples": np.zeros(16000 * 2 * 11, np.float32)}, "audio chunk is too long"),
        ({"samples": None}, "malformed message"),
        ({"samples": ["a", "b"]}, "malformed message"),
        ({"samples": [[0.0], [1.0]]}, "malformed message"),
        ({"channels": None}, "malformed message"),
    ],
)
def test_sound_is_refused(fields: dict[str, Any], cause: str) -> None:
    good = {"sample_rate": 16000, "channels": 2, "samples": array.array("f", [0.1, 0.2, 0.3, 0.4])}
    assert audio_to_chunk(SimpleNamespace(**good))[0].shape == (2, 2)
    with pytest.raises(SampleError) as caught:
        audio_to_chunk(SimpleNamespace(**(good | fields)))
    assert caught.value.cause == cause


# --- anything at all ---

NAMES = ["rgb8", "bgra16", "mono8", "mono16", "bayer_gbrg8", "bayer_rggb16", "yuv422", "yuv422_yuy2", "nv12", "nv21"]
NAMES += ["i420", "8UC3", "8SC1", "16SC4", "32SC1", "32FC2", "32FC3", "64FC1", "8UC", "8UC999", "", "bayer", "rgb8\n"]
COUNTS = st.one_of(st.integers(0, 9), st.integers(0, 40), st.sampled_from([2**16, 2**31, 2**32 - 1]))
ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5))
REDUCED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FULL = settings(REDUCED, max_examples=20_000)


@st.composite
def images(draw: st.DrawFn) -> SimpleNamespace:
    """Messages that are nearly right: sizes fit the data more often than not, then some field is spoilt."""
    height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    pixel = draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 32]))
    step = width * pixel + draw(st.integers(0, 3))
    rows = height if draw(st.booleans()) else height + height // 2
    fields: dict[str, Any] = {
        "encoding": draw(st.one_of(st.sampled_from(NAMES), st.text(max_size=12))),
        "height": height,
        "width": width,
        "step": step,
        "is_bigendian": draw(st.integers(0, 255)),
        "data": draw(st.binary(min_size=rows * step, max_size=rows * step)),
        "format": draw(st.sampled_from(["jpeg", "bayer_rggb8; png compressed", "rgb8; jpeg compressed bgr8", ""])),
    }
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        fields[name] = draw(st.one_of(COUNTS, ANYTHING, st.binary(max_size=40)))
    return SimpleNamespace(**fields)


def check_image(message: SimpleNamespace) -> None:
    for decode in (image_to_rgb, compressed_to_rgb, flow_to_field):
        try:
            sample = decode(message)
        except SampleError as error:
            assert error.cause  # noqa: PT017 - any other exception fails the test by itself
            continue
        channels, dtype = (2, np.float32) if decode is flow_to_field else (3, np.uint8)
        assert sample.dtype == dtype
        if decode is not compressed_to_rgb:
            assert sample.shape == (message.height, message.width, channels)


def check_picture(data: bytes) -> None:
    try:
        rgb = compressed_to_rgb(SimpleNamespace(format="jpeg", data=data), max_pixels=10_000)
    except SampleError:
        return
    assert rgb.dtype == np.uint8
    assert rgb.shape[0] * rgb.shape[1] <= 10_000


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """JPEG and PNG files with some bytes changed, cut out or put in."""
    noise = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    data = bytearray(cv2.imencode(draw(st.sampled_from([".jpg", ".png"])), noise)[1].tobytes())
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 6))] = draw(st.binary(max_size=6))
    return bytes(data)


def check_audio(rate: Any, channels: Any, samples: Any) -> None:
    message = SimpleNamespace(sample_rate=rate, channels=channels, samples=samples)
    try:
        chunk, found = audio_to_chunk(message)
    except SampleError:
        return
    assert chunk.dtype == np.float32
    assert chunk.shape == (len(samples) // channels, channels)
    assert np.isfinite(chunk).all()
    assert found == rate


NUMBERS = st.lists(st.one_of(st.floats(-1, 1), st.floats(), ANYTHING), max_size=12)


@REDUCED
@given(images())
def test_any_image_is_a_sample_or_refused(message: SimpleNamespace) -> None:
    check_image(message)


@REDUCED
@given(pictures())
def test_any_compressed_picture_is_a_sample_or_refused(data: bytes) -> None:
    check_picture(data)


@REDUCED
@given(st.one_of(st.just(16000), COUNTS, ANYTHING), st.one_of(st.integers(1, 3), ANYTHING), NUMBERS)
def test_any_sound_is_a_sample_or_refused(rate: Any, channels: Any, samples: Any) -> None:
    check_audio(rate, channels, samples)


@pytest.mark.full
@FULL
@given(images(), pictures())
def test_any_image_full_count(message: SimpleNamespace, data: bytes) -> None:
    check_image(message)
    check_picture(data)
