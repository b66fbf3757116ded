# SPDX-License-Identifier: Apache-2.0
"""Which sensors a bundle gets: flow computed inside needs a camera, and a bundle that says how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from node.bench import settings
from node.harness import node_and_robot, value
from toy_bundle import make_toy_bundle

from karmma_ros.bundle import load_bundle
from karmma_ros.errors import UsageError
from karmma_ros.nodes.computed_flow import ComputedFlow
from karmma_ros.nodes.sensor_set import make_sensors


@pytest.mark.parametrize("compute", [True, False])
@pytest.mark.parametrize("modalities", [("video", "flow", "audio"), ("video", "audio"), ("audio",), ("video",)])
def test_bundles_with_a_camera_or_without_flow_have_all_their_sensors(
    tmp_path: Path, modalities: Sequence[str], compute: bool
) -> None:
    """The launch file sets flow.compute for every bundle."""
    bundle = load_bundle(make_toy_bundle(tmp_path / "toy", modalities=modalities))
    sensors = make_sensors(bundle.modalities, settings(flow_compute=compute))
    assert tuple(sensors) == modalities
    assert isinstance(sensors.get("flow"), ComputedFlow) == (compute and "flow" in modalities)


def test_flow_without_a_camera_is_heard_on_its_topic(tmp_path: Path) -> None:
    bundle = load_bundle(make_toy_bundle(tmp_path / "toy", modalities=("flow", "audio")))
    flow = make_sensors(bundle.modalities, settings())["flow"]
    assert (flow.topic, flow.subscribes) == ("flow", True)


def test_flow_that_a_bundle_does_not_explain_cannot_be_computed(toy: Path) -> None:
    modalities = dict(load_bundle(toy).modalities)
    modalities["flow"] = replace(modalities["flow"], producer=None)
    with pytest.raises(UsageError, match=r"not say how its flow was computed: set flow\.compute"):
        make_sensors(modalities, settings(flow_compute=True))
    assert not isinstance(make_sensors(modalities, settings())["flow"], ComputedFlow)


def test_a_node_that_can_compute_no_flow_says_what_to_set(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("flow", "audio"))
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, flow__compute=True) as (process, r):
        status = r.wait_status("the remedy", "action_node", lambda s: s.level == b"\x02")
        assert status.message == (
            "unconfigured: cannot configure: flow.compute is true, but this bundle takes no video to compute it from: "
            "set flow.compute to false (flow_from:=topic in the launch file), and publish the flow on the topic flow"
        )
        assert value(status, "state") == "unconfigured"
        assert "Traceback" not in process.output
