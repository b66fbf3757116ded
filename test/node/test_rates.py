# SPDX-License-Identifier: Apache-2.0
"""A camera that changes its rate while a node runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from node.harness import Played, Received, assert_increasing, node_and_robot
from toy_bundle import make_toy_bundle

LEARNED = 31  # frames after which a camera's new rate is known (see docs/robustness.md)
BELIEVED = 6  # slow frames after which a camera that had been faster is no longer STALE
TIMEOUT_S = 0.06  # between 60 and 10 Hz, with time to spare on either side


def test_a_live_camera_may_change_its_rate_and_is_predicted_once_a_frame(
    tmp_path: Path, ros_env: dict[str, str]
) -> None:
    def heard(played: Played, since: int) -> list[Received]:
        """What was predicted from a frame on: for it, or after it."""
        begin_ns, period_ns = played.frames[since], played.frames[1] - played.frames[0]
        return [p for p in r.predictions if begin_ns <= p.stamp_ns < played.frames[-1] + period_ns // 2]

    bundle = make_toy_bundle(tmp_path / "toy", modalities=("video",))
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, stale__min_timeout=TIMEOUT_S) as (_, r):
        r.wait_matched(r.images)
        played = [r.play(seconds, rate=rate, flow=False, audio=False) for rate, seconds in ((5, 4), (60, 2), (10, 5))]
        r.wait("the last frame's prediction", lambda: r.predictions[-1].stamp_ns >= played[-1].frames[-1])
        for phase, since in zip(played, (6, 0, LEARNED), strict=True):
            triggered = {p.stamp_ns for p in r.predictions if p.camera}
            # Also while its rate is not known yet. A machine that stumbles may lose a frame or two on the way.
            lost = len(phase.frames) - len(triggered & set(phase.frames))
            assert lost <= 2, "each frame triggers"
            known = heard(phase, since)
            assert len(known) == pytest.approx(len(phase.frames) - since, abs=1)
            assert sum(not p.camera for p in known) <= lost, "the timer stands in for a lost frame, and for no other"
        slow = {p.stamp_ns: p.state("video") for p in r.predictions if p.camera}
        states = [slow[stamp] for stamp in played[-1].frames if stamp in slow]
        assert set(states[1:4]) == {"STALE"}, "slower than the timeout of what it was"
        assert set(states[BELIEVED:]) == {"OK"}
        assert_increasing(r.predictions)
