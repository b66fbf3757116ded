# SPDX-License-Identifier: Apache-2.0
"""Real kitchen clips, 25 fps with their own sound, played to the node over DDS in real time.

Not asserted: what is predicted. The bundle knows nothing of kitchens; the rate must hold all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from karmma_ros.records import read_records

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"
SECONDS = 7.0


@pytest.mark.parametrize(
    "name",
    [
        "cut_onion",
        pytest.param("pour_milk", marks=pytest.mark.full),
        pytest.param("put_lid", marks=pytest.mark.full),
        pytest.param("scoop_rice", marks=pytest.mark.full),
    ],
)
def test_a_real_clip_is_predicted_at_full_rate(start: Any, name: str) -> None:
    clip = CLIPS / f"{name}.mp4"
    if not clip.is_file():
        pytest.skip("../shared/data/clips is not here")
    demo = start("--video", clip, "--seconds", SECONDS, "--no-overlay")
    assert demo.process.wait(120) == 0, demo.stderr
    summary = json.loads((demo.out / "summary.json").read_text())
    assert summary["overall"]["due"] == round(25 * SECONDS)
    assert summary["overall"]["predictions"] >= 0.99 * summary["overall"]["due"], summary
    records = list(read_records(demo.out / "predictions.jsonl"))
    first = [record for record in records if record.t_s < summary["phases"][0]["end_s"]]
    # A player that the machine holds up for half a period hands the turn to the timer, as it should.
    assert sum(record.trigger == "CAMERA" for record in first) >= 0.95 * len(first)
    assert first[-1].sensors["audio"].state == "OK"
    assert {record.status for record in first} <= {"OK"}
