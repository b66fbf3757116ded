# SPDX-License-Identifier: Apache-2.0
"""Ready-made configurations: a preset says how large, a system says what is trained and how.

The paper's systems: docs/training.md.
"""

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
    SlotsConfig,
    TrainConfig,
    VideoConfig,
)

__all__ = ["PRESETS", "SAME_SAMPLES", "SYSTEM_NAMES", "as_system", "preset"]

PRESETS = ("tiny", "demo", "stream", "paper")
# of a section: what a teacher and its student must have the same, since both see the same samples
SAME_SAMPLES = {
    "video": ("height", "width"),
    "flow": ("height", "width"),
    "audio": ("rate",),
    "detections": ("boxes", "categories"),
}
# and what the data, or the user, says of them
SAME_DATA = {"video": ("mean", "std"), "flow": ("producer_preset", "producer_width", "producer_height")}
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
    return as_system({"tiny": _tiny, "demo": Config, "stream": _stream, "paper": _paper}[name](), system)


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
        # fp32: what the tests train is the same on every machine
        train=TrainConfig(epochs=12, batch=32, validate_every=6, ema=0.99, lr=3e-3, threads=1, precision="fp32"),
    )


def _stream() -> Config:
    """For robots, at the scale of the field's data sets: one frame, one flow field, a chunk of sound at a time, through
    networks that know ImageNet, distilled from the paper's own teacher. Training needs a GPU, the student none.
    """
    c = Config(
        preset="stream",
        flow=FlowConfig(spacing_s=0.2, slots=10, producer_preset="medium", producer_width=320, producer_height=240),
        audio=AudioConfig(mels=64, channels=[32, 64, 128, 192], dim=192),
        fusion=FusionConfig(width=256, layers=2, attention_heads=4, ffn=512, head_hidden=512),
        pretrain=PretrainConfig(video=0.0, flow=0.0, audio=0.0, detections=0.0),
    )
    for section in (c.video, c.flow):
        section.height, section.width, section.dim = 224, 224, 256
        section.backbone, section.weights = "timm:mobilenetv4_conv_small.e2400_r224_in1k", "hub"  # Apache-2.0
    _as_the_field_trains(c)
    return c


def _as_the_field_trains(c: Config) -> None:
    """On trimmed actions of real things; optimiser, schedule and batch are ours, after Radevski et al. (ICCV 2023)."""
    c.data.draw = "actions"  # as data sets of trimmed actions are counted
    # real things have their colours, and Something-Something tells left from right
    c.augment.permute_p = c.augment.mirror_p = 0.0
    c.augment.scale, c.augment.shift = 0.15, 0.1
    t = c.train
    t.epochs, t.warmup_epochs, t.batch, t.lr, t.weight_decay = 30, 3.0, 16, 1e-4, 0.02
    t.label_smoothing, t.alone_weight, t.cache_features = 0.0, 0.0, False


def _paper() -> Config:
    """The paper's student: clips of 32 frames through Swin3D-T, 300 tokens each; a compact network of ours for sound.

    From the paper: backbones, clip length, picture size, token counts, widths. Ours, after Radevski et al. (ICCV 2023):
    optimiser, schedule, batch, pieces of 1.116 s of sound. Needs a GPU.
    """
    c = Config(
        preset="paper",
        flow=FlowConfig(spacing_s=0.2, producer_preset="medium", producer_width=320, producer_height=240),
        audio=AudioConfig(
            slots=1,
            context=51200,  # 3.2 s: as long as a clip and a piece together
            hop=160,
            mels=128,
            channels=[64, 144, 192, 256],  # about 4 GFLOPs, as the paper's bars say
            tokens=253,
            grid=[11, 23],
            dim=256,
        ),
        fusion=FusionConfig(width=384, layers=1, attention_heads=6, ffn=384, head_hidden=768),
        # a student is trained end to end, from Kinetics weights
        pretrain=PretrainConfig(video=0.0, flow=0.0, audio=0.0, detections=0.0),
    )
    d = c.detections
    d.slots, d.context, d.tokens, d.width, d.dim = 1, 32, 32, 128, 128  # a token per frame
    for section in (c.video, c.flow):
        section.context, section.slots, section.height, section.width = 32, 1, 224, 224
        _swin3d(section, "t", 768)
    c.data.render_width, c.data.render_height, c.data.recording_s = 640, 480, 6.4
    _as_the_field_trains(c)
    # one slot: what is lost of a sensor would be a whole clip, and no longer the draw of modality dropout alone
    c.dropout.full_share, c.dropout.runs_p = 1.0, 0.0
    c.sensors.rate_divisors, c.sensors.rate_weights = [1], [1.0]
    c.sensors.loss_p = c.sensors.audio_lag_s = 0.0
    return c


def _swin3d(section: SlotsConfig, size: str, channels: int) -> None:
    """A Swin3D with Kinetics weights, whose 16 x 7 x 7 positions become the paper's 300 tokens."""
    section.backbone, section.weights = f"torchvision:swin3d_{size}", "hub"
    section.tokens, section.grid, section.dim = 300, [12, 5, 5], channels
    section.as_rgb = True  # its bars are those of three channels for every modality


def _enlarge(config: Config) -> None:
    """From the student's sizes to the teacher's: the paper's own, or 2.25 times the student's channels, which is the
    paper's ratio of about five in GFLOPs."""
    if config.preset == "stream":  # the paper's teacher, whatever its student looks like
        teacher = _paper()
        _enlarge(teacher)
        # what both see is the data's, or the user's word
        for name, keys in SAME_SAMPLES.items():
            for key in (*keys, *SAME_DATA.get(name, ())):
                setattr(getattr(teacher, name), key, getattr(getattr(config, name), key))
        teacher.dropout.modality_p = config.dropout.modality_p
        for name in ("video", "flow", "audio", "detections", "fusion", "dropout", "sensors", "pretrain"):
            setattr(config, name, getattr(teacher, name))
        return
    f = config.fusion
    if config.preset == "paper":
        for part in (config.video, config.flow, config.audio):
            _swin3d(part, "b", 1024)
        # what is frozen afterwards learns the data set first, from Kinetics weights; passes over all actions are ours
        config.pretrain = PretrainConfig(video=10.0, flow=10.0, audio=10.0, detections=10.0, batch=16, lr=1e-4)
        config.audio.layout = [32, 224, 224]
        config.detections.width, config.detections.dim = 256, 256
        f.width, f.layers, f.attention_heads, f.ffn, f.head_hidden = 768, 2, 12, 768, 1536
        return
    for section in (config.video, config.flow, config.audio):
        section.channels = [round(c * 2.25) for c in section.channels]
        if not (section.backbone and section.grid):  # then it is the channels of the backbone
            section.dim = round(section.dim * 2.25)
    config.detections.width, config.detections.dim = 2 * config.detections.width, 2 * config.detections.dim
    f.width, f.ffn, f.head_hidden = 2 * f.width, 2 * f.ffn, 2 * f.head_hidden
