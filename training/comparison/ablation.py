# SPDX-License-Identifier: Apache-2.0
"""Which runs a comparison is made of: the paper's systems, ours on top, and controls that give the claim a meaning.

Every system gets the same data, epochs and settings; what differs is in its row here. Students of one seed start from
the same extractors, trained alone on the student's data (stage 0), unless the row says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from karmma_training.config import MODALITIES, Config
from karmma_training.config_file import apply_overrides
from karmma_training.presets import as_system, preset

__all__ = ["BY_NAME", "CONTRASTS", "LARGER_FACTOR", "RUNS", "Run", "comparison", "run_config", "run_folder"]

LARGER_SCENE = 10_000  # first scene of the larger set
STUDENT_SHARE = 6  # the student sees the preset's minutes divided by this
LARGER_FACTOR = 4  # times the student's minutes
PAPER_ONLY = ("dropout.runs_p=0", "train.alone_weight=0")  # none of ours


@dataclass(frozen=True)
class Run:
    """One row.

    system: as on the command line; extractors, teacher: the runs it needs; overrides: settings; larger: trained on the
    larger set, which shares no scene with the student's, once for all seeds; group: which table it is in; about_larger:
    asks what that set is worth, so that without one there is nothing to ask; epochs_factor: times the others' epochs.
    """

    name: str
    title: str
    system: str
    group: str
    extractors: str = ""
    teacher: str = ""
    overrides: tuple[str, ...] = ()
    larger: bool = False
    about_larger: bool = False
    epochs_factor: int = 1

    def own_seed(self, seed: int) -> int:
        """The seed it is trained with in the comparison's `seed`."""
        return 0 if self.larger else seed


RUNS = (
    Run("extractors-larger", "extractors of the teacher, larger set", "extractors", "stage 0", larger=True),
    Run("extractors-own", "extractors of the student", "student-extractors", "stage 0"),
    Run("teacher", "KARMMA_T", "teacher", "paper", "extractors-larger", overrides=PAPER_ONLY),
    Run("student", "KARMMA_S", "student", "paper", "extractors-own", "teacher", PAPER_ONLY),
    Run("baseline-dropout", "Baseline w/ delta", "baseline-dropout", "paper", "extractors-own", overrides=PAPER_ONLY),
    Run("baseline", "Baseline", "baseline", "paper", "extractors-own"),
    Run(
        "student-runs",
        "KARMMA_S, token runs",
        "student",
        "ours",
        "extractors-own",
        "teacher",
        ("train.alone_weight=0",),
    ),
    Run("student-alone", "KARMMA_S, alone loss", "student", "ours", "extractors-own", "teacher", ("dropout.runs_p=0",)),
    Run("student-both", "KARMMA_S, token runs and alone loss", "student", "ours", "extractors-own", "teacher"),
    Run("extractors-same", "extractors of the teacher, the student's data", "extractors", "stage 0", about_larger=True),
    Run(
        "teacher-same",
        "KARMMA_T that saw only the student's data",
        "teacher",
        "control",
        "extractors-same",
        overrides=PAPER_ONLY,
        about_larger=True,
    ),
    Run(
        "student-same",
        "KARMMA_S of the teacher that saw only the student's data",
        "student",
        "control",
        "extractors-own",
        "teacher-same",
        PAPER_ONLY,
        about_larger=True,
    ),
    Run(
        "student-extractors-larger",
        "extractors of the student's size, larger set",
        "student-extractors",
        "stage 0",
        larger=True,
        about_larger=True,
    ),
    Run(
        "baseline-dropout-larger",
        "Baseline w/ delta from extractors of the larger set",
        "baseline-dropout",
        "control",
        "student-extractors-larger",
        overrides=PAPER_ONLY,
        about_larger=True,
    ),
    Run(
        "baseline-larger",
        "Baseline from extractors of the larger set",
        "baseline",
        "control",
        "student-extractors-larger",
        about_larger=True,
    ),
    Run(
        "student-larger",
        "KARMMA_S from extractors of the larger set",
        "student",
        "control",
        "student-extractors-larger",
        "teacher",
        PAPER_ONLY,
        about_larger=True,
    ),
    Run(
        "baseline-masked",
        "Baseline w/ delta, absent tokens masked instead of learned",
        "baseline-dropout",
        "control",
        "extractors-own",
        overrides=(*PAPER_ONLY, "fusion.missing=masked"),
    ),
    Run(
        "baseline-votes",
        "Baseline w/ delta, absent modalities vote",
        "baseline-dropout",
        "control",
        "extractors-own",
        overrides=(*PAPER_ONLY, "fusion.absent_votes=true"),
    ),
    Run(
        "baseline-zeroed",
        "Baseline, absent tokens zeroed, absent modalities vote",
        "baseline",
        "control",
        "extractors-own",
        overrides=("fusion.missing=zeroed", "fusion.absent_votes=true"),
    ),
    Run(
        "baseline-zeroed-silent",
        "Baseline, absent tokens zeroed",
        "baseline",
        "control",
        "extractors-own",
        overrides=("fusion.missing=zeroed",),
    ),
    Run(
        "student-votes",
        "KARMMA_S, absent modalities vote",
        "student",
        "control",
        "extractors-own",
        "teacher",
        (*PAPER_ONLY, "fusion.absent_votes=true"),
    ),
    Run(
        "baseline-whole",
        "Baseline that trained on whole windows alone",
        "baseline",
        "control",
        "extractors-own",
        overrides=(
            "dropout.full_share=1.0",
            "sensors.loss_p=0.0",
            "sensors.rate_divisors=[1]",
            "sensors.rate_weights=[1.0]",
        ),
    ),
    Run(
        "student-long",
        "KARMMA_S, twice the epochs",
        "student",
        "control",
        "extractors-own",
        "teacher",
        PAPER_ONLY,
        epochs_factor=2,
    ),
    Run(
        "baseline-dropout-long",
        "Baseline w/ delta, twice the epochs",
        "baseline-dropout",
        "control",
        "extractors-own",
        overrides=PAPER_ONLY,
        epochs_factor=2,
    ),
)


BY_NAME = {run.name: run for run in RUNS}

# question, run, and the run without the ingredient asked about
CONTRASTS = (
    ("distillation", "student", "baseline-dropout"),
    ("modality dropout and missing tokens", "baseline-dropout", "baseline"),
    ("all three", "student", "baseline"),
    ("a teacher that saw more data", "student", "student-same"),
    ("distillation from a teacher that saw the same data", "student-same", "baseline-dropout"),
    ("the larger set, without a teacher", "baseline-dropout-larger", "baseline-dropout"),
    ("that, against a teacher of the larger set", "baseline-dropout-larger", "student"),
    ("the teacher's size and its frozen extractors, beyond its data", "teacher", "baseline-dropout-larger"),
    ("distillation, students from extractors of the larger set", "student-larger", "baseline-dropout-larger"),
    ("dropout and tokens, students from extractors of the larger set", "baseline-dropout-larger", "baseline-larger"),
    ("modality dropout alone", "baseline-masked", "baseline"),
    ("learned tokens instead of masking", "baseline-dropout", "baseline-masked"),
    ("absent modalities vote, in Baseline w/ delta", "baseline-votes", "baseline-dropout"),
    ("absent modalities vote, in KARMMA_S", "student-votes", "student"),
    ("zeroing instead of masking, in the Baseline", "baseline-zeroed-silent", "baseline"),
    ("zeroed modalities vote, in the Baseline", "baseline-zeroed", "baseline-zeroed-silent"),
    ("zeroing and voting instead of masking, in the Baseline", "baseline-zeroed", "baseline"),
    ("whole windows alone in training, in the Baseline", "baseline-whole", "baseline"),
    ("distillation, with twice the epochs", "student-long", "baseline-dropout-long"),
    ("twice the epochs, KARMMA_S", "student-long", "student"),
    ("twice the epochs, Baseline w/ delta", "baseline-dropout-long", "baseline-dropout"),
    ("token runs (ours)", "student-runs", "student"),
    ("alone loss (ours)", "student-alone", "student"),
    ("both of ours, with a teacher", "student-both", "student"),
)


def run_folder(root: Path, run: Run, seed: int) -> Path:
    """Where a run's folder is."""
    return root / run.name / ("larger" if run.larger else f"seed{seed}")


def comparison(name: str) -> Config:
    """The student's configuration in a comparison: less data than the teacher's extractors have seen, more epochs."""
    config = preset(name)
    config.data.minutes /= STUDENT_SHARE
    config.train.epochs += 3 * config.train.epochs // 2
    for m in MODALITIES:
        setattr(config.pretrain, m, LARGER_FACTOR * getattr(config.pretrain, m))
    return config


def run_config(student: Config, run: Run, seed: int, root: Path) -> Config:
    """The configuration of a run.

    :param student: see `comparison`; its data are those of seed 0, other seeds train on other scenes.
    """
    config = as_system(student, run.system)
    config.seed = run.own_seed(seed)
    if config.data.source == "tabletop":
        d = config.data
        if run.larger:
            d.first_scene, d.minutes = LARGER_SCENE, LARGER_FACTOR * d.minutes
            for m in MODALITIES:  # as many samples as the student's
                setattr(config.pretrain, m, getattr(config.pretrain, m) / LARGER_FACTOR)
        else:
            d.first_scene = seed * math.ceil(d.minutes * 60 / d.recording_s / d.takes)
    if run.extractors:
        config.pretrain.extractors = str(run_folder(root, BY_NAME[run.extractors], seed))
    if run.teacher:
        config.distillation.teacher = str(run_folder(root, BY_NAME[run.teacher], seed))
    config.train.epochs *= run.epochs_factor
    return apply_overrides(config, list(run.overrides))
