# SPDX-License-Identifier: Apache-2.0
"""The parameter table, and the file that shows it to users."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from node.harness import node_and_robot, value
from toy_bundle import make_toy_bundle

from karmma_ros.content import GateLimits
from karmma_ros.nodes import flow_parameters, overlay_parameters
from karmma_ros.nodes.declarations import problem
from karmma_ros.nodes.parameters import PARAMETERS, Settings
from karmma_ros.share import share_path


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested maps as dotted names, as ROS reads them."""
    result: dict[str, Any] = {}
    for key, entry in tree.items():
        result |= flat(entry, f"{prefix}{key}.") if isinstance(entry, dict) else {f"{prefix}{key}": entry}
    return result


TABLES = {
    "action_node": PARAMETERS,
    "flow_node": flow_parameters.PARAMETERS,
    "overlay_node": overlay_parameters.PARAMETERS,
}


@pytest.mark.parametrize("node", TABLES)
def test_the_parameter_file_holds_every_parameter_with_its_default(node: str) -> None:
    file = yaml.safe_load(share_path(f"config/{node}.yaml").read_text())
    assert flat(file[f"/**/{node}"]["ros__parameters"]) == {name: entry.default for name, entry in TABLES[node].items()}


def test_settings_have_a_field_for_every_parameter() -> None:
    assert {field.name for field in fields(Settings)} == {name.replace(".", "_") for name in PARAMETERS}


@pytest.mark.parametrize(("node", "name"), [(node, name) for node, table in TABLES.items() for name in table])
def test_every_parameter_is_described_and_bounded(node: str, name: str) -> None:
    declaration = TABLES[node][name]
    descriptor = declaration.descriptor()
    assert descriptor.description.endswith(".")
    if isinstance(declaration.default, float):
        assert descriptor.floating_point_range
    elif isinstance(declaration.default, int) and not isinstance(declaration.default, bool):
        assert descriptor.integer_range
    assert problem(TABLES[node], name, declaration.default) == ""


# What each parameter of a gate sets in `GateLimits`, and to what else than its default.
GATES = {
    "occluded.enabled": ("occluded", False),
    "occluded.texture": ("occluded_texture", 0.01),
    "occluded.after": ("occluded_after_s", 1.1),
    "frozen.enabled": ("frozen", False),
    "frozen.after": ("frozen_after_s", 2.1),
    "muted.enabled": ("muted", False),
    "muted.level": ("muted_level", 0.01),
    "muted.after": ("muted_after_s", 3.1),
    "garbage.enabled": ("garbage", False),
    "garbage.roughness": ("garbage_roughness", 0.9),
    "garbage.speed": ("garbage_speed", 30.0),
    "garbage.after": ("garbage_after_s", 4.1),
    "gate_recovery": ("recovery_s", 5.1),
}


def test_every_limit_of_a_gate_has_a_parameter() -> None:
    assert {field for field, _ in GATES.values()} == {field.name for field in fields(GateLimits)}


@pytest.mark.parametrize(
    ("node", "name"), [(node, name) for node in ("action_node", "flow_node") for name in GATES if name in TABLES[node]]
)
def test_a_parameter_of_a_gate_sets_its_own_limit_and_no_other(node: str, name: str) -> None:
    kind = Settings if node == "action_node" else flow_parameters.Settings
    values = {key.replace(".", "_"): declaration.default for key, declaration in TABLES[node].items()}
    field, value = GATES[name]
    limits = kind(**(values | {name.replace(".", "_"): value})).gate_limits()  # type: ignore[arg-type]
    assert limits == replace(GateLimits(), **{field: value})  # type: ignore[arg-type]


def test_the_node_reads_the_parameter_file(tmp_path: Path, ros_env: dict[str, str]) -> None:
    bundle = make_toy_bundle(tmp_path / "toy")
    text = share_path("config/action_node.yaml").read_text().replace("bundle: tabletop", f"bundle: {bundle}")
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("top_k: 5", "top_k: 3"))
    with node_and_robot(tmp_path / "log", ros_env, parameter_file=mine) as (_, r):
        r.wait_matched()
        r.play(0.3)
        r.wait_prediction("three labels", lambda p: len(p.message.actions) == 3)
        status = r.wait_status("its status", "action_node", lambda s: value(s, "bundle") == "toy")
        assert value(status, "providers") == "cpu"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("flow.unit", "knots", "one of pixels_per_second"), ("modalities", ["video", "smell"], "names 'smell'")],
)
def test_a_text_that_is_no_choice_is_refused_with_the_choices(name: str, value: Any, said: str) -> None:
    assert said in problem(PARAMETERS, name, value)
    assert problem(PARAMETERS, "qos_overrides.x", value) == ""
