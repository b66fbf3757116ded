# SPDX-License-Identifier: Apache-2.0
"""The page about all parameters, made from what the nodes declare:

python -m karmma_ros.nodes.parameters_page docs/parameters.md
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from karmma_ros import nodes
from karmma_ros.files import whole_file
from karmma_ros.nodes.declarations import Declaration

__all__ = ["page", "tables"]

_FIRST = "action_node"
_HEAD = """# Parameters

Made from the nodes' declarations by `scripts/parameters_page`; a test keeps it so. *live*: may change while the node
runs. Numbers with a decimal point need it (`5.0`, not `5`). On a robot: `ros2 param describe /action_node NAME`.
Parameter files with every default are in `config/`.

History, depth and reliability of every topic but `/diagnostics` can be overridden, by its name after remapping:
`qos_overrides./camera/image_raw.subscription.reliability: reliable`.
"""


def tables() -> dict[str, Mapping[str, Declaration]]:
    """{node: its table}: `NAME_parameters.py` declares NAME_node's, and `parameters.py` action_node's."""
    found: dict[str, Mapping[str, Declaration]] = {}
    for module in pkgutil.iter_modules(nodes.__path__):
        if module.name == "parameters" or module.name.endswith("_parameters"):
            table = getattr(importlib.import_module(f"{nodes.__name__}.{module.name}"), "PARAMETERS", None)
            if table is not None:
                found[module.name.removesuffix("parameters") + "node" if "_" in module.name else _FIRST] = table
    return dict(sorted(found.items(), key=lambda item: (item[0] != _FIRST, item[0])))


def page() -> str:
    """The page, in Markdown."""
    return _HEAD + "".join(_section(node, table) for node, table in tables().items())


def _section(node: str, table: Mapping[str, Declaration]) -> str:
    rows = [f"| `{name}` | {_default(d)} | {_range(d)} | {_cell(d)} |\n" for name, d in table.items()]
    return f"\n## {node}\n\n| parameter | default | range | |\n|---|---|---|---|\n" + "".join(rows)


def _default(declaration: Declaration) -> str:
    default = declaration.default
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    return f"`{default}`" if default != "" else "empty"


def _range(declaration: Declaration) -> str:
    if declaration.choices:
        return ", ".join(f"`{choice}`" for choice in declaration.choices)
    if declaration.least is None or declaration.most is None:
        return ""
    step = f", by {declaration.step}" if declaration.step else ""
    return f"{_number(declaration.least)} to {_number(declaration.most)}{step}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _cell(declaration: Declaration) -> str:
    notes = [note for note, holds in (("live", declaration.live), ("read-only", declaration.read_only)) if holds]
    return " ".join([*(f"*{note}.*" for note in notes), declaration.description.replace("|", "\\|")])


def main(argv: Sequence[str]) -> int:
    """:param argv: the file to write."""
    with whole_file(Path(argv[0])) as file:
        file.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
