# SPDX-License-Identifier: Apache-2.0
"""`karmma ablate`: a comparison at toy size, interrupted and continued."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from statistics import stdev
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

import karmma_training.cli.ablate
from karmma_ros.cli.main import main
from karmma_ros.errors import UsageError
from karmma_training.cli.ablate import TEST_MINUTES, _spent, _timed
from karmma_training.comparison.ablation import BY_NAME, comparison, run_config
from karmma_training.comparison.measured import Measured, comparison_settings
from karmma_training.comparison.results import _interval, _student_t, write_results
from karmma_training.presets import PRESETS

if TYPE_CHECKING:
    from fixtures.training import TinyRun

SETTINGS = ["data.minutes=0.1", "data.validation_minutes=0.1", "train.epochs=1", "train.validate_every=1"]
SETTINGS += ["pretrain.video=0.1", "pretrain.flow=0.1", "pretrain.audio=0.1", "pretrain.batch=16"]


def outcome(area: float, full: float) -> dict[str, Any]:
    """A run's record with invented figures: the curve's area, the accuracy with all sensors."""
    subsets = {name: {"action": full, "action_independent": full} for name in ("video+flow+audio", "video")}
    curve = {"p": [0.0, 0.5], "mean": [full, 2 * area - full], "low": [0, 0], "high": [1, 1], "area": area}
    known = {"minutes": 1.0, "windows": 9, "majority_share": 0.1, "heads": {"verb": ["a"], "noun": ["b"]}}
    return {"minutes": 2.0, "machine": "a machine", "evaluation": {**known, "subsets": subsets, "dropout_curve": curve}}


def test_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    student = comparison("tiny")
    areas = {
        "student": [0.60, 0.70, 0.50],
        "baseline-dropout": [0.55, 0.66, 0.44],  # 5, 4 and 6 points below: little, but always
        "baseline": [0.52, 0.68, 0.44],  # 3, -2 and 0 points below: 0.3 +- 2.5
        "baseline-masked": [0.53, 0.69, 0.45],  # a point above it
    }
    runs = {name: {str(i): outcome(a, a + 0.1) for i, a in enumerate(row)} for name, row in areas.items()}
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"settings": comparison_settings(student, 20.0), "runs": runs}))
    measured = Measured(record, comparison_settings(student, 20.0))
    assert measured.gaps("student", "baseline-dropout") == pytest.approx([5, 4, 6])
    write_results(tmp_path / "results.md", measured, student, "karmma ablate")
    text = (tmp_path / "results.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("|")}
    worth = rows["distillation"]
    assert "| +5.0 +- 1.0 | +5.0, +4.0, +6.0 |" in worth
    assert worth.endswith("| yes | +2.5 to +7.5 |")
    tokens = rows["modality dropout and missing tokens"]
    assert "| +0.3 +- 2.5 | +3.0, -2.0, +0.0 |" in tokens
    assert tokens.endswith("| no | -5.9 to +6.6 |")
    assert "| +1.0 +- 0.0 |" in rows["modality dropout alone"]
    assert "Area under the curve, KARMMA_S over Baseline: +5.3 +- 3.1 points." in text
    masked = "Modality dropout alone, with absent tokens masked as in the Baseline, brings +1.0 +- 0.0 of area over it;"
    assert masked in text
    assert "learned tokens in place of masking bring -0.7 +- 2.5." in text
    assert "| KARMMA_S | 3 | 60.0 +- 10.0 | 70.0 |" in text


def test_what_is_kept_without_video_is_said(tmp_path: Path) -> None:
    student = comparison("tiny")
    runs: dict[str, dict[str, Any]] = {}
    for name, without in (("student", 0.6), ("baseline", 0.2)):
        runs[name] = {"0": outcome(0.5, 0.8)}
        runs[name]["0"]["evaluation"]["subsets"]["flow+audio"] = {"action": without, "action_independent": without}
    runs["baseline-masked"] = {"0": outcome(0.4, 0.0)}  # as a run of a moment may be
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"settings": comparison_settings(student, 20.0), "runs": runs}))
    write_results(tmp_path / "results.md", Measured(record, comparison_settings(student, 20.0)), student, "karmma")
    text = (tmp_path / "results.md").read_text()
    assert "| KARMMA_S | 75 | - | - |\n| Baseline | 25 | - | - |\n\n" in text
    assert "KARMMA_S over Baseline: +0.0 (one seed) points." in text


def test_where_the_gain_lies_is_said(tmp_path: Path) -> None:
    student = comparison("tiny")
    accuracy = {  # with all sensors, of the camera alone, of sound alone, through outages
        "student": (0.80, 0.60, 0.31, 0.50),
        "baseline-dropout": (0.70, 0.50, 0.30, 0.40),
        "baseline": (0.73, 0.40, 0.10, 0.42),
    }
    runs: dict[str, dict[str, Any]] = {}
    for name, (full, video, audio, outages) in accuracy.items():
        runs[name] = {"0": outcome(0.5, full)}
        evaluation = runs[name]["0"]["evaluation"]
        for subset, value in (("video", video), ("audio", audio)):
            evaluation["subsets"][subset] = {"action": value, "action_independent": value}
        evaluation["outages"] = {"action": [full, outages]}
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"settings": comparison_settings(student, 20.0), "runs": runs}))
    write_results(tmp_path / "results.md", Measured(record, comparison_settings(student, 20.0)), student, "karmma")
    text = (tmp_path / "results.md").read_text()
    words = "Dropout and tokens bring -3.0 (one seed) points of accuracy where no sensor fails,\n-2.0 (one seed) where"
    assert words in text
    assert "Distillation brings +10.0 (one seed) with the camera among the sensors, +1.0 (one seed) without it" in text


def test_how_a_record_came_about_is_kept_and_told(tmp_path: Path) -> None:
    student = comparison("tiny")
    settings = comparison_settings(student, 20.0)
    measured = Measured(tmp_path / "results.json", settings)
    measured.note = 'some runs on a "second" machine.'
    measured.collect(tmp_path / "runs", 1)
    again = Measured(tmp_path / "results.json", settings)
    write_results(tmp_path / "results.md", again, student, "karmma")
    assert '\n\nHow it came about: some runs on a "second" machine.\n\n' in (tmp_path / "results.md").read_text()


def test_whether_more_training_would_help_is_said(tmp_path: Path) -> None:
    student = comparison("tiny")
    runs: dict[str, dict[str, Any]] = {"student": {}, "baseline": {"0": outcome(0.5, 0.8)}}  # an older record
    for seed, scores in enumerate(([0.5, 0.6], [0.6, 0.6])):
        runs["student"][str(seed)] = outcome(0.5, 0.8) | {"validation": [[2, scores[0]], [4, scores[1]]]}
    runs["student-long"] = {"0": outcome(0.5, 0.8) | {"validation": [[4, 0.61], [8, 0.62]]}}
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"settings": comparison_settings(student, 20.0), "runs": runs}))
    measured = Measured(record, comparison_settings(student, 20.0))
    write_results(tmp_path / "results.md", measured, student, "karmma")
    text = (tmp_path / "results.md").read_text()
    assert "| system | seeds | epoch 2 | epoch 4 | epoch 8 |" in text
    assert "| KARMMA_S | 2 | 55.0 | 60.0 | - |" in text
    assert "| KARMMA_S, twice the epochs | 1 | - | 61.0 | 62.0 |" in text
    assert "| Baseline | 1 | - " not in text


@pytest.mark.parametrize("name", PRESETS)
def test_twice_the_epochs_is_twice_those_of_the_others(name: str, tmp_path: Path) -> None:
    student = comparison(name)
    student.train.epochs += 1  # as somebody may set it
    for long, usual in (("student-long", "student"), ("baseline-dropout-long", "baseline-dropout")):
        configs = [run_config(student, BY_NAME[run], 0, tmp_path) for run in (long, usual)]
        assert configs[0].train.epochs == 2 * configs[1].train.epochs == 2 * student.train.epochs


def test_the_interval_is_students_for_any_number_of_seeds() -> None:
    values = [0.0, 1.0] * 5 + [0.5]  # 11: 10 degrees of freedom, where the quantile is 2.228
    half = 2.228 * stdev(values) / 11**0.5
    assert _interval(values) == f"{0.5 - half:+.1f} to {0.5 + half:+.1f}"
    assert [round(_student_t(n), 2) for n in (9, 10, 14, 30)] == [2.26, 2.23, 2.14, 2.04]


def test_differences_are_of_one_machine(tmp_path: Path) -> None:
    student = comparison("tiny")
    runs = {name: {str(i): outcome(0.5, 0.8) for i in range(3)} for name in ("student", "baseline")}
    runs["student"]["1"]["machine"] = "another machine"
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"settings": comparison_settings(student, 20.0), "runs": runs}))
    measured = Measured(record, comparison_settings(student, 20.0))
    assert len(measured.gaps("student", "baseline")) == 2
    write_results(tmp_path / "results.md", measured, student, "karmma")
    text = (tmp_path / "results.md").read_text()
    assert "on (a) a machine; (b) another machine. " in text
    assert "| KARMMA_S | 2.0 (a), 2.0 (b), 2.0 (a) |" in text


def test_a_record_of_an_older_version_lacks_settings_of_today(tmp_path: Path) -> None:
    settings = comparison_settings(comparison("tiny"), 20.0)
    older = copy.deepcopy(settings)
    del older["detections"], older["video"]["mean"], older["pretrain"]["detections"]
    record = tmp_path / "results.json"
    record.write_text(json.dumps({"settings": older, "runs": {}}))
    Measured(record, settings)
    with pytest.raises(UsageError, match=r"another video\.mean"):
        Measured(record, {**settings, "video": {**settings["video"], "mean": [0.4, 0.4, 0.4]}})


def test_the_record_that_ships_can_be_gone_on_with(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "docs" / "results.json"
    shutil.copy(shipped, tmp_path)
    measured = Measured(tmp_path / "results.json", comparison_settings(comparison("demo"), TEST_MINUTES))
    assert measured.gaps("student", "baseline")


def test_the_minutes_of_all_sessions_count(tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_text('{"minutes": 7.0}')
    with pytest.raises(KeyboardInterrupt), _timed(tmp_path):
        raise KeyboardInterrupt
    assert 7.0 < _spent(tmp_path) < 7.1
    assert _spent(tmp_path / "new") == 0.0


def test_data_whose_test_split_has_no_labels_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(karmma_training.cli.ablate, "open_source", lambda _: SimpleNamespace(name="epic-kitchens-100"))
    assert main(["ablate", "--data", "epic-kitchens-100:somewhere", "--out", str(tmp_path / "runs")]) == 2
    assert "epic-kitchens-100 has no labelled test split" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_data_without_a_test_split_are_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "manifest.csv").write_text(
        "clip_id,split,video,flow,audio,start_s,stop_s,action\na,train,,,a.wav,0,1,wave\nb,val,,,a.wav,0,1,wave\n"
    )
    assert main(["ablate", "--data", str(tmp_path / "manifest.csv"), "--out", str(tmp_path / "runs")]) == 2
    assert "has nothing in split test" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


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
    of_seed = json.loads(report.with_suffix(".json").read_text())["runs"]["student"]["0"]["validation"]
    best = json.loads((out / "student" / "seed0" / "best.json").read_text())
    assert of_seed == [[1, pytest.approx(best["score"], abs=1e-4)]]

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
    again[again.index("--seeds") + 1] = "1"
    again += ["--jobs", "2"]
    kept = json.loads(record.read_text())["runs"]
    assert main(again) == 0
    assert sorted(p.name for p in elsewhere.iterdir()) == ["baseline-votes", "extractors-own"]
    after = json.loads(record.read_text())["runs"]
    assert after["student"] == kept["student"]
    assert sorted(after["baseline-votes"]) == ["0"]

    # numbers of other settings are not mixed in
    assert main([*again, "--set", "train.lr=0.5"]) == 2
    assert "train.lr (0.003, now 0.5)" in capsys.readouterr().err
