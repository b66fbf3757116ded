# SPDX-License-Identifier: Apache-2.0
"""flow_node as its own process, heard over DDS."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from node import harness
from node.harness import Robot, node_and_robot, ns_of, start, value
from sensor_msgs.msg import Image

from karmma_msgs.msg import ActionPrediction
from karmma_ros.flow import FlowProducer
from karmma_ros.messages import image_to_msg
from karmma_ros.nodes.camera_flow import CameraFlow
from karmma_ros.nodes.flow_parameters import PARAMETERS, Settings
from karmma_ros.tabletop.sequence import make_sequence

MODULE = "karmma_ros.nodes.flow_node"
STEP_NS = 40_000_000


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Rendered frames, (240, 320, 3)."""
    shown = make_sequence(5, "test", duration_s=2.0).frames()
    return [next(shown) for _ in range(8)]


@pytest.fixture
def robot(tmp_path: Path, ros_env: dict[str, str], toy: Path, request: pytest.FixtureRequest) -> Iterator[Robot]:
    """A robot around a flow_node for the toy bundle; an indirect parameter holds more of the node's parameters."""
    more = getattr(request, "param", {})
    compressed = more.get("image__transport") == "compressed"
    with node_and_robot(tmp_path / "log", ros_env, module=MODULE, compressed=compressed, bundle=toy, **more) as (_, r):
        yield r


def cameras_heard(r: Robot) -> int:
    return r.images.get_subscription_count()


@pytest.mark.parametrize("robot", [{"use_sim_time": True}], indirect=True)
def test_stamps_that_make_no_sense_are_passed_on_while_time_stands_still(
    robot: Robot, frames: list[np.ndarray]
) -> None:
    """Without /clock nothing says that they are far away."""
    heard: list[Image] = robot.listen(Image, "flow")
    robot.wait("the camera to be heard", partial(cameras_heard, robot))
    for number, rgb in enumerate(frames[:4]):
        message = image_to_msg(0, "camera", rgb)
        message.header.stamp.sec, message.header.stamp.nanosec = 2**31 - 1, 10**9 + number * STEP_NS
        before = len(heard)
        robot.images.publish(message)
        if number:
            flow = robot.wait("its flow", lambda seen=before: heard[seen] if len(heard) > seen else None)
            assert flow.header == message.header
        else:
            robot.pause(0.2)


@pytest.mark.parametrize(
    ("robot", "size"),
    [
        ({}, (64, 48)),  # of the toy bundle's manifest
        ({"width": 96, "height": 32}, (96, 32)),
        ({"image__transport": "compressed"}, (64, 48)),
    ],
    indirect=["robot"],
)
def test_fields_are_the_producers_with_the_newer_frames_header(
    robot: Robot, size: tuple[int, int], frames: list[np.ndarray]
) -> None:
    heard: list[Image] = robot.listen(Image, "flow")
    robot.wait("the camera to be heard", partial(cameras_heard, robot))
    producer = FlowProducer(size, "fast")  # as the toy bundle's manifest says
    first = robot.node.get_clock().now().nanoseconds - 10**9
    for index, rgb in enumerate(frames):
        stamp = first + index * STEP_NS
        expected = producer.push(stamp, robot.as_received(rgb))
        robot.send_image(stamp, rgb)
        if expected is None:
            robot.pause(0.2)  # depth 1: it is to be taken before the next
            continue
        message = robot.wait("its flow", partial(of, heard, stamp))
        assert (message.encoding, message.width, message.height) == ("32FC2", *size)
        assert message.header.frame_id == "camera"
        published = np.frombuffer(message.data, np.float32).reshape(expected.shape)
        np.testing.assert_allclose(published, expected * size[0], rtol=1e-5, atol=1e-5)
    assert len(heard) == len(frames) - 1


def of(heard: list[Image], stamp_ns: int) -> Image | None:
    return next((message for message in heard if ns_of(message.header.stamp) == stamp_ns), None)


def test_the_camera_is_heard_only_while_somebody_listens(robot: Robot, frames: list[np.ndarray]) -> None:
    status = robot.wait_status("its status", "flow_node", lambda s: "active" in s.message)
    assert "nobody listens" in status.message
    assert (value(status, "size"), value(status, "preset")) == ("64x48", "fast")
    assert cameras_heard(robot) == 0
    subscription = robot.node.create_subscription(Image, "flow", lambda _: None, 1)
    robot.wait("the camera to be heard", partial(cameras_heard, robot))
    robot.wait_status("the camera's status", "flow_node: video", lambda s: True)
    robot.node.destroy_subscription(subscription)
    robot.wait("the camera no longer to be heard", lambda: cameras_heard(robot) == 0)


def test_a_node_that_is_late_skips_frames_and_queues_none(
    tmp_path: Path, ros_env: dict[str, str], toy: Path, frames: list[np.ndarray]
) -> None:
    with node_and_robot(tmp_path / "log", ros_env, module=MODULE, bundle=toy) as (process, r):
        heard: list[Image] = r.listen(Image, "flow")
        r.wait("the camera to be heard", partial(cameras_heard, r))
        first = r.node.get_clock().now().nanoseconds - 10**9
        process.popen.send_signal(signal.SIGSTOP)
        for index in range(10):
            r.send_image(first + index * STEP_NS, frames[index % len(frames)])
            r.pause(0.02)
        process.popen.send_signal(signal.SIGCONT)
        # Half a second later by their stamps, so that there is no flow from what was before; until one is heard, after
        # which nothing older can come.
        last, sent = first + 10 * STEP_NS + 500_000_000, 0
        while not any(ns_of(message.header.stamp) > last for message in heard):
            assert sent < 50, process.output
            r.send_image(last + sent * STEP_NS, frames[sent % len(frames)])
            sent += 1
            r.pause(0.2)
        status = r.wait_status("its counts", "flow_node", lambda s: value(s, "frames") is not None)
        # The newest of the ten, and one or two that it had in hand when it was stopped or as it woke.
        assert 2 <= int(value(status, "frames") or 0) <= 3 + sent
        assert sum(ns_of(message.header.stamp) < last for message in heard) <= 2


def test_a_flow_node_that_is_killed_is_missed_and_taken_back_when_it_returns(
    tmp_path: Path, ros_env: dict[str, str], toy: Path, frames: list[np.ndarray]
) -> None:
    def play_until(state: str, *, used: bool = False) -> None:
        """Plays the camera until the sensor's state is this one, and what it says is `used`."""
        end_s = time.monotonic() + harness.PATIENCE_S
        while not (
            r.predictions
            and r.predictions[-1].state("flow") == state
            and (not used or r.predictions[-1].modality("flow").coverage > 0)
        ):
            assert time.monotonic() < end_s, f"{state} in vain: {r.predictions[-1:]}"
            r.play(0.2, flow=False, audio=False, pictures=lambda index: frames[index % len(frames)])

    with node_and_robot(tmp_path / "log", ros_env, bundle=toy) as (_, r):
        r.wait_matched(r.images)
        source = start(tmp_path / "first", ros_env, module=MODULE, bundle=toy)
        try:
            play_until("OK")
            source.end(signal.SIGKILL)
            play_until("STALE")
            source = start(tmp_path / "second", ros_env, module=MODULE, bundle=toy)
            play_until("OK", used=True)
            assert source.end() == 0, source.output
        finally:
            source.popen.kill()


@pytest.mark.parametrize("offset_s", [0.5, 0.0, -0.5])
def test_frames_without_a_stamp_give_no_flow_whatever_the_offset(frames: list[np.ndarray], offset_s: float) -> None:
    values = {name.replace(".", "_"): declaration.default for name, declaration in PARAMETERS.items()}
    lines: list[str] = []
    settings = Settings(**(values | {"video_stamp_offset": offset_s}))  # type: ignore[arg-type]
    flow = CameraFlow(FlowProducer((64, 48), "fast"), settings, lines.append)
    for index in range(3):
        assert flow.push(image_to_msg(0, "eye", frames[index]), index / 30, 0) is None
    status = flow.status(0.1)
    assert (status.received, status.rejected, status.last_cause) == (0, 3, "no stamp")
    assert "set it to the time the sample was taken" in lines[0]


def test_action_node_takes_its_flow(tmp_path: Path, ros_env: dict[str, str], robot: Robot, toy: Path) -> None:
    recogniser = start(tmp_path / "action", ros_env, bundle=toy)
    robot.watched = recogniser
    shown = make_sequence(5, "test", duration_s=4.0).frames()
    try:
        robot.wait_matched(robot.images)
        robot.wait("both to hear the camera", lambda: cameras_heard(robot) == 2)
        robot.play(3.0, flow=False, audio=False, pictures=lambda _: next(shown))
        last = robot.wait("predictions", lambda: robot.predictions[-1])
        assert last.message.status == ActionPrediction.OK
        assert last.modality("flow").received >= 30
        assert last.modality("flow").coverage > 0.3  # this machine may be too slow for every frame
    finally:
        assert recogniser.end() == 0


def test_life_cycle_three_times_round(tmp_path: Path, ros_env: dict[str, str], toy: Path) -> None:
    process = start(tmp_path / "log", ros_env, module=MODULE, bundle=toy, autostart=False)
    try:
        with harness.robot(managed="flow_node") as r:
            r.watched = process
            r.listen(Image, "flow")
            for _ in range(3):
                assert r.state() == "unconfigured"
                assert not r.change_state(Transition.TRANSITION_ACTIVATE)
                assert r.change_state(Transition.TRANSITION_CONFIGURE)
                assert r.change_state(Transition.TRANSITION_ACTIVATE)
                r.wait("the camera to be heard", partial(cameras_heard, r))
                assert r.set_parameter("image.rotate", 90) == (True, "")
                assert not r.set_parameter("preset", "slow")[0]
                assert r.change_state(Transition.TRANSITION_DEACTIVATE)
                r.wait("the camera no longer to be heard", lambda: cameras_heard(r) == 0)
                assert r.change_state(Transition.TRANSITION_CLEANUP)
        assert process.end() == 0, process.output
        assert "Traceback" not in process.output
    finally:
        process.popen.kill()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"width": 160}, "set both"), ({"bundle": "nowhere"}, "no bundle named 'nowhere'")],
)
def test_what_cannot_be_is_said_and_can_be_mended(
    tmp_path: Path, ros_env: dict[str, str], parameters: dict[str, object], said: str
) -> None:
    with node_and_robot(tmp_path / "log", ros_env, module=MODULE, **parameters) as (process, r):
        status = r.wait_status("an error", "flow_node", lambda s: s.level == b"\x02")
        assert said in status.message
        assert "Traceback" not in process.output
