# SPDX-License-Identifier: Apache-2.0
"""The parameter `providers` at the node: what `auto` passes over is told, what was asked for by name must work."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from lifecycle_msgs.msg import Transition
from node.harness import node_and_robot, value
from toy_bundle import make_toy_bundle

from karmma_msgs.msg import ActionPrediction

CLAIMS_CUDA = Path(__file__).with_name("claims_cuda_node.py")

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)


def test_auto_warns_of_a_provider_that_does_not_prove_itself(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    with node_and_robot(tmp_path / "log", ros_env, path=CLAIMS_CUDA, bundle=bundle) as (process, r):
        status = r.wait_status("its status", "action_node", lambda s: value(s, "bundle") == "toy")
        assert value(status, "providers") == "cpu"
        warnings = [line for line in process.output.splitlines() if "execution provider passed over: cuda: " in line]
        assert len(warnings) == 1
        assert "WARN" in warnings[0]
        r.wait_matched()
        r.play(0.3)
        r.wait_prediction("a prediction", lambda p: p.message.status == ActionPrediction.OK)


@pytest.mark.parametrize("claimed", [False, True], ids=["not built in", "cannot start"])
def test_a_provider_asked_for_by_name_fails_the_transition(
    tmp_path: Path, ros_env: dict[str, str], claimed: bool
) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    path = CLAIMS_CUDA if claimed else None
    with node_and_robot(tmp_path / "log", ros_env, path=path, bundle=bundle, providers="cuda", autostart=False) as (
        process,
        r,
    ):
        assert not r.change_state(Transition.TRANSITION_CONFIGURE)
        assert r.state() == "unconfigured"
        status = r.wait_status("an error", "action_node", lambda s: s.level == b"\x02")
        assert "execution provider cuda" in status.message
        assert "Traceback" not in process.output

        assert r.set_parameter("providers", "auto")[0]
        assert r.change_state(Transition.TRANSITION_CONFIGURE)
        assert r.state() == "inactive"
