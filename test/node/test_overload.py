# SPDX-License-Identifier: Apache-2.0
"""A machine that is too slow predicts for the newest frame, skips the others, and says how many."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from node.harness import assert_increasing, node_and_robot
from node.slow_node import DELAY_S
from toy_bundle import make_toy_bundle


def test_a_slow_machine_skips_frames_and_never_falls_behind(tmp_path: Path, ros_env: dict[str, str]) -> None:
    slow = Path(__file__).with_name("slow_node.py")
    with node_and_robot(tmp_path / "log", ros_env, path=slow, bundle=make_toy_bundle(tmp_path / "toy")) as (_, r):
        r.wait_matched()
        played_before = len(r.play(0.5).frames)
        r.forget()
        played = r.play(3)  # starved for a moment it would skip more, which is what it is about
        r.wait("the newest frame's prediction", lambda: r.predictions[-1].stamp_ns >= played.frames[-1])
        assert_increasing(r.predictions)
        by_camera = [p for p in r.heard(played.start_s, played.end_s) if p.camera]
        assert 3 / DELAY_S / 2 < len(by_camera) <= 3 / DELAY_S + 1
        # A frame waits for the pass before it at most, then takes its own time: the last are as fresh as the first.
        late = [p.message.latency for p in by_camera]
        assert median(late[-5:]) < 2 * max(late[:5])
        last = r.heard(played.start_s, played.end_s)[-1]
        video = last.modality("video")
        assert video.skipped > 40
        # Every frame is accounted for, skipped or not (the last few still wait; a stumble loses some on the way).
        assert played_before + len(played.frames) - 20 <= video.received <= played_before + len(played.frames)
        states = [p.state("video") for p in r.heard(played.start_s, played.end_s)]
        assert states.count("OK") >= 0.9 * len(states)
        # The other sensors still get their turn.
        assert last.modality("audio").coverage > 0.8
        assert last.modality("flow").coverage > 0.15
        status = r.wait_status("a warning", "action_node", lambda s: "too slow" in s.message)
        assert status.level == b"\x01"
