# SPDX-License-Identifier: Apache-2.0
"""Preparing images, flow and audio channels; optical flow from images with known motion."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from karmma_ros.errors import SampleError
from karmma_ros.flow import FlowProducer
from karmma_ros.samples import prepare_flow, prepare_image, to_mono

MS = 1_000_000


def texture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth random RGB image."""
    rng = np.random.default_rng(seed)
    noise = rng.random((height // 8 + 2, width // 8 + 2, 3)).astype(np.float32)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image * 255, 0, 255).astype(np.uint8)


def test_an_image_is_averaged_over_areas_and_squashed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    small = prepare_image(image, (4, 4))  # 6 x 10 pixels into one
    assert small.dtype == np.uint8
    means = image.reshape(4, 6, 4, 10, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 1


@pytest.mark.parametrize("source", [(480, 640), (720, 1280), (960, 1280), (1200, 1600)])
def test_the_detour_of_large_images_tells_hardly(source: tuple[int, int]) -> None:
    image = texture(*source)  # about as fine as what is averaged over: worse than any scene
    straight = cv2.resize(image, (96, 72), interpolation=cv2.INTER_AREA).astype(int)
    difference = np.abs(prepare_image(image, (72, 96)) - straight)
    assert 0 < difference.max() <= 6
    assert difference.mean() < 1.0


@pytest.mark.parametrize("source", [(240, 320), (481, 640), (1080, 1920)])
def test_other_images_are_resized_at_once(source: tuple[int, int]) -> None:
    image = texture(*source)
    assert (prepare_image(image, (72, 96)) == cv2.resize(image, (96, 72), interpolation=cv2.INTER_AREA)).all()


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = texture(24, 32)
    assert prepare_image(image, (24, 32)) is image


def test_any_layout_in_memory_gives_the_same_contiguous_image() -> None:
    image = texture(48, 64)
    padded = np.zeros((48, 80, 3), dtype=np.uint8)
    padded[:, 5:69] = image
    for view in (padded[:, 5:69], np.asfortranarray(image), image[..., ::-1][..., ::-1]):
        small = prepare_image(view, (24, 32))
        assert small.flags.c_contiguous
        assert (small == prepare_image(image, (24, 32))).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
    ],
)
def test_what_is_not_an_rgb_image_is_refused(bad: Any) -> None:
    with pytest.raises(SampleError) as caught:
        prepare_image(bad, (2, 2))
    assert caught.value.cause == "image is not RGB uint8"


def test_flow_keeps_its_values_when_resized() -> None:
    flow = np.empty((40, 60, 2), dtype=np.float32)
    flow[..., 0], flow[..., 1] = 0.5, -0.25
    small = prepare_flow(flow, (10, 20))
    assert small.shape == (10, 20, 2)
    assert np.allclose(small, [0.5, -0.25])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_flow_that_is_not_finite_is_refused_wherever_it_is(value: float) -> None:
    flow = np.zeros((40, 60, 2), dtype=np.float32)
    flow[39, 59, 1] = value
    for size in ((10, 20), (40, 60), (50, 70)):
        with pytest.raises(SampleError, match="not finite"):
            prepare_flow(flow, size)


def test_flow_of_another_type_or_shape_is_refused() -> None:
    bads: list[npt.NDArray[Any]] = [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.float64),
        np.zeros((0, 4, 2), np.float32),
    ]
    for bad in bads:
        with pytest.raises(SampleError):
            prepare_flow(bad, (2, 2))


def test_channels_are_averaged_whatever_the_type() -> None:
    stereo = np.array([[0.5, 0.0], [-0.5, -0.25], [0.25, 0.25]])
    expected = [0.25, -0.375, 0.25]
    assert to_mono(stereo).dtype == np.float32
    assert to_mono(stereo).tolist() == expected
    assert to_mono((stereo * 2**15).astype(np.int16)).tolist() == expected
    assert to_mono((stereo * 2**31).astype(np.int32)).tolist() == expected
    assert to_mono((stereo * 128 + 128).astype(np.uint8)).tolist() == expected
    assert to_mono(stereo[:, 0].astype(np.float32)).tolist() == stereo[:, 0].tolist()
    assert to_mono(np.zeros((0, 2), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (np.array([0.0, np.nan]), "audio is not finite"),
        (np.array([0.0, -np.inf]), "audio is not finite"),
        (np.array([0.0, 12_000.0]), "audio is out of range"),
        (np.zeros((2, 2, 2)), "audio is not (samples, channels)"),
        (np.zeros((2, 0)), "audio is not (samples, channels)"),
        (np.zeros(4, np.complex64), "audio has an unsupported type"),
        ([0.0], "audio is not (samples, channels)"),
    ],
)
def test_what_is_not_audio_is_refused_with_its_cause(bad: Any, cause: str) -> None:
    with pytest.raises(SampleError) as caught:
        to_mono(bad)
    assert caught.value.cause == cause


def moved(image: npt.NDArray[Any], dx: float, dy: float) -> npt.NDArray[Any]:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)
    height, width = image.shape[:2]
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("shape", [(240, 320), (480, 640), (360, 640)])
@pytest.mark.parametrize("interval_ms", [20, 40])
def test_flow_is_image_widths_per_second_at_any_resolution_and_rate(shape: tuple[int, int], interval_ms: int) -> None:
    """Accuracy is not asserted beyond 15 %: DIS is what it is; units are."""
    height, width = shape
    velocity = np.array([0.3, -0.2])  # [widths per second]
    shift = velocity * width * interval_ms / 1000
    image: npt.NDArray[Any] = cv2.resize(texture(120, 160), (width, height), interpolation=cv2.INTER_CUBIC)
    producer = FlowProducer((160, 120))
    assert producer.push(0, image) is None
    flow = producer.push(interval_ms * MS, moved(image, *shift))
    assert flow is not None
    assert flow.shape == (120, 160, 2)
    assert flow.dtype == np.float32
    assert np.median(flow[20:-20, 20:-20], axis=(0, 1)) == pytest.approx(velocity, rel=0.15)


def test_flow_needs_two_images_in_order_and_not_too_far_apart() -> None:
    image = texture(120, 160)
    producer = FlowProducer((64, 48))
    assert producer.push(1000 * MS, image) is None
    assert producer.push(1000 * MS, image) is None  # the same stamp
    assert producer.push(1200 * MS, image) is not None
    assert producer.push(1401 * MS, image) is None  # 0.201 s
    assert producer.push(1300 * MS, image) is None  # backwards
    assert producer.push(1330 * MS, image) is not None  # and on from there
    producer.reset()
    assert producer.push(1360 * MS, image) is None


def test_flow_starts_anew_when_the_image_changes_size() -> None:
    producer = FlowProducer((64, 48))
    producer.push(0, texture(120, 160))
    assert producer.push(33 * MS, texture(90, 160)) is None
    assert producer.push(66 * MS, texture(90, 160)) is not None


def test_the_flow_of_a_still_image_is_zero() -> None:
    producer = FlowProducer()
    producer.push(0, texture(240, 320))
    flow = producer.push(33 * MS, texture(240, 320))
    assert flow is not None
    assert np.abs(flow).max() < 1e-3


def test_flow_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="preset"):
        FlowProducer(preset="best")
    with pytest.raises(ValueError, match="16"):
        FlowProducer((8, 8))
    with pytest.raises(SampleError):
        FlowProducer().push(0, np.zeros((4, 4), np.uint8))
