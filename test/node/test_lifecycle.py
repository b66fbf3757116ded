# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping and failing to: the node's life cycle, as its own process, seen through its services."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import wait_until
from hanging_bundle import make_hanging_bundle
from lifecycle_msgs.msg import Transition
from node.harness import assert_increasing, node_and_robot, start, value
from sensor_msgs.msg import Image
from toy_bundle import make_toy_bundle

from karmma_msgs.msg import ActionPrediction
from karmma_ros.nodes.deadline import END_S


def computing_s(pid: int) -> float:
    """[s] of a core that a process's busiest thread has used."""
    most = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # a thread that has just ended
            most = max(most, int(stat.read_text().rpartition(")")[2].split()[11]))
    return most / os.sysconf("SC_CLK_TCK")


def test_life_cycle_ten_times_round(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, autostart=False) as (_, r):
        for _ in range(10):
            assert r.state() == "unconfigured"
            assert r.change_state(Transition.TRANSITION_CONFIGURE)
            assert r.change_state(Transition.TRANSITION_ACTIVATE)
            r.wait_prediction("a prediction", lambda p: True)
            assert r.change_state(Transition.TRANSITION_DEACTIVATE)
            silent_after = len(r.predictions)
            assert r.change_state(Transition.TRANSITION_CLEANUP)
            assert len(r.predictions) <= silent_after + 1  # one may have been on its way
        assert_increasing(r.predictions)
        assert r.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert r.state() == "finalized"


def test_an_invalid_transition_is_answered_and_survived(tmp_path: Path, ros_env: dict[str, str]) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy")) as (_, r):
        r.wait_prediction("a prediction", lambda p: True)
        assert not r.change_state(Transition.TRANSITION_ACTIVATE)
        assert not r.change_state(Transition.TRANSITION_CONFIGURE)
        assert not r.change_state(250)
        assert r.state() == "active"
        r.wait_prediction("a prediction after that", lambda p: True)


def test_a_broken_bundle_leaves_the_node_alive_and_can_be_mended(tmp_path: Path, ros_env: dict[str, str]) -> None:
    good = make_toy_bundle(tmp_path / "good")
    broken = shutil.copytree(good, tmp_path / "broken")
    (broken / "fusion.onnx").write_bytes(b"not a graph")
    with node_and_robot(tmp_path / "log", ros_env, bundle=broken) as (process, r):
        status = r.wait_status("an error", "action_node", lambda s: s.level == b"\x02")
        assert "fusion.onnx" in status.message
        assert value(status, "state") == "unconfigured"
        assert r.state() == "unconfigured"
        assert not r.change_state(Transition.TRANSITION_CONFIGURE)
        assert process.output.count("cannot configure") == 2
        assert "Traceback" not in process.output

        shutil.copy(good / "fusion.onnx", broken)  # the same folder, mended
        assert r.change_state(Transition.TRANSITION_CONFIGURE)
        assert r.change_state(Transition.TRANSITION_ACTIVATE)
        r.wait_matched()
        r.play(0.3)
        r.wait_prediction("a prediction", lambda p: p.message.status == ActionPrediction.OK)
        r.wait_status("no error", "action_node", lambda s: s.level != b"\x02")

        # Another bundle, by cleanup and configure.
        other = make_toy_bundle(tmp_path / "other", name="other", modalities=("video",), seed=5)
        assert r.set_parameter("bundle", str(other))[0]
        for transition in ("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE"):
            assert r.change_state(getattr(Transition, f"TRANSITION_{transition}"))
        prediction = r.wait_prediction("the other bundle", lambda p: p.message.bundle == "other")
        assert [m.name for m in prediction.message.modalities] == ["video"]
        r.wait("the other labels", lambda: r.labels and r.labels[-1].bundle == "other")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(tmp_path: Path, ros_env: dict[str, str], sent: signal.Signals) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_toy_bundle(tmp_path / "toy")) as (process, r):
        r.wait_matched()
        r.play(0.3)
        process.end_in_time(sent)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_bundle_is_loaded_ends_the_node(
    tmp_path: Path, ros_env: dict[str, str], sent: signal.Signals
) -> None:
    """The main thread is within ONNX Runtime, where no handler of a signal runs."""
    with node_and_robot(tmp_path / "usual", ros_env, bundle=make_toy_bundle(tmp_path / "toy")) as (usual, r):
        r.wait_prediction("a prediction", lambda p: True)
        start_s = computing_s(usual.popen.pid)
    process = start(tmp_path / "log", ros_env, bundle=make_hanging_bundle(tmp_path / "hangs", always=True))
    wait_until(lambda: computing_s(process.popen.pid) > 2 * start_s, 60)
    process.end_in_time(sent)
    assert f"not done {END_S} s after {sent.name}" in process.output


def test_a_signal_while_an_inference_does_not_return_ends_the_node(tmp_path: Path, ros_env: dict[str, str]) -> None:
    with node_and_robot(tmp_path / "log", ros_env, bundle=make_hanging_bundle(tmp_path / "hangs", always=False)) as (
        process,
        r,
    ):
        r.wait_matched(r.images)
        r.play(0.3, flow=False, audio=False)
        r.wait("a prediction", lambda: any(p.message.status == ActionPrediction.OK for p in r.predictions))
        white = np.full((48, 64, 3), 255, np.uint8)
        r.play(0.5, flow=False, audio=False, pictures=lambda _: white)
        last = len(r.predictions)
        r.play(0.5, flow=False, audio=False)
        assert len(r.predictions) == last, "the worker is within ONNX Runtime"
        process.end_in_time(signal.SIGTERM)
        assert f"not done {END_S} s after SIGTERM" in process.output


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("name", "output"), [("flow_node", "flow"), ("overlay_node", "overlay_node/image")])
def test_signals_end_the_companions_cleanly(
    tmp_path: Path, ros_env: dict[str, str], name: str, output: str, sent: signal.Signals
) -> None:
    with node_and_robot(tmp_path / "log", ros_env, module=f"karmma_ros.nodes.{name}") as (process, r):
        pictures = r.listen(Image, output)
        r.wait("the camera to be heard", r.images.get_subscription_count)
        r.play(0.3, flow=False, audio=False)
        r.wait("what it makes of the camera", lambda: pictures)
        process.end_in_time(sent)


@pytest.mark.parametrize(
    ("parameter", "given", "expected"),
    [
        ("max_rate", "10", "max_rate"),
        ("top_k", "0", "top_k"),
        ("flow__unit", "knots", "flow.unit"),
        ("top_k", "2.5", "top_k"),
    ],
)
def test_a_wrong_parameter_is_one_line(
    tmp_path: Path, ros_env: dict[str, str], parameter: str, given: str, expected: str
) -> None:
    process = start(tmp_path / "log", ros_env, **{parameter: given})
    assert process.popen.wait(60) == 2
    # Fast DDS complains of what other processes on this machine left behind when they were killed.
    lines = [line for line in process.output.splitlines() if line.strip() and "RTPS_" not in line]
    assert len(lines) == 1
    assert f"parameter {expected}" in lines[0]
