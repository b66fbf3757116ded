# SPDX-License-Identifier: Apache-2.0
"""The measurements behind docs/events.md and docs/robustness.md run, and what they count adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, out: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((out / f"{script}.json").read_text())
    return result


def test_events_are_measured_against_the_best_label(tmp_path: Path) -> None:
    result = run("events", tmp_path, "--val", "1", "--test", "1", "--seconds", "24")
    assert set(result["test"]) == {"all sensors", "camera fails", "microphone fails", "either fails in turn"}
    for streams in result["test"].values():
        best, events = streams["best label"], streams["events"]
        assert best["true"] == events["true"] >= 1, "the same truth for both"
        assert best["said"] >= events["said"], "events are debounced"
        for row in (best, events):
            assert 0 <= row["f1"] <= 100
            assert row["false_starts_per_minute"] >= 0
    scores = [row["f1"] for row in result["tried"]]
    assert scores == sorted(scores, reverse=True)
    assert result["settings"] in [row["settings"] for row in result["tried"]], "what ships was among those tried"
    assert (tmp_path / "events.md").read_text().count("\n") == 2 + 2 * len(result["test"])


@pytest.mark.full
def test_gates_are_measured_on_scenes(tmp_path: Path) -> None:
    result = run("gates", tmp_path, "--scenes", "1", "--sequences", "1", "--healthy", "1")
    assert result["delays"]["sequences"] == 1
    assert all(failure["missed"] == 0 for failure in result["delays"]["failures"].values())
    assert set(result["healthy"]["alarms"]) == {"video", "flow", "audio"}
    for ways in result["worth"]["failures"].values():
        assert 0 <= ways["gate off"] <= 1
        assert ways["predictions"] > 0
        assert set(ways["from the begin"]) == {"gate on", "gate off", "sensor left out"}
