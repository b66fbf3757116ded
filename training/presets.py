# SPDX-License-Identifier: Apache-2.0
"""Ready-made configurations: a preset says how large, a system says what is trained and how (paper.md's systems)."""

from __future__ import annotations

import copy

from karmma_ros.errors import UsageError
from karmma_training.config import (
    AudioConfig,
    Config,
    DataConfig,
    FlowConfig,
    FusionConfig,
    PretrainConfig,
    TrainConfig,
    VideoConfig,
)

__all__ = ["PRESETS", "SYSTEM_NAMES", "as_system", "preset"]

PRESETS = ("tiny", "demo")
# as on the command line; the two kinds of extractors differ in size alone
SYSTEM_NAMES = ("student", "teacher", "baseline", "baseline-dropout", "extractors", "student-extractors")


def preset(name: str, system: str = "student") -> Config:
    """The configuration called `name` for one of SYSTEM_NAMES; a student trains its own teacher first.

    :raises UsageError: no such preset or system.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}: choose {' or '.join(PRESETS)}")
    if system not in SYSTEM_NAMES:
        raise UsageError(f"no system {system!r}: choose one of {', '.join(SYSTEM_NAMES)}")
    return as_system(_tiny() if name == "tiny" else Config(), system)


def as_system(student: Config, system: str) -> Config:
    """The configuration of another system for the same data and budget.

    :param student: sizes and settings of the student.
    """
    config = copy.deepcopy(student)
    config.distillation.teacher = "own" if system == "student" else ""
    if system == "baseline":  # end-to-end cross-entropy and nothing else
        config.dropout.modality_p = config.dropout.runs_p = config.train.alone_weight = 0.0
        config.fusion.missing = "masked"
    elif system == "teacher":
        config.system = "teacher"
        _enlarge(config)
        config.fusion.missing = "masked"  # the paper's: only tokens that are present enter the teacher's fusion
        config.train.label_smoothing = 0.0  # a student learns from how probable the teacher finds the other classes
    elif system in ("extractors", "student-extractors"):
        config.system = "extractors"
        if system == "extractors":
            _enlarge(config)
    return config


def _tiny() -> Config:
    """About a minute on two cores: for tests and a first try."""
    return Config(
        preset="tiny",
        data=DataConfig(
            minutes=6.0, validation_minutes=2.0, recording_s=6.0, takes=1, render_width=160, render_height=120
        ),
        video=VideoConfig(height=36, width=48, channels=[12, 24, 32], dim=48),
        flow=FlowConfig(height=30, width=40, channels=[8, 16], dim=32, slots=10, spacing_s=0.2),
        audio=AudioConfig(mels=32, channels=[8, 16, 32], dim=32),
        fusion=FusionConfig(width=48, layers=1, attention_heads=2, ffn=96, head_hidden=96),
        pretrain=PretrainConfig(video=1.0, flow=0.3, audio=0.3, batch=128),
        train=TrainConfig(epochs=12, batch=32, validate_every=6, ema=0.99, lr=3e-3, threads=1),
    )


def _enlarge(config: Config) -> None:
    """The teacher's sizes: 2.25 times the student's channels, which is the paper's ratio of about five in GFLOPs."""
    for section in (config.video, config.flow, config.audio):
        section.channels = [round(c * 2.25) for c in section.channels]
        section.dim = round(section.dim * 2.25)
    f = config.fusion
    f.width, f.ffn, f.head_hidden = 2 * f.width, 2 * f.ffn, 2 * f.head_hidden
