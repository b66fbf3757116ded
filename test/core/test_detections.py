# SPDX-License-Identifier: Apache-2.0
"""Boxes as a modality of their own: what the network gets, what is refused, and that they fill slots like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_bundle import BOXES, CATEGORIES, make_toy_bundle

from karmma_ros.bundle import load_bundle
from karmma_ros.detections import NOTHING, prepare_detections
from karmma_ros.errors import SampleError, UsageError
from karmma_ros.recognizer import Recognizer, Status
from karmma_ros.runtime import Engine

T0 = 1_700_000_000_000_000_000


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.asarray(rows, np.float32).reshape(-1, 6)


def test_the_best_boxes_come_first_and_the_rest_is_nothing() -> None:
    found = prepare_detections(boxes((0, 0, 0.5, 0.5, 0.3, 1), (0.1, 0.1, 0.2, 0.2, 0.9, 0)), 3, 2)
    expected = [(0.1, 0.1, 0.2, 0.2, 0.9, 0), (0, 0, 0.5, 0.5, 0.3, 1), (0, 0, 0, 0, 0, NOTHING)]
    np.testing.assert_allclose(found, expected)
    many = boxes(*((0, 0, 1, 1, score / 10, 0) for score in range(10)))
    assert prepare_detections(many, 4, 1)[:, 4].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert (prepare_detections(boxes(), 2, 2)[:, 5] == NOTHING).all(), "nothing found is an answer"
    outside = prepare_detections(boxes((-0.5, 0.2, 1.5, 2.0, 1.2, 0)), 1, 1)
    assert outside[0, :5].tolist() == pytest.approx([0, 0.2, 1, 1, 1])


@pytest.mark.parametrize(
    ("sample", "cause"),
    [
        (np.zeros((2, 5), np.float32), "detections are not float32 boxes of six numbers"),
        (np.zeros((2, 6)), "detections are not float32 boxes of six numbers"),
        (boxes((0, 0, np.nan, 1, 1, 0)), "detections are not finite"),
        (boxes((0, 0, 1, 1, 1, 2)), "detections have a category that the bundle does not know"),
        (boxes((0, 0, 1, 1, 1, 0.5)), "detections have a category that the bundle does not know"),
    ],
)
def test_what_is_no_box_is_refused(sample: np.ndarray, cause: str) -> None:
    with pytest.raises(SampleError) as error:
        prepare_detections(sample, 3, 2)
    assert error.value.cause == cause


def test_boxes_fill_the_window_like_any_other_sample(tmp_path: Path) -> None:
    folder = make_toy_bundle(tmp_path / "toy", modalities=("video", "detections"), window_s=0.5)
    spec = load_bundle(folder).modalities["detections"]
    assert spec.categories == CATEGORIES
    assert spec.input.shape == (1, BOXES, 6)
    robot, engine = Recognizer(folder, providers="cpu"), Engine(load_bundle(folder), "cpu")
    rng = np.random.default_rng(0)
    sent = []
    for i in range(15):
        count = i % 3  # sometimes nothing is found
        found = np.column_stack([rng.random((count, 5)), rng.integers(0, 2, count)]).astype(np.float32)
        sent.append(prepare_detections(found, BOXES, 2))
        assert robot.push("detections", T0 + i * 10**9 // 30, found) == 1
    said = robot.predict(T0 + 14 * 10**9 // 30)
    assert said.status is Status.OK
    assert said.coverages == {"video": 0.0, "detections": 1.0}
    tokens = engine.encode("detections", np.stack(sent[::-1])[:, None]).reshape(1, -1, spec.dim)
    video = engine.bundle.modalities["video"]
    empty = np.zeros((1, video.slots * video.tokens, video.dim), np.float32)
    expected = engine.fuse(
        {"video": empty, "detections": tokens},
        {"video": np.zeros(empty.shape[:2], bool), "detections": np.ones(tokens.shape[:2], bool)},
    )
    for head, values in expected.items():
        np.testing.assert_allclose(said.logits[head], values[0], atol=1e-5)


def test_a_bundle_without_them_says_so(tmp_path: Path) -> None:
    robot = Recognizer(make_toy_bundle(tmp_path / "toy"), providers="cpu")
    with pytest.raises(UsageError, match="no modality 'detections'"):
        robot.push("detections", T0, boxes())
