# SPDX-License-Identifier: Apache-2.0
"""Quality of service by parameter: a mistake in it costs the input, and is told; it does not end the node."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from node.harness import node_and_robot
from sensor_msgs.msg import Image
from toy_bundle import make_toy_bundle

from karmma_msgs.msg import ActionPrediction


def mistyped(folder: Path, topic: str) -> Path:
    path = folder / "mistyped.yaml"
    path.write_text(
        f'/**:\n  ros__parameters:\n    "qos_overrides.{topic}.subscription.reliability": relaible\n', encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(("name", "output"), [("flow_node", "flow"), ("overlay_node", "overlay_node/image")])
def test_a_companion_whose_input_cannot_be_subscribed_says_so_and_lives(
    tmp_path: Path, ros_env: dict[str, str], name: str, output: str
) -> None:
    file = mistyped(tmp_path, "/image")
    module = f"karmma_ros.nodes.{name}"
    with node_and_robot(tmp_path / "log", ros_env, module=module, parameter_file=file) as (process, r):
        r.listen(Image, output)
        r.wait("its complaint", lambda: "cannot subscribe" in process.output)
        assert "relaible" in process.output
        assert "Traceback" not in process.output
        if name == "flow_node":
            status = r.wait_status("an error", name, lambda s: s.level == b"\x02")
            assert "relaible" in status.message
        assert process.popen.poll() is None


def test_a_sensor_switched_on_that_cannot_be_subscribed_leaves_the_others(
    tmp_path: Path, ros_env: dict[str, str]
) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    file = mistyped(tmp_path, "/flow")
    # fmt: off
    with node_and_robot(
        tmp_path / "log", ros_env, parameter_file=file, bundle=bundle, modalities="[video, audio]"
    ) as (process, r):
        # fmt: on
        r.wait_matched(r.images, r.sounds)
        r.set_parameter("modalities", ["video", "flow", "audio"])
        status = r.wait_status("an error", "action_node", lambda s: s.level == b"\x02")
        assert "cannot subscribe" in status.message
        assert "relaible" in status.message
        r.play(0.3, flow=False)
        r.wait_prediction("a prediction", lambda p: p.message.status == ActionPrediction.OK)
        assert "Traceback" not in process.output


def mistyped_output(folder: Path, topic: str) -> Path:
    path = mistyped(folder, topic)
    path.write_text(path.read_text(encoding="utf-8").replace(".subscription.", ".publisher."), encoding="utf-8")
    return path


def test_what_was_made_before_a_mistake_goes_with_it(tmp_path: Path, ros_env: dict[str, str], toy: Path) -> None:
    file = mistyped_output(tmp_path, "/action_node/events")
    with node_and_robot(tmp_path / "log", ros_env, parameter_file=file, bundle=toy, autostart=False) as (process, r):
        for _ in range(3):
            assert not r.change_state(Transition.TRANSITION_CONFIGURE)
        assert "relaible" in process.output
        r.wait("no output", lambda: r.node.count_publishers("/action_node/actions") == 0)


def test_half_of_the_inputs_is_none(tmp_path: Path, ros_env: dict[str, str]) -> None:
    file = mistyped(tmp_path, "/action_node/actions")
    module = "karmma_ros.nodes.overlay_node"
    with node_and_robot(tmp_path / "log", ros_env, module=module, parameter_file=file) as (process, r):
        r.listen(Image, "overlay_node/image")
        r.wait("its complaint", lambda: "cannot subscribe" in process.output)
        r.pause(1.0)  # in which a subscription that was left would be found
        assert r.images.get_subscription_count() == 0
