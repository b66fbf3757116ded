# SPDX-License-Identifier: Apache-2.0
"""GFLOPs and memory, against values computed by hand and those of the paper."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from matplotlib.figure import Figure  # noqa: E402

from karmma_ros.cli.main import main  # noqa: E402
from karmma_training.config import Config  # noqa: E402
from karmma_training.evaluation import plots, profile  # noqa: E402
from karmma_training.evaluation.cost import PeakMemory, costs  # noqa: E402
from karmma_training.evaluation.patterns import initials  # noqa: E402
from karmma_training.evaluation.profile import PAPER_GFLOPS, PAPER_GIGABYTES, count, measure  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

HEADS = {"verb": 9, "noun": 7}
CPU = torch.device("cpu")
LATENCIES = ("latency_ms", "latency_online_ms")

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="the paper's backbones need torchvision"
)
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="those of stream need timm")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The pictures that are saved."""
    figures: list[Figure] = []
    save = plots._save

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


@dataclass(frozen=True)
class Measured:
    """What took the place of a measurement: values that grow from one to the next.

    whose: system and modalities of each; rows: what was said of it.
    """

    whose: list[tuple[str, str]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    def measure(
        self, config: Config, heads: dict[str, int], chosen: Sequence[str], runs: int, device: torch.device
    ) -> dict[str, float]:
        """Instead of `measure`."""
        n = len(self.rows) + 1
        self.whose.append((config.system, "+".join(chosen)))
        self.rows.append({"latency_ms": 10.0 * n * runs, "latency_online_ms": n + 0.5, "megabytes": 123.0 * n})
        return dict(self.rows[-1])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """`karmma profile` counts, and measures nothing: at the paper's size that takes minutes."""
    made = Measured()
    monkeypatch.setattr("karmma_training.cli.profile.measure", made.measure)
    return made


def cells(printed: str, sensors: str) -> list[list[str]]:
    """The rows of these sensors in all printed tables, from the second column on."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    return [row[1:] for row in rows if row and row[0] == sensors]


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
    student, teacher = (costs(preset("demo", system), HEADS) for system in ("student", "teacher"))
    assert all(2 * student[name]["megabytes"] <= teacher[name]["megabytes"] for name in student)
    dearer = {name for name in student if 4 * student[name]["gflops"] > teacher[name]["gflops"]}
    assert dearer == {"flow+audio", "audio"}, "what docs/results.md says"


def test_profile_writes_what_it_counts_and_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list[Figure]
) -> None:
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
            assert found["latency_online_ms"] > 0
    printed = capsys.readouterr().out
    assert " ".join(printed.split()).count("timed with something new") == 2
    timed = [f"{report['systems'][s]['V+F+A'][n]:.1f}" for s in ("teacher", "student") for n in LATENCIES]
    assert [cell for row in cells(printed, "V+F+A") for cell in row[-2:]] == timed
    for axis, column, unit in zip(drawn[0].axes, ("gflops", "megabytes"), (1.0, 1e-3), strict=True):
        bars = [bar.get_height() for bars in axis.containers for bar in bars]
        counted = [unit * row[column] for rows in report["systems"].values() for row in rows.values()]
        assert sorted(bars) == pytest.approx(sorted(counted)), "a bar for every subset of both systems"
    assert main([*command, "--heads", "verb"]) == 2
    assert "expected NAME=CLASSES" in capsys.readouterr().err


def test_what_is_timed_is_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample of the window; online one of each sensor, and a fusion that reads learned tokens of the absent."""
    monkeypatch.setattr(profile, "_latency_ms", lambda work, runs, device: profile._gflops(work))
    config = preset("tiny")
    config.audio.spacing_s = 1 / profile.CAMERA_HZ  # something new of it, too, in every prediction
    for chosen, row in count(config, HEADS).items():
        worked = measure(config, HEADS, chosen, 1, CPU)
        assert worked["latency_ms"] == pytest.approx(row["gflops"])
        assert worked["latency_online_ms"] == pytest.approx(row["gflops_online"])


@needs_torchvision
def test_the_papers_preset_is_the_papers_size_and_shown_beside_its_bars(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list[Figure], measured: Measured
) -> None:
    """All fourteen bars of GFLOPs and of memory: counted, or measured, printed, drawn."""
    assert main(["profile", "--preset", "paper", "--runs", "2", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "profile.json").read_text())
    printed = capsys.readouterr().out
    subsets = ["video+flow+audio", "video+flow", "video+audio", "flow+audio", "video", "flow", "audio"]
    assert measured.whose == [(system, subset) for system in ("teacher", "student") for subset in subsets]
    said = iter(measured.rows)
    for system, bars in PAPER_GFLOPS.items():
        rows, gigabytes = report["systems"][system], PAPER_GIGABYTES[system]
        assert {subset: row["gflops"] for subset, row in rows.items()} == pytest.approx(bars, abs=0.1)
        assert (report["paper"]["gflops"][system], report["paper"]["gigabytes"][system]) == (bars, gigabytes)
        for subset, value in bars.items():
            row, own = rows[subset], next(said)
            assert {name: row[name] for name in own} == own
            line = [f"{row['gflops']:.2f}", f"{value:.2f}", f"{own['megabytes'] / 1e3:.3f}", f"{gigabytes[subset]:.3f}"]
            line += [f"{own[name]:.1f}" for name in LATENCIES]
            assert line in [[*row[:2], *row[-4:]] for row in cells(printed, subset)]
    audio = report["systems"]["student"]["A"]
    assert audio["gflops"] + 1 < audio["gflops_deployed"] < audio["gflops"] + 5, "600 learned tokens of video and flow"
    for axis, published, close in zip(drawn[0].axes, (PAPER_GFLOPS, PAPER_GIGABYTES), (True, False), strict=True):
        assert len(axis.lines) == len(axis.containers) == len(published)
        for marks, drawn_bars, (system, bars) in zip(axis.lines, axis.containers, published.items(), strict=True):
            heights = [bar.get_height() for bar in drawn_bars]
            assert drawn_bars.get_label() == system
            np.testing.assert_allclose(marks.get_ydata(), list(bars.values()))
            if close:
                np.testing.assert_allclose(heights, marks.get_ydata(), atol=0.1)
            else:
                rows = report["systems"][system].values()
                np.testing.assert_allclose(heights, [row["megabytes"] / 1e3 for row in rows])
            np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in drawn_bars], marks.get_xdata())


@needs_torchvision
def test_what_the_paper_did_not_measure_is_shown_without_its_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list[Figure]
) -> None:
    command = ["profile", "--preset", "paper", "--runs", "0", "--heads", "action=174", "--out", str(tmp_path)]
    assert main([*command, "--set", "modalities=[flow,detections]"]) == 0
    printed = capsys.readouterr().out
    assert [row[1] for row in cells(printed, "F")] == ["568.00", "176.40"]
    assert [row[1] for row in cells(printed, "F+D") + cells(printed, "D")] == ["-"] * 4
    (axis,) = drawn[0].axes  # nothing was run: no memory to draw
    for marks, bars in zip(axis.lines, PAPER_GFLOPS.values(), strict=True):
        np.testing.assert_array_equal(marks.get_ydata(), [np.nan, bars["F"], np.nan])


@needs_torchvision
@needs_timm
def test_the_streaming_student_is_shown_beside_the_papers_and_costs_a_hundredth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn: list[Figure], measured: Measured
) -> None:
    command = ["profile", "--preset", "stream", "--no-teacher", "--runs", "1", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    systems = json.loads((tmp_path / "profile.json").read_text())["systems"]
    assert list(systems) == ["student", "the paper's student"]
    theirs = {subset: row["gflops"] for subset, row in systems["the paper's student"].items()}
    assert theirs == pytest.approx(PAPER_GFLOPS["student"], abs=0.1)
    ours, papers = (systems[system]["V+F+A"]["gflops_online"] for system in ("student", "the paper's student"))
    assert 100 * ours < papers
    assert ours < 1
    printed, said = capsys.readouterr().out, iter(measured.rows)
    for number, rows in enumerate(systems.values()):
        for subset, row in rows.items():
            own, found = next(said), cells(printed, subset)[number]
            assert {name: row[name] for name in own} == own
            line = [f"{row['gflops_online']:.2f}", f"{own['megabytes'] / 1e3:.3f}"]
            assert [found[2], *found[-3:]] == [*line, *(f"{own[name]:.1f}" for name in LATENCIES)]
    assert next(said, None) is None
    for axis in drawn[0].axes:
        assert [bars.get_label() for bars in axis.containers] == list(systems)
        assert not axis.lines, "the paper's bars are not of this preset"
