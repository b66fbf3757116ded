# SPDX-License-Identifier: Apache-2.0
"""Which system is trained how: every enhancement is one switch, and a comparison differs in nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

import argparse

from rich.console import Console

from karmma_ros.errors import UsageError
from karmma_training.cli import train as cli
from karmma_training.cli.train import train
from karmma_training.comparison.ablation import CONTRASTS, LARGER_FACTOR, RUNS, comparison, run_config, run_folder
from karmma_training.comparison.measured import check_folders
from karmma_training.config import Config
from karmma_training.config_file import save_config
from karmma_training.presets import as_system, preset


def config_of(*arguments: str) -> Config:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli._config(parser.parse_args(["--out", "/nowhere", "--preset", "tiny", *arguments]))


def differences(a: Config, b: Config) -> dict[str, Any]:
    """{"section.key": b's value} where two configurations differ."""
    left, right = dataclasses.asdict(a), dataclasses.asdict(b)
    out: dict[str, Any] = {}
    for section, value in left.items():
        if isinstance(value, dict):
            out |= {f"{section}.{k}": right[section][k] for k, v in value.items() if v != right[section][k]}
        elif value != right[section]:
            out[section] = right[section]
    return out


@pytest.mark.parametrize(
    ("switch", "changes"),
    [
        ("--no-distillation", {"distillation.teacher": ""}),
        ("--no-modality-dropout", {"dropout.modality_p": 0.0}),
        ("--no-missing-tokens", {"fusion.missing": "masked"}),
        ("--no-token-runs", {"dropout.runs_p": 0.0}),
        ("--no-alone-loss", {"train.alone_weight": 0.0}),
    ],
)
def test_every_enhancement_is_switched_off_alone(switch: str, changes: dict[str, Any]) -> None:
    assert differences(config_of(), config_of(switch)) == changes


def test_the_baselines_are_the_student_with_enhancements_off() -> None:
    student = config_of()
    assert student.distillation.teacher == "own"
    assert differences(student, config_of("--system", "baseline-dropout")) == {"distillation.teacher": ""}
    off = ["--no-distillation", "--no-modality-dropout", "--no-missing-tokens", "--no-token-runs", "--no-alone-loss"]
    assert differences(config_of("--system", "baseline"), config_of(*off)) == {}


def test_a_teacher_is_larger_and_sees_the_same_slots() -> None:
    student, teacher = config_of(), config_of("--system", "teacher")
    assert teacher.system == "teacher"
    for m in student.modalities:
        ours, theirs = student.slots(m), teacher.slots(m)
        assert theirs.dim > 2 * ours.dim
        assert (ours.slots, ours.spacing_s, ours.delay_s) == (theirs.slots, theirs.spacing_s, theirs.delay_s)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "baseline", "--teacher", "runs/t"], None),
        (["--system", "teacher", "--teacher", "runs/t"], "--teacher is for a student"),
        (["--teacher", "runs/t", "--no-distillation"], "--teacher is for a student"),
        (["--set", "distillation.alpha=1.5"], "distillation.alpha must be in"),
        (["--set", "train.device=gpu"], "train.device must be auto or cpu"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], message: str | None) -> None:
    if message is None:  # a baseline with a teacher is a student without the other enhancements
        assert config_of(*arguments).distillation.teacher == "runs/t"
        return
    with pytest.raises(UsageError, match=message):
        config_of(*arguments)


def test_every_run_of_a_comparison_finds_what_it_needs() -> None:
    names = [run.name for run in RUNS]
    assert len(set(names)) == len(names)
    for number, run in enumerate(RUNS):
        assert {run.extractors, run.teacher} - {""} <= set(names[:number]), f"{run.name} comes after what it needs"
    assert {name for _, more, less in CONTRASTS for name in (more, less)} <= set(names)


def test_seeds_train_on_scenes_of_their_own_and_the_larger_set_shares_none(tmp_path: Path) -> None:
    student = comparison("demo")
    by_name = {run.name: run for run in RUNS}

    def scenes(config: Config) -> set[int]:
        d = config.data
        count = -(-round(d.minutes * 60 / d.recording_s) // d.takes)
        return set(range(d.first_scene, d.first_scene + count))

    sets = [scenes(run_config(student, by_name["student"], seed, tmp_path)) for seed in range(3)]
    larger = scenes(run_config(student, by_name["extractors-larger"], 0, tmp_path))
    assert not sets[0] & sets[1]
    assert not sets[1] & sets[2]
    assert not larger & (sets[0] | sets[1] | sets[2])
    assert len(larger) == pytest.approx(LARGER_FACTOR * len(sets[0]), rel=0.01)


def test_systems_of_a_comparison_differ_in_their_ingredient_alone(tmp_path: Path) -> None:
    student = comparison("demo")
    configs = {run.name: run_config(student, run, 1, tmp_path) for run in RUNS}
    teacher = str(run_folder(tmp_path, next(r for r in RUNS if r.name == "teacher"), 1))
    assert differences(configs["baseline-dropout"], configs["student"]) == {"distillation.teacher": teacher}
    assert differences(configs["baseline-dropout"], configs["baseline"]) == {
        "fusion.missing": "masked",
        "dropout.modality_p": 0.0,
    }
    assert differences(configs["baseline-dropout"], configs["baseline-masked"]) == {"fusion.missing": "masked"}
    assert set(differences(configs["student"], configs["student-same"])) == {"distillation.teacher"}
    larger = differences(configs["baseline-dropout"], configs["baseline-dropout-larger"])
    assert set(larger) == {"pretrain.extractors"}


def test_runs_of_another_comparison_are_refused(tmp_path: Path) -> None:
    student = comparison("tiny")
    run = next(r for r in RUNS if r.name == "student")
    folder = run_folder(tmp_path / "before", run, 1)
    folder.mkdir(parents=True)
    save_config(run_config(student, run, 1, tmp_path / "before"), folder / "config.yaml")
    (tmp_path / "before").rename(tmp_path / "runs")
    check_folders(tmp_path / "runs", student, seeds=2)  # the folder may be moved
    student.train.threads = 5
    check_folders(tmp_path / "runs", student, seeds=2)  # and go on with other cores
    student.train.lr *= 2
    check_folders(tmp_path / "runs", student, seeds=1)
    with pytest.raises(UsageError, match=r"seed1 has another train.lr"):
        check_folders(tmp_path / "runs", student, seeds=2)


@pytest.mark.parametrize("name", ["paper", "stream"])
def test_what_the_papers_teacher_freezes_has_been_trained(name: str) -> None:
    pretrain = preset(name, "teacher").pretrain
    assert min(pretrain.video, pretrain.flow, pretrain.audio, pretrain.detections) > 0
    assert preset(name, "student").pretrain.video == 0, "the student is trained end to end"


def test_in_the_papers_preset_modality_dropout_alone_takes_clips_away() -> None:
    config = preset("paper")
    assert (config.dropout.full_share, config.dropout.runs_p) == (1.0, 0.0)
    assert (config.sensors.rate_divisors, config.sensors.loss_p, config.sensors.audio_lag_s) == ([1], 0.0, 0.0)


def test_the_extractors_given_to_a_student_are_not_its_own_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of the student's size; and that they fit is known before the teacher has been trained for hours."""
    made: list[tuple[str, str]] = []

    class StopError(Exception):
        pass

    def trainer(config: Config, *rest: object, **more: object) -> None:
        made.append((config.system, config.pretrain.extractors))
        raise StopError

    monkeypatch.setattr("karmma_training.cli.train.open_recordings", lambda *rest, **more: [])
    monkeypatch.setattr("karmma_training.cli.train.Trainer", trainer)
    monkeypatch.setattr("karmma_training.cli.train.load_extractors", lambda model, run: made.append(("fits", str(run))))
    config = preset("tiny")
    config.pretrain.extractors = "runs/extractors"
    with pytest.raises(StopError):
        train(config, tmp_path / "run", store=tmp_path, console=Console(quiet=True))
    assert made == [("fits", "runs/extractors"), ("teacher", "")]


def test_presets_are_valid() -> None:
    for system in ("student", "teacher", "baseline", "baseline-dropout", "extractors", "student-extractors"):
        for name in ("tiny", "demo"):
            preset(name, system).check()


def test_teachers_and_students_lose_whole_modalities_in_training() -> None:
    shares = [preset("demo", system).dropout.modality_p for system in ("teacher", "student", "baseline-dropout")]
    assert shares == [0.3] * 3
    assert preset("demo", "baseline").dropout.modality_p == 0.0


def test_a_larger_teacher_keeps_the_channels_of_a_network_by_name() -> None:
    grid = ("--set", "video.grid=[3,3]", "--set", "video.tokens=9", "--set", "video.dim=512")
    config = config_of("--system", "teacher", "--set", "video.backbone=torchvision:resnet18", *grid)
    assert config.video.dim == 512
    student = config_of("--set", "video.backbone=torchvision:resnet18", *grid)
    assert as_system(student, "teacher").video.dim == 512
    assert as_system(student, "teacher").flow.dim > student.flow.dim


@pytest.mark.parametrize(
    "setting", ["train.validate_every=0", "train.validate_step=0", "train.clip=0", "seed=-1", "train.lr=0"]
)
def test_settings_that_no_run_could_use_are_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=rf"{setting.partition('=')[0]} must "):
        config_of("--set", setting)
