# SPDX-License-Identifier: Apache-2.0
"""One prediction per annotated action: its times, its crops, and what counts where a clip saw nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_training.evaluation.segments import SegmentLogits, _mean, crop_looks, join_segments


def test_clips_that_saw_nothing_do_not_count() -> None:
    logits = np.array([[1, 2], [3, 6], [np.nan, np.nan], [5, 1], [np.nan] * 2, [np.nan] * 2], np.float32)
    found = _mean(logits, 3)
    np.testing.assert_allclose(found[:2], [[2, 4], [5, 1]])
    assert np.isnan(found[2]).all()


def test_crops_go_from_left_to_right_and_keep_to_the_image() -> None:
    assert crop_looks(1) == [None]
    image = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    seen = [look.video(image)[30, [0, -1], 0].astype(int).tolist() for look in crop_looks(3) if look is not None]
    (left, middle, right) = seen
    assert left[0] <= 1 < middle[0] < right[0]
    assert left[1] < middle[1] < 98 <= right[1]


def test_a_process_without_a_share_adds_nothing() -> None:
    full = {"video": SegmentLogits(["a"], {"verb": np.ones((1, 2), np.float32)}, np.array([[1]]))}
    none = {"video": SegmentLogits([], {}, np.zeros((0, 1), np.int64))}
    for parts in ([none, full], [full, none]):
        joined = join_segments(parts)["video"]
        assert (joined.ids, joined.logits["verb"].shape, joined.targets.tolist()) == (["a"], (1, 2), [[1]])
    assert join_segments([none])["video"].ids == []


def test_parts_of_several_processes_are_one() -> None:
    parts = [
        {"video": SegmentLogits([name], {"verb": np.full((1, 2), i, np.float32)}, np.array([[i]]))}
        for i, name in enumerate("ab")
    ]
    joined = join_segments(parts)["video"]
    assert joined.ids == ["a", "b"]
    assert joined.logits["verb"][:, 0].tolist() == [0, 1]
    logits, targets, settled = joined.arrays()
    assert (len(logits["verb"]), targets[:, 0].tolist(), settled.all()) == (2, [0, 1], True)
