# SPDX-License-Identifier: Apache-2.0
"""What is said of bad input: each cause now and then, with how often it came and what to do about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import karmma_ros
from karmma_ros.errors import EngineError, SampleError
from karmma_ros.health import SensorState
from karmma_ros.nodes.faults import REMEDIES, FaultLog

PACKAGE = Path(karmma_ros.__file__).parent
# What raises a SampleError about a message that a node has received.
DECODERS = (
    "audio.py",
    "bridge.py",
    "compressed.py",
    "decode.py",
    "decode_audio.py",
    "decode_detections.py",
    "encodings.py",
    "fields.py",
    "nodes/overlay_node.py",
    "nodes/overlay_view.py",
    "nodes/sensors.py",
)
# Their text says what to do.
SAYS_SO_ITSELF = {
    "audio chunk is too large",
    "audio is compressed",
    "detections came before the size of the image is known",
    "no stamp",
    "stamp in the future",
    "unsupported audio format",
}


def causes(path: Path) -> Iterator[str]:
    """The causes that a module names when it raises a SampleError, literally or by a constant of its own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SampleError":
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)
            elif isinstance(first, ast.Name):
                yield str(constants[first.id])


@pytest.mark.parametrize("module", DECODERS)
def test_every_cause_has_a_remedy(module: str) -> None:
    named = set(causes(PACKAGE / module))
    assert named
    assert named <= REMEDIES.keys() | SAYS_SO_ITSELF


def test_every_remedy_is_for_a_cause_that_there_is() -> None:
    named = {cause for path in PACKAGE.rglob("*.py") for cause in causes(path)}
    assert REMEDIES.keys() <= named | {state.name for state in SensorState} | {EngineError.__name__}
    assert named >= SAYS_SO_ITSELF
    assert not REMEDIES.keys() & SAYS_SO_ITSELF


def test_a_cause_is_said_once_a_period_with_how_often_it_came() -> None:
    lines: list[str] = []
    log = FaultLog(lines.append)
    truncated = SampleError("image is truncated", "JPEG of 9 bytes\nwithout an end")
    said = f"video: image is truncated: JPEG of 9 bytes without an end: {REMEDIES['image is truncated']}"
    for now_s in (100.0, 100.1, 109.9):
        log.report("video", truncated, now_s)
    assert lines == [said]
    log.report("video", truncated, 110.0)
    assert lines == [said, f"{said} (3 times)"]
    log.report("video", truncated, 120.0)
    assert lines[2:] == [said], "counted afresh"
    assert log.counts == {"video: image is truncated": 5}


def test_causes_and_sensors_are_said_apart() -> None:
    lines: list[str] = []
    log = FaultLog(lines.append)
    log.report("video", SampleError("wrong step"), 100.0)
    log.report("video", SampleError("odd size"), 100.0)
    log.report("flow", SampleError("wrong step"), 100.0)
    log.report("worker", ValueError("a surprise"), 100.0)
    log.report("worker", ValueError("another"), 101.0)
    log.state("video", "OCCLUDED", 100.0)
    assert lines == [
        f"video: wrong step: {REMEDIES['wrong step']}",
        f"video: odd size: {REMEDIES['odd size']}",
        f"flow: wrong step: {REMEDIES['wrong step']}",
        "worker: ValueError: a surprise: a mistake of karmma_ros: report it with this line",
        f"video: OCCLUDED: {REMEDIES['OCCLUDED']}",
    ]
