# SPDX-License-Identifier: Apache-2.0
"""`karmma ablate`: a comparison at toy size, interrupted and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.cli.main import main

if TYPE_CHECKING:
    from fixtures.training import TinyRun

SETTINGS = ["data.minutes=0.1", "data.validation_minutes=0.1", "train.epochs=1", "train.validate_every=1"]
SETTINGS += ["pretrain.video=0.1", "pretrain.flow=0.1", "pretrain.audio=0.1", "pretrain.batch=16"]


def test_a_comparison_is_written_and_goes_on_where_it_stopped(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "runs", tmp_path / "docs" / "results.md"
    command = ["ablate", "--preset", "tiny", "--seeds", "2", "--out", str(out), "--report", str(report)]
    command += ["--only", "student,baseline", "--test-minutes", "0.1", "--store", str(tiny_run.store)]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    assert main(command) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "baseline",
        "extractors-larger",
        "extractors-own",
        "student",
        "teacher",
    ], "what is asked for, and what it needs"
    text = report.read_text()
    for part in ("| KARMMA_T | KARMMA_S | Baseline |", "| V+F+A |", "| **area** |", "all three", "GFLOPs"):
        assert part in text
    assert (report.parent / "results-dropout.png").stat().st_size > 10_000
    areas = [
        100 * json.loads((out / "student" / f"seed{seed}" / "evaluation.json").read_text())["dropout_curve"]["area"]
        for seed in range(2)
    ]
    assert f"{sum(areas) / 2:.1f} +- " in text

    (out / "baseline" / "seed1" / "done.json").unlink()  # as if stopped before its end
    record = report.with_suffix(".json")
    kept = json.loads(record.read_text())
    del kept["runs"]["baseline"]["1"]
    record.write_text(json.dumps(kept))
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("last.pt")}
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("last.pt")} == stamps, "nothing is trained again"
    assert (out / "baseline" / "seed1" / "done.json").exists()
    assert report.read_text().splitlines()[:20] == text.splitlines()[:20]

    # on another machine: what is on record is not trained, what a new run needs is
    elsewhere = tmp_path / "elsewhere"
    again = [str(elsewhere) if part == str(out) else part for part in command]
    again[again.index("student,baseline")] = "student,baseline-votes"
    kept = json.loads(record.read_text())["runs"]
    assert main(again) == 0
    assert sorted(p.name for p in elsewhere.iterdir()) == ["baseline-votes", "extractors-own"]
    after = json.loads(record.read_text())["runs"]
    assert after["student"] == kept["student"]
    assert sorted(after["baseline-votes"]) == ["0", "1"]

    # numbers of other settings are not mixed in
    assert main([*again, "--set", "train.lr=0.5"]) == 2
    assert "train.lr (0.003, now 0.5)" in capsys.readouterr().err
