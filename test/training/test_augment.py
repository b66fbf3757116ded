# SPDX-License-Identifier: Apache-2.0
"""Augmentation keeps video and flow of a window consistent."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_training.config import AugmentConfig
from karmma_training.data.augment import Look, draw_look

GREYS = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)  # (1, 256, 3): every value of every channel


def still(**changes: float) -> AugmentConfig:
    off = ("brightness", "contrast", "colour", "permute_p", "mirror_p", "shift", "scale", "gain_db", "noise_p")
    nothing = dict.fromkeys((*off, "noise_max"), 0.0)
    return AugmentConfig(**{**nothing, **changes})


def test_without_any_change_samples_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    look = draw_look(still(), rng)
    image = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
    field = rng.standard_normal((30, 40, 2)).astype(np.float16)
    sound = rng.uniform(-1, 1, 100).astype(np.float32)
    np.testing.assert_array_equal(look.video(image), image)
    np.testing.assert_array_equal(look.flow(field), field.astype(np.float32))
    np.testing.assert_array_equal(look.sound(sound, rng), sound)


def looks(**changes: float) -> list[Look]:
    rng = np.random.default_rng(0)
    return [draw_look(still(**changes), rng) for _ in range(300)]


def seen(look: Look) -> np.ndarray:
    """What becomes of every value of red, green and blue.  -> (256, 3)"""
    return look.video(GREYS)[0].astype(float)


def test_brightness_adds_the_same_to_everything_within_its_bound() -> None:
    added = []
    for look in looks(brightness=0.2):
        change = (seen(look) - GREYS[0])[60:196]  # what no bound of the range clips: 0.2 of it are 51
        assert (change == change[0, 0]).all()
        added.append(change[0, 0])
    assert -51 <= min(added) < -45
    assert 45 < max(added) <= 51


def test_contrast_stretches_about_the_middle_within_its_bound() -> None:
    factors = []
    for look in looks(contrast=0.3):
        values = seen(look)
        assert (values == values[:, :1]).all(), "all colours alike"
        np.testing.assert_allclose(values[127:129].mean(), 127.5, atol=0.5)
        factors.append((values[168, 0] - values[88, 0]) / 80)
    assert 0.69 < min(factors) < 0.75
    assert 1.25 < max(factors) < 1.31


def test_colour_stretches_each_channel_for_itself_within_its_bound() -> None:
    values = np.stack([seen(look) for look in looks(colour=0.3)])
    np.testing.assert_allclose(values[:, 127:129].mean(1), 127.5, atol=0.5)
    factors = (values[:, 168] - values[:, 88]) / 80  # (looks, 3)
    low, high = factors.min(0), factors.max(0)
    assert ((low > 0.69) & (low < 0.75)).all()
    assert ((high > 1.25) & (high < 1.31)).all()
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.2, "no channel knows of another"


def test_colours_change_nothing_but_pictures() -> None:
    rng = np.random.default_rng(0)
    field = rng.standard_normal((30, 40, 2)).astype(np.float16)
    sound = rng.uniform(-1, 1, 100).astype(np.float32)
    boxes = np.array([[0.1, 0.2, 0.5, 0.6, 0.9, 1]], np.float32)
    image = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
    for look in looks(brightness=0.2, contrast=0.3, colour=0.3)[:5]:
        assert (look.video(image) != image).any()
        np.testing.assert_array_equal(look.flow(field), field.astype(np.float32))
        np.testing.assert_array_equal(look.sound(sound, rng), sound)
        np.testing.assert_array_equal(look.detections(boxes), boxes)


def test_a_mirror_exchanges_the_sides_and_turns_the_motion_round() -> None:
    rng = np.random.default_rng(0)
    look = draw_look(still(mirror_p=1.0), rng)
    image = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
    field = rng.standard_normal((30, 40, 2)).astype(np.float16)
    np.testing.assert_array_equal(look.video(image), image[:, ::-1])
    np.testing.assert_allclose(look.flow(field), field.astype(np.float32)[:, ::-1] * [-1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_flow_of_the_changed_images_is_the_changed_flow(seed: int) -> None:
    """A blob moves; its motion, measured in the augmented images, is what the augmented flow field says."""
    rng = np.random.default_rng(seed)
    look = draw_look(still(mirror_p=0.5, shift=0.06, scale=0.2), rng)
    size, motion = (96, 128), np.array([6.0, -4.0])  # pixels
    centres = []
    for at in (np.array([60.0, 50.0]), np.array([60.0, 50.0]) + motion):
        image = np.zeros((*size, 3), np.uint8)
        cv2.circle(image, at.astype(int).tolist(), 9, (255, 255, 255), -1)
        weights = look.video(image)[..., 0].astype(float)
        y, x = np.mgrid[: size[0], : size[1]]
        centres.append(np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum())
    field = np.full((24, 32, 2), motion / size[1], np.float16)  # widths per frame
    np.testing.assert_allclose(look.flow(field)[12, 16] * size[1], centres[1] - centres[0], atol=0.1)


def test_permuted_channels_are_the_same_colours_in_another_order() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    seen = set()
    for _ in range(40):
        look = draw_look(still(permute_p=1.0), rng)
        out = look.video(image)
        seen.add(look.channels)
        np.testing.assert_array_equal(np.sort(out, axis=2), np.sort(image, axis=2))
    assert len(seen) == 6
