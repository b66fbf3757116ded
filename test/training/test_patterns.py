# SPDX-License-Identifier: Apache-2.0
"""Which samples arrive when single ones are lost."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_training.evaluation.evaluate import EncodedRecording
from karmma_training.evaluation.patterns import LOST, OUT, OUTAGE_S, loss_patterns, outage_patterns

CONTEXT_S = 0.4
FRAMES = np.arange(3000, dtype=np.int64) * 33_333_333
GRID = np.arange(1, 500, dtype=np.int64) * 200_000_000


@pytest.fixture
def recording() -> EncodedRecording:
    stamps = {"video": FRAMES, "flow": FRAMES[1:], "audio": GRID}
    return EncodedRecording(stamps, {}, FRAMES[:0], np.zeros((0, 2), np.int64), np.zeros(0, bool))


@pytest.mark.parametrize("share", LOST)
def test_a_lost_frame_takes_its_flow_along_and_leaves_the_sound(recording: EncodedRecording, share: float) -> None:
    arrived = loss_patterns(CONTEXT_S, seed=0)["frames", share](recording, 3)
    assert len(arrived["video"]) / len(FRAMES) == pytest.approx(1 - share, abs=0.03)
    assert set(FRAMES[1:][arrived["flow"]]) == set(FRAMES[arrived["video"]]) - {0}
    assert len(arrived["audio"]) == len(GRID)


@pytest.mark.parametrize("share", LOST)
def test_sound_is_heard_where_all_of_its_chunks_are_there(recording: EncodedRecording, share: float) -> None:
    arrived = loss_patterns(CONTEXT_S, seed=0)["sound", share](recording, 3)
    assert len(arrived["video"]) == len(FRAMES)
    # Four chunks make a context, and all of them have to arrive.
    assert len(arrived["audio"]) / len(GRID) == pytest.approx((1 - share) ** 4, abs=0.06)
    # What is heard is heard because of its chunks: neighbours share two of four, so they are heard together more often
    # than by chance.
    heard = np.isin(np.arange(len(GRID)), arrived["audio"])
    both = float(np.mean(heard[1:] & heard[:-1]))
    assert both >= heard.mean() ** 2 or not heard.any()


def test_a_context_that_ends_on_a_chunks_edge_does_not_reach_into_the_next(recording: EncodedRecording) -> None:
    arrived = loss_patterns(0.1, seed=0)["sound", 0.5](recording, 0)  # every context is one chunk
    rng = np.random.default_rng([0, 0, 1])
    lost = rng.random(int(GRID[-1] // 100_000_000) + 1) < 0.5
    assert np.array_equal(arrived["audio"], np.flatnonzero(~lost[GRID // 100_000_000 - 1]))


def test_recordings_lose_other_samples_and_a_seed_loses_the_same(recording: EncodedRecording) -> None:
    pattern = loss_patterns(CONTEXT_S, seed=0)["frames", 0.5]
    assert np.array_equal(pattern(recording, 0)["video"], pattern(recording, 0)["video"])
    assert not np.array_equal(pattern(recording, 0)["video"], pattern(recording, 1)["video"])


@pytest.mark.parametrize("share", OUT)
def test_sensors_come_and_go_for_themselves(recording: EncodedRecording, share: float) -> None:
    arrived = outage_patterns(["video", "flow", "audio"], CONTEXT_S, seed=0)[share](recording, 3)
    there = {m: np.isin(np.arange(len(recording.stamps[m])), arrived[m]) for m in arrived}
    for m in ("video", "flow"):
        assert there[m].mean() == pytest.approx(1 - share, abs=0.1)
        edges = np.flatnonzero(np.diff(there[m].astype(int)))
        lengths_s = np.diff(recording.stamps[m][edges + 1]) * 1e-9
        out_s = lengths_s[~there[m][edges[:-1] + 1]]
        assert (out_s > OUTAGE_S[0] - 0.04).all()
        assert (out_s < OUTAGE_S[1] + 0.04).all()
    together = np.corrcoef(there["video"][1:], there["flow"])[0, 1]
    assert abs(together) < 0.3, "they fail independently"
    # What hears something of an outage is not there: fewer by the context that reaches into each.
    assert 0 < there["audio"].mean() < 1 - share


def test_other_recordings_have_other_outages(recording: EncodedRecording) -> None:
    pattern = outage_patterns(["video"], 0.0, seed=0)[0.5]
    assert np.array_equal(pattern(recording, 0)["video"], pattern(recording, 0)["video"])
    assert not np.array_equal(pattern(recording, 0)["video"], pattern(recording, 1)["video"])
