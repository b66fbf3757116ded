# SPDX-License-Identifier: Apache-2.0
"""The network for boxes: their order does not matter, rows without a box are not seen, and augmentation moves them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.detections import NOTHING  # noqa: E402
from karmma_training.bundle.export import random_boxes  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.augment import plain_look  # noqa: E402
from karmma_training.networks.extractors import DetectionExtractor, build_extractor  # noqa: E402
from karmma_training.presets import preset  # noqa: E402


@pytest.fixture(params=[1, 4], ids=["frames", "clips"])
def extractor(request: pytest.FixtureRequest) -> DetectionExtractor:
    settings = [f"detections.context={request.param}", "detections.tokens=2", "detections.boxes=5"]
    torch.manual_seed(0)
    made = build_extractor("detections", apply_overrides(preset("tiny"), settings)).eval()
    assert isinstance(made, DetectionExtractor)
    return made


def some_boxes(extractor: DetectionExtractor, count: int = 3) -> torch.Tensor:
    shape = (count, extractor.time.shape[0], 5, 6)
    return torch.from_numpy(random_boxes(shape, 2, np.random.default_rng(0)))


def test_the_order_of_boxes_does_not_matter(extractor: DetectionExtractor) -> None:
    boxes = some_boxes(extractor)
    turned = boxes[:, :, torch.tensor([3, 1, 4, 0, 2])]
    torch.testing.assert_close(extractor(boxes), extractor(turned), atol=1e-5, rtol=1e-5)


def test_rows_without_a_box_are_not_seen(extractor: DetectionExtractor) -> None:
    boxes = some_boxes(extractor)
    other = boxes.clone()
    nothing = boxes[..., 5] == NOTHING
    assert nothing.any()
    other[..., :5][nothing] = 7.0
    torch.testing.assert_close(extractor(boxes), extractor(other))
    other[..., 0][~nothing] += 0.2
    assert not torch.allclose(extractor(boxes), extractor(other), atol=1e-3), "others are"


def test_a_frame_without_boxes_is_an_answer(extractor: DetectionExtractor) -> None:
    empty = torch.zeros_like(some_boxes(extractor, 1))
    empty[..., 5] = NOTHING
    tokens = extractor(empty)
    assert torch.isfinite(tokens).all()
    assert tokens.shape[:2] == (1, 2)


def test_category_score_and_time_count(extractor: DetectionExtractor) -> None:
    boxes = some_boxes(extractor)
    for column, change in ((5, lambda v: torch.where(v == NOTHING, v, 1 - v)), (4, lambda v: v * 0.1)):
        other = boxes.clone()
        other[..., column] = change(other[..., column])
        assert not torch.allclose(extractor(boxes), extractor(other), atol=1e-4), column
    if boxes.shape[1] > 1:
        assert not torch.allclose(extractor(boxes), extractor(boxes.flip(1)), atol=1e-4)


def test_augmentation_moves_boxes_with_the_image() -> None:
    boxes = np.array([[0.1, 0.2, 0.3, 0.6, 0.9, 1], [0, 0, 0, 0, 0, NOTHING]], np.float32)
    moved = plain_look(scale=2.0, shift=(0.25, 0.0)).detections(boxes)
    np.testing.assert_allclose(moved[0], [0.0, 0.0, 0.35, 0.7, 0.9, 1], atol=1e-6)
    assert moved[1].tolist() == [0, 0, 0, 0, 0, NOTHING]
    gone = plain_look(shift=(-0.5, 0.0)).detections(boxes)
    assert gone[0].tolist() == [0, 0, 0, 0, 0, NOTHING], "what leaves the image is gone"
    mirrored = type(plain_look())(**{**vars(plain_look()), "mirrored": True}).detections(boxes)
    np.testing.assert_allclose(mirrored[0], [0.7, 0.2, 0.9, 0.6, 0.9, 1], atol=1e-6)
