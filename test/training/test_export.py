# SPDX-License-Identifier: Apache-2.0
"""Bundles: what is exported is what was trained, or nothing is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")


from rich.console import Console  # noqa: E402

from karmma_ros.bundle import load_bundle  # noqa: E402
from karmma_ros.cli.main import main  # noqa: E402
from karmma_ros.errors import KarmmaError, UsageError  # noqa: E402
from karmma_ros.runtime import Engine  # noqa: E402
from karmma_training.bundle.export import MAX_ERROR, compare  # noqa: E402
from karmma_training.bundle.lineage import Ancestor, from_scratch, lineage  # noqa: E402
from karmma_training.checkpoint import load_model  # noqa: E402
from karmma_training.cli.export import export  # noqa: E402
from karmma_training.config import Config  # noqa: E402
from karmma_training.config_file import apply_overrides, save_config  # noqa: E402
from karmma_training.evaluation.bundle_predictor import BundlePredictor  # noqa: E402
from karmma_training.evaluation.predictor import ModelPredictor  # noqa: E402
from karmma_training.evaluation.report import evaluate  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

if TYPE_CHECKING:
    from fixtures.training import TinyRun


def test_the_engine_agrees_with_pytorch_on_every_graph_and_subset(tiny_run: TinyRun) -> None:
    student, config, *_ = load_model(tiny_run.run)
    engine = Engine(load_bundle(tiny_run.bundle), providers="cpu")
    assert compare(engine, student, config) <= MAX_ERROR
    assert engine.runs["fusion"] == 7, "all seven modality subsets"


@pytest.mark.parametrize("part", ["video", "fusion"])
def test_a_difference_is_refused(tiny_run: TinyRun, part: str) -> None:
    student, config, *_ = load_model(tiny_run.run)
    module = student.fusion if part == "fusion" else student.extractors[part]
    with torch.no_grad():
        list(module.parameters())[-1].add_(1e-2)
    with pytest.raises(KarmmaError, match=f"{part}.onnx"):
        compare(Engine(load_bundle(tiny_run.bundle), providers="cpu"), student, config)


def test_graphs_are_plain_onnx_that_old_runtimes_read(tiny_run: TinyRun) -> None:
    for path in tiny_run.bundle.glob("*.onnx"):
        model = onnx.load(str(path))
        assert model.ir_version == 10
        assert 18 <= model.opset_import[0].version <= 20
        assert all(opset.domain in ("", "ai.onnx") for opset in model.opset_import)
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes(), "no path of the exporting machine"
    assert {p.name for p in tiny_run.bundle.iterdir()} == {
        *("audio.onnx", "bundle.json", "flow.onnx", "fusion.onnx", "video.onnx", "README.md", "training.png")
    }


def test_a_taken_folder_is_left_alone_unless_it_is_to_be_replaced(tiny_run: TinyRun, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "precious.txt").write_text("keep")
    for replace in (False, True):
        with pytest.raises(UsageError, match="exists"):
            export(tiny_run.run, out, replace=replace)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "precious.txt"], "nothing half-written"


def test_a_refused_export_leaves_nothing_behind(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("karmma_training.bundle.export.MAX_ERROR", 0.0)
    with pytest.raises(KarmmaError, match="export refused"):
        export(tiny_run.run, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_bundle_and_run_are_evaluated_alike(tiny_run: TinyRun) -> None:
    student, _, labels, _ = load_model(tiny_run.run)
    bundle = load_bundle(tiny_run.bundle)
    ours = ModelPredictor(student, labels)
    ours.temperature = bundle.temperature
    models = (ours, BundlePredictor(bundle, 1))
    report, other = (evaluate(p, tiny_run.validation[:3], every=7, seed=0, console=Console(quiet=True)) for p in models)
    for part in ("subsets", "patterns"):
        for name, scores in report[part].items():
            assert scores == pytest.approx(other[part][name], abs=1e-3), name
    assert report["dropout_curve"]["mean"] == pytest.approx(other["dropout_curve"]["mean"], abs=1e-3)
    assert report["confusion"] == other["confusion"]
    assert len(report["subsets"]) == 7
    assert set(report["patterns"]) == {"all", "no_camera", "no_flow", "no_audio", "audio_only", "half_frames"}
    assert report["patterns"]["no_camera"] == report["subsets"]["flow+audio"]
    assert report["patterns"]["all"] == report["subsets"]["video+flow+audio"]
    assert sum(report["classes"].values()) == pytest.approx(1, abs=1e-3)


def test_scores_are_calibrated_by_the_temperature_of_each_head(tiny_run: TinyRun) -> None:
    student, _, labels, _ = load_model(tiny_run.run)
    predictor = ModelPredictor(student, labels)

    def error(verb: float, noun: float) -> float:
        """Expected calibration error of the actions' scores."""
        predictor.temperature = {"verb": verb, "noun": noun}
        report = evaluate(predictor, tiny_run.validation[:3], every=7, seed=0, console=Console(quiet=True))
        assert report["temperature"] == predictor.temperature
        return float(report["subsets"]["video+flow+audio"]["ece"])

    usual = error(1.0, 1.0)
    assert error(0.05, 0.05) > usual + 0.2, "much too sure"
    assert len({usual, error(0.05, 1.0), error(1.0, 0.05)}) == 3


def test_the_command_evaluates_a_bundle_as_it_does_its_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    """The settings of the data come from the manifest alone; the temperatures are those fitted on validation."""
    fitted = json.loads((tiny_run.run / "best.json").read_text())["temperature"]
    assert load_bundle(tiny_run.bundle).temperature == fitted
    assert set(fitted.values()) != {1.0}, "something was fitted"
    reports = []
    for target in (tiny_run.run, tiny_run.bundle):
        out = tmp_path / target.name
        command = [
            "evaluate",
            str(target),
            "--split",
            "val",
            "--minutes",
            "0.2",
            "--recording-s",
            "6",
            "--out",
            str(out),
            "--threads",
            "1",
        ]
        assert main([*command, "--data", "tabletop", "--store", str(tiny_run.store)]) == 0
        assert {p.suffix for p in out.iterdir()} == {".json", ".png"}
        reports.append(json.loads((out / "evaluation.json").read_text()))
    run, bundle = reports
    assert run["windows"] == bundle["windows"] > 10
    for name, scores in run["subsets"].items():
        assert scores == pytest.approx(bundle["subsets"][name], abs=2e-2), name


def test_the_model_card_says_what_the_bundle_is(tiny_run: TinyRun, tmp_path: Path) -> None:
    from karmma_training.bundle.model_card import update_evaluation
    from karmma_training.config_file import load_config
    from karmma_training.machine import machine

    card = tmp_path / "README.md"
    shutil.copy(tiny_run.bundle / "README.md", card)
    text = card.read_text()
    precision = load_config(tiny_run.run / "config.yaml").train.precision
    assert f"The student was trained on {machine()}, {precision}." in text
    assert "knows nothing of real kitchens" in text
    assert "| video+flow+audio |" in text
    assert str(tiny_run.run.parent) not in text, "a folder of this machine"
    minutes = f"{tiny_run.config.data.minutes:g} min | 0 | {tiny_run.config.train.epochs} | 0 |"
    assert f"| the teacher | {minutes}" in text
    assert f"| the student | {minutes}" in text
    assert "](training.png)" in text
    report = {"split": "test", "minutes": 1.0, "windows": 9, "command": "karmma evaluate x", "majority_share": 0.1}
    scores = {"action": 0.123, "verb": 0.5}
    for _ in range(2):  # a second evaluation replaces the first
        update_evaluation(card, {**report, "subsets": {"video": scores}})
    assert card.read_text().count("12.3") == 1
    assert json.loads((tiny_run.bundle / "bundle.json").read_text())["licence"] == "Apache-2.0"
    assert np.isfinite(list(json.loads((tiny_run.bundle / "bundle.json").read_text())["temperature"].values())).all()


def test_the_licence_is_ours_only_where_nobody_else_has_a_say() -> None:
    config = preset("tiny")

    def ours(*changes: str) -> bool:
        return from_scratch(Ancestor("a run", Path("run"), apply_overrides(config, list(changes))))

    assert ours()
    assert not ours("video.weights=hub")
    assert not ours("data.source=mine.csv")
    assert not from_scratch(Ancestor("a run that is gone", Path("run"), None))


def test_a_run_is_followed_back_to_what_nothing_came_before(tmp_path: Path) -> None:
    """A student whose teacher's extractors began with those of somebody's data; and one whose extractors are gone."""
    config = preset("tiny", "baseline")

    def run(name: str, *changes: str) -> Config:
        (tmp_path / name).mkdir()
        made = apply_overrides(config, list(changes))
        save_config(made, tmp_path / name / "config.yaml")
        return made

    run("mine", "data.source=mine.csv")
    run("extractors", f"pretrain.extractors={tmp_path}/mine")
    run("teacher", f"pretrain.extractors={tmp_path}/extractors")
    student = run("student", f"distillation.teacher={tmp_path}/teacher", f"pretrain.extractors={tmp_path}/gone")
    runs = lineage(tmp_path / "student", student)
    assert [ancestor.folder.name for ancestor in runs] == ["mine", "extractors", "teacher", "gone", "student"]
    assert [from_scratch(ancestor) for ancestor in runs] == [False, True, True, False, True]
    assert [ancestor.title for ancestor in runs][1:4] == [
        "the teacher's extractors",
        "the teacher",
        "the student's extractors",
    ]


def test_a_run_comes_before_an_installed_bundle_of_its_name(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run.bundle, tmp_path / "share" / "karmma" / "models" / "kitchen")
    (tmp_path / "kitchen").symlink_to(tiny_run.run)
    assert main(["export", "kitchen", "--out", "new"]) == 0, capsys.readouterr().err
    assert load_bundle(tmp_path / "new").name == "new"


def test_a_bundle_behind_a_link_is_replaced_as_often_as_one_likes(tiny_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.bundle, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("one", "two"):
        export(tiny_run.run, tmp_path / "link", name=name, replace=True)
        assert load_bundle(tmp_path / "real").name == name
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
