# SPDX-License-Identifier: Apache-2.0
"""docs/parameters.md and the parameter files say what the nodes declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from karmma_ros.nodes.declarations import Declaration, problem
from karmma_ros.nodes.microphone_parameters import PARAMETERS, Settings
from karmma_ros.nodes.parameters_page import page, tables
from karmma_ros.share import share_path

DOCS = Path(__file__).parents[2] / "docs"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested maps as dotted names, as ROS reads them."""
    result: dict[str, Any] = {}
    for key, entry in tree.items():
        result |= flat(entry, f"{prefix}{key}.") if isinstance(entry, dict) else {f"{prefix}{key}": entry}
    return result


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "parameters.md").read_text() == page(), "run scripts/parameters_page"


def test_every_node_with_parameters_is_on_the_page() -> None:
    assert {"action_node", "microphone_node"} <= tables().keys()
    for node, table in tables().items():
        section = page().partition(f"\n## {node}\n")[2].partition("\n## ")[0]
        assert all(f"\n| `{name}` |" in section for name in table)


@pytest.mark.parametrize(("node", "table"), tables().items(), ids=tables())
def test_the_parameter_file_of_a_node_holds_every_parameter_with_its_default(
    node: str, table: Mapping[str, Declaration]
) -> None:
    file = yaml.safe_load(share_path(f"config/{node}.yaml").read_text())
    (given,) = (part["ros__parameters"] for part in file.values())
    assert flat(given) == {name: entry.default for name, entry in table.items()}


def test_settings_of_the_microphone_have_a_field_for_every_parameter() -> None:
    assert {field.name for field in fields(Settings)} == set(PARAMETERS)


@pytest.mark.parametrize(("value", "good"), [("USB", True), (2, True), (-1, False), (2.0, False), (True, False)])
def test_a_device_is_a_text_or_an_index(value: object, good: bool) -> None:
    assert (problem(PARAMETERS, "device", value) == "") is good
