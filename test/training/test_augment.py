# SPDX-License-Identifier: Apache-2.0
"""Augmentation keeps video and flow of a window consistent."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_training.config import AugmentConfig, DropoutConfig
from karmma_training.data.augment import Look, draw_look
from karmma_training.data.labels import Labels
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording
from karmma_training.data.windows import WindowSampler
from karmma_training.presets import preset

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


def across(size: int) -> np.ndarray:
    """Where pixels are: 0 in the middle, half an image to either side.  -> (size,)"""
    return (np.arange(size) - (size - 1) / 2) / size


def places(height: int, width: int) -> np.ndarray:
    """x and y of every pixel.  -> (height, width, 2)"""
    return np.stack(np.meshgrid(across(width), across(height)), -1)


def told(height: int, width: int) -> np.ndarray:
    """An image whose red says x, and whose green says y."""
    x, y = np.moveaxis(places(height, width), -1, 0)
    return np.rint(128 + 240 * np.stack([x, y, 0 * x], -1)).astype(np.uint8)


def part_shown(image: np.ndarray) -> tuple[float, float, float, float]:
    """What became of `told`: factors of x and y, and how far the middle went, x and y."""
    found = []
    for axis in (0, 1):
        where = across(image.shape[1 - axis])
        inner = np.abs(where) < 0.25
        seen = (image[..., axis].astype(float) - 128) / 240
        slope, middle = np.polyfit(where[inner], seen.mean(axis)[inner], 1)
        found.append((1 / slope, -middle / slope))
    (x, right), (y, down) = found
    return x, y, right, down


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_crops_are_zoomed_and_shifted_within_their_bounds_and_reach_them(mirror: float) -> None:
    drawn = looks(scale=0.15, shift=0.1, mirror_p=mirror)
    x, y, right, down = np.transpose([part_shown(look.video(told(144, 192))) for look in drawn])
    np.testing.assert_allclose(x, (1 - 2 * mirror) * y, atol=0.01)  # the aspect stays; colours are rounded
    for values, middle, bound in ((y, 1, 0.15), (right, 0, 0.1), (down, 0, 0.1)):
        away = values - middle
        assert -bound - 0.01 < away.min() < -0.9 * bound
        assert 0.9 * bound < away.max() < bound + 0.01
    assert np.abs(np.corrcoef([y, right, down]) - np.eye(3)).max() < 0.2, "none knows of another"


def test_crops_show_nothing_that_is_not_in_the_picture() -> None:
    """Beyond its edge it goes on as it ends."""
    image, field = np.full((36, 48, 3), 200, np.uint8), np.full((30, 40, 2), 0.5, np.float16)
    edged = told(36, 48)
    for look in looks(scale=0.15, shift=0.1):
        assert (look.video(image) == 200).all()
        np.testing.assert_allclose(look.flow(field), 0.5 * look.scale, rtol=1e-6)
        shown = look.video(edged)[..., :2]
        assert shown.min() >= edged[..., :2].min()
        assert shown.max() <= edged[..., :2].max()
        assert (np.diff(shown[..., 0].astype(int), axis=1) >= 0).all(), "no reflection"


def test_video_and_flow_of_a_window_are_cropped_alike(tmp_path: Path) -> None:
    config = preset("tiny", "baseline")
    config.modalities = ["video", "flow"]
    config.augment, config.dropout = still(scale=0.15, shift=0.1, mirror_p=0.5), DropoutConfig(0, 0, 1)
    stamps = [i * 10**9 // 30 for i in range(60)]
    frames = [(stamp, told(config.video.height, config.video.width)) for stamp in stamps]
    where = places(config.flow.height, config.flow.width)
    meta = {"name": "still", "intervals": [[0.0, 2.0, "a"]]}
    write_recording(
        tmp_path / "r",
        StoreFormat.of(config),
        frames=frames,
        flows=[(stamp, 1 + where) for stamp in stamps],
        sound=None,
        meta=meta,
    )
    recording = StoredRecording(tmp_path / "r", Labels.from_names({"action": ["a"]}, [("a",)]))
    batch = WindowSampler([recording], config, batch=12, seed=0).batch(0)
    shown: dict[int, tuple[float, float, float, float]] = {}
    for place, (image,) in zip(batch.places["video"], batch.samples["video"], strict=True):
        window = int(place) // config.video.slots
        np.testing.assert_allclose(part_shown(image), shown.setdefault(window, part_shown(image)), atol=1e-9)
    assert len({part[:2] for part in shown.values()}) == len(shown) > 10, "each window has its own"
    inner = (np.abs(where) < 0.25).all(-1)
    compared = set()
    for place, (field,) in zip(batch.places["flow"], batch.samples["flow"], strict=True):
        window = int(place) // config.flow.slots
        if window in shown:
            x, y, right, down = shown[window]
            # what was at p goes to factor * p + shift, and so does motion, by the factor: factor * (1 + p)
            expected = where - [right, down] + [x, y]
            np.testing.assert_allclose(field[inner], expected[inner], atol=0.01)
            compared.add(window)
    assert len(compared) > 10


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
