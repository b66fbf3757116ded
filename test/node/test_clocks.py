# SPDX-License-Identifier: Apache-2.0
"""Recordings and simulated time: old stamps, a clock that stands still, a clock that jumps; and compressed images."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from node.harness import Robot, assert_increasing, node_and_robot, picture, time_of, value
from rosgraph_msgs.msg import Clock
from toy_bundle import make_toy_bundle

DAY_S = 86_400.0


def test_days_old_stamps_work_with_one_hint(tmp_path: Path, ros_env: dict[str, str]) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy")) as (process, r):
        r.wait_matched()
        played = r.play_calmly(1.0, age_s=3 * DAY_S)
        camera = [p for p in r.heard(played.start_s, played.end_s) if p.camera]
        assert len(camera) >= 0.9 * len(played.frames)
        assert {p.stamp_ns for p in camera} <= set(played.frames)
        assert max(p.message.latency for p in camera) < 0.5
        gap = r.play_calmly(1.0, age_s=3 * DAY_S, video=False)
        timed = r.heard(gap.start_s + 0.1, gap.end_s)
        assert len(timed) >= 25  # of 27
        assert all(abs(p.stamp_ns - gap.start_ns) < 2e9 for p in timed)
        assert timed[-1].modality("audio").coverage > 0.5
        assert process.output.count("use_sim_time") == 1


@pytest.mark.parametrize("clip", [1, 8], ids=["frames", "clips"])
def test_jpeg_images_work(tmp_path: Path, ros_env: dict[str, str], clip: int) -> None:
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("video",), clip=clip)
    parameters = {"bundle": bundle, "image__transport": "compressed", "image__rotate": 90}
    with node_and_robot(tmp_path / "log", ros_env, compressed=True, **parameters) as (_, r):
        r.wait_matched(r.images)
        pictures = [np.ascontiguousarray(picture(128, 64 * i, height=480, width=640)) for i in range(2)]
        pictures[1][:80] += 10  # more than JPEG forgets
        played = r.play_calmly(1.0, flow=False, audio=False, pictures=lambda index: pictures[index % 2])
        camera = [p for p in r.heard(played.start_s, played.end_s) if p.camera and p.stamp_ns >= played.start_ns]
        assert {p.stamp_ns for p in camera} <= set(played.frames)
        assert len(camera) >= 0.9 * len(played.frames)
        assert camera[-1].modality("video").rejected == 0
        assert camera[-1].modality("video").coverage > 0.8


class SimulatedTime:
    """Publishes /clock at 100 Hz from a start, as a simulator does."""

    def __init__(self, r: Robot, start_s: float) -> None:
        self.robot = r
        self.now_ns = round(start_s * 1e9)

    def run(self, duration_s: float, *, frames: bool, speed: float = 1.0, sound: bool = False) -> list[int]:
        """Lets so much steady time pass; returns the stamps of the frames sent, at 25 Hz of steady time.

        :param speed: seconds of simulated time in one.
        """
        begin_s, begin_ns, sent = time.monotonic(), self.now_ns, []
        for index in range(round(duration_s * 100)):
            pause = begin_s + index / 100 - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            else:
                begin_s -= pause  # a machine that stumbles makes time slower: it does not jump
            self.now_ns = begin_ns + round(index * 10_000_000 * speed)
            self.robot.clock.publish(Clock(clock=time_of(self.now_ns)))
            if frames and index % 4 == 0:
                self.robot.send_image(self.now_ns, picture(50, index))
                sent.append(self.now_ns)
            if sound and index % 10 == 0:
                tone = 0.3 * np.sin(np.arange(round(1600 * speed)) / 6)
                self.robot.send_sound(self.now_ns - round(100_000_000 * speed), tone)
        return sent


def wait_heard(r: Robot) -> None:
    """Without time nothing is predicted, by which one could tell."""
    r.wait("subscribers", lambda: all(p.get_subscription_count() for p in (r.images, r.sounds, r.clock)))


def test_simulated_time_stands_still_and_jumps_back(tmp_path: Path, ros_env: dict[str, str]) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy"), use_sim_time=True) as (
        process,
        r,
    ):
        wait_heard(r)
        simulated = SimulatedTime(r, 1000.0)
        for _ in range(100):  # until both have found each other
            simulated.run(0.1, frames=True)
            if r.predictions:
                break
        sent = simulated.run(1.5, frames=True)
        assert sum(p.stamp_ns in set(sent) for p in r.predictions) > 30

        # No camera: the timer goes on with simulated time...
        begun = len(r.predictions)
        simulated.run(1.0, frames=False)
        r.wait("the timer to be done", lambda: r.predictions[-1].stamp_ns >= simulated.now_ns - 80_000_000)
        assert 22 <= len(r.predictions) - begun <= 28
        # ... and no further. Diagnostics, on steady time, tell when a second has passed.
        begun = len(r.predictions)
        for _ in range(2):
            r.wait_status("a warning", "action_node", lambda s: "the clock stands still" in s.message)
        # So does the watchdog of a sensor.
        r.wait_status("a silent camera", "action_node: video", lambda s: value(s, "state") == "STALE")
        assert len(r.predictions) - begun <= 2
        assert max(p.stamp_ns for p in r.predictions) <= simulated.now_ns
        assert_increasing(r.predictions)

        # Back to the start, as a bag that is played again.
        r.forget()
        simulated = SimulatedTime(r, 1000.0)
        sent = simulated.run(1.0, frames=True)
        again = [p for p in r.predictions if p.stamp_ns in set(sent)]
        assert len(again) > 15
        assert_increasing(again)
        assert again[-1].modality("video").received <= len(sent)
        assert "jumped back" in process.output


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_bag_may_run_slower_or_faster(tmp_path: Path, ros_env: dict[str, str], speed: float) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy"), use_sim_time=True) as (
        _,
        r,
    ):
        wait_heard(r)
        simulated = SimulatedTime(r, 1000.0)
        simulated.run(1.5, frames=True, speed=speed, sound=True)
        r.forget()
        sent = simulated.run(2.0, frames=True, speed=speed, sound=True)
        r.wait("the last frames", lambda: any(p.stamp_ns >= sent[-3] for p in r.predictions))
        camera = {p.stamp_ns: p for p in r.predictions if p.camera}
        assert len(camera.keys() & set(sent)) >= 0.8 * len(sent)
        last = camera[max(camera)]
        assert (last.state("video"), last.state("audio")) == ("OK", "OK")
        # The toy's slots: 30 a second of the data's time for the camera, 10 for sound.
        assert last.modality("video").coverage > 0.8 * min(1.0, 25 / 30 / speed)
        assert last.modality("audio").coverage > 0.7
        # Without a camera the timer keeps its rate in the data's time.
        r.forget()
        simulated.run(1.5, frames=False, speed=speed, sound=True)
        steps = np.diff([p.stamp_ns for p in r.predictions if not p.camera]) / 1e9
        assert len(steps) > 15
        assert np.median(steps) == pytest.approx(0.04 * speed, rel=0.1)
        assert_increasing(r.predictions)


def test_time_that_jumps_forward_leaves_nothing_of_before(tmp_path: Path, ros_env: dict[str, str]) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy"), use_sim_time=True) as (
        _,
        r,
    ):
        wait_heard(r)
        simulated = SimulatedTime(r, 1000.0)
        simulated.run(1.5, frames=True, sound=True)
        before_ns = simulated.now_ns
        simulated.now_ns += 60 * 10**9
        r.forget()
        jumped_ns = simulated.now_ns
        sent = simulated.run(0.3, frames=True, sound=True)
        first = r.wait("a frame after the jump", lambda: next((p for p in r.predictions if p.stamp_ns in sent), None))
        assert first.modality("video").coverage < 0.2
        assert first.modality("audio").coverage < 0.2
        assert not [p for p in r.predictions if before_ns + 5 * 10**8 < p.stamp_ns < jumped_ns - 5 * 10**8]
        simulated.run(1.5, frames=True, sound=True)
        last = r.wait("the last", lambda: r.predictions[-1])
        assert last.modality("video").coverage > 0.6
        assert last.modality("audio").coverage > 0.6
        assert_increasing(r.predictions)
