# SPDX-License-Identifier: Apache-2.0
"""The overlay: what it says is drawn, at every size, and quickly. How it looks is for people to judge."""

from __future__ import annotations

import numpy as np
import pytest

from karmma_ros.overlay import GREEN, RED, PredictionView, draw

VIEW = PredictionView(
    actions=[("slide bottle", 0.87), ("turn flask", 0.06)],
    truth="slide bottle",
    sensors={"video": "OK", "flow": "STALE", "audio": "OK"},
    latency_ms=12.3,
    rate_hz=30.0,
    phase="half of the frames lost",
)
SIZES = [(320, 240), (640, 480), (1920, 1080), (456, 256), (240, 426)]


def frame(size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), (120, 130, 140), np.uint8)


def pixels_like(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=2) < 30).sum())


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_stays_visible_and_the_panels_are_readable(size: tuple[int, int]) -> None:
    before = frame(size)
    after = draw(before, VIEW)
    assert after.shape == before.shape
    assert (before == frame(size)).all(), "the frame itself is left alone"
    height = size[1]
    middle = slice(round(height * 0.3), round(height * 0.6))
    np.testing.assert_array_equal(after[middle], before[middle])
    bottom = after[round(height * 0.85) :]
    assert bottom.mean() < 0.8 * before.mean(), "a dark panel behind the text"
    assert bottom.max() > 220, "bright text on it"


@pytest.mark.parametrize("size", SIZES)
def test_right_is_green_and_wrong_is_red(size: tuple[int, int]) -> None:
    lower = slice(size[1] // 2, None)
    left = slice(None, size[0] // 2)  # the sensors are on the right
    right = draw(frame(size), VIEW)[lower, left]
    wrong = draw(frame(size), PredictionView(actions=VIEW.actions, truth="shake box"))[lower, left]
    assert pixels_like(right, GREEN) > 30
    assert pixels_like(right, RED) == 0
    assert pixels_like(wrong, RED) > 30
    assert pixels_like(wrong, GREEN) == 0


def test_the_score_bar_is_as_long_as_the_score() -> None:
    lengths = []
    for score in (0.25, 0.5, 1.0):
        image = draw(frame((640, 480)), PredictionView(actions=[("pour mug", score)], truth="pour mug"))
        bar = np.abs(image.astype(int) - GREEN).max(axis=2) < 8
        lengths.append(int(bar.sum(axis=1).max()))
    assert lengths[0] * 2 == pytest.approx(lengths[1], abs=3)
    assert lengths[1] * 2 == pytest.approx(lengths[2], abs=3)


def test_a_frame_the_node_never_got_is_dark() -> None:
    seen = draw(frame((640, 480)), PredictionView())
    missed = draw(frame((640, 480)), PredictionView(seen=False))
    assert missed[150:300].mean() < 0.5 * seen[150:300].mean()


def test_every_part_of_the_view_is_drawn() -> None:
    whole = draw(frame((640, 480)), VIEW)
    parts: dict[str, object] = {"actions": (), "truth": None, "sensors": {}, "latency_ms": None, "rate_hz": None}
    parts |= {"phase": None, "sensors": {**VIEW.sensors, "flow": "OK"}}
    for name, value in parts.items():
        changed = PredictionView(**{**vars(VIEW), name: value})  # type: ignore[arg-type]
        assert (draw(frame((640, 480)), changed) != whole).any(), name


def test_a_name_of_any_length_stays_in_its_place() -> None:
    view = PredictionView(actions=[("a very long name " * 20, 0.5)], truth="and another " * 30, sensors=VIEW.sensors)
    image = draw(frame((320, 240)), view)
    same = draw(frame((320, 240)), PredictionView(actions=[("a", 0.5)], truth="a", sensors=VIEW.sensors))
    np.testing.assert_array_equal(image[:, -85:], same[:, -85:])  # the sensors are not written over
