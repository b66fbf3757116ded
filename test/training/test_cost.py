# SPDX-License-Identifier: Apache-2.0
"""GFLOPs and memory, against values computed by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.cli.main import main  # noqa: E402
from karmma_training.evaluation.cost import PeakMemory, costs  # noqa: E402
from karmma_training.evaluation.patterns import initials  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

HEADS = {"verb": 9, "noun": 7}


def test_peak_memory_is_that_of_the_fullest_moment() -> None:
    with PeakMemory() as memory:
        a = torch.zeros(1000)  # 4000 bytes
        b = a + 1  # 8000
        view = b.reshape(10, 100)  # a view of b
        del b, view  # 4000
        c = a * 2  # 8000
        c.add_(1)
        del a  # 4000
        d = torch.zeros(500)  # 6000
        del c, d
    assert memory.peak == 8000


def test_gflops_of_the_heads_are_two_per_weight() -> None:
    """Twice the hidden width of the heads: what is added is known to the multiply."""
    config = preset("tiny", "baseline-dropout")
    wider = copy.deepcopy(config)
    wider.fusion.head_hidden *= 2
    f, voters, classes = config.fusion, 4, sum(HEADS.values())
    added = 2 * voters * f.head_hidden * (f.width + classes)
    full = "video+flow+audio"
    assert costs(wider, HEADS)[full]["gflops"] - costs(config, HEADS)[full]["gflops"] == pytest.approx(added / 1e9)


def test_an_absent_modality_costs_nothing() -> None:
    student = costs(preset("demo"), HEADS)
    assert len(student) == 7
    assert student["video"]["gflops"] + student["flow"]["gflops"] < student["video+flow"]["gflops"] * 1.05
    assert student["video"]["gflops"] < student["video+audio"]["gflops"] < student["video+flow+audio"]["gflops"]


def test_the_student_costs_a_quarter_of_the_teacher_and_half_its_memory() -> None:
    student, teacher = (costs(preset("demo", system), HEADS)["video+flow+audio"] for system in ("student", "teacher"))
    assert 4 * student["gflops"] <= teacher["gflops"]
    assert 2 * student["megabytes"] <= teacher["megabytes"]


def test_profile_writes_what_it_counts_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["profile", "--preset", "tiny", "--heads", "verb=9", "noun=7", "--runs", "1", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "profile.json").read_text())
    assert report["paper"] is None, "the paper says nothing of this preset"
    expected = {system: costs(preset("tiny", system), HEADS) for system in ("student", "teacher")}
    for system, rows in expected.items():
        for subset, row in rows.items():
            found = report["systems"][system][initials(subset)]
            assert found["gflops"] == pytest.approx(row["gflops"])
            assert found["megabytes"] == pytest.approx(row["megabytes"])
            assert found["gflops_deployed"] >= found["gflops"]
            assert found["latency_ms"] > 0
    assert "deployed" in capsys.readouterr().out
    assert (tmp_path / "profile.png").stat().st_size > 5000
    assert main([*command, "--heads", "verb"]) == 2
    assert "expected NAME=CLASSES" in capsys.readouterr().err
