# SPDX-License-Identifier: Apache-2.0
"""What a run is: one tree of dataclasses, two presets, YAML on disk, `key=value` overrides.

The resolved configuration is saved in the run folder; evaluation and export read it from there, so a checkpoint is
never interpreted with settings other than its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from karmma_ros.errors import UsageError

__all__ = ["MODALITIES", "Config", "apply_overrides", "load_config", "preset", "save_config"]

MODALITIES = ("video", "flow", "audio")

T = TypeVar("T")


@dataclass
class SlotsConfig:
    """Where a modality's tokens sit in the window (docs/architecture.md, window.py)."""

    slots: int = 10  # slots in the window
    spacing_s: float = 0.2  # seconds from one slot to the next
    delay_s: float = 0.0  # slot 0 is centred on t - delay
    tokens: int = 1  # tokens an extractor run emits
    dim: int = 128  # width of a token


@dataclass
class VideoConfig(SlotsConfig):
    """One RGB frame -> tokens."""

    height: int = 72  # network input, pixels
    width: int = 96
    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 96])  # one stage each, stride 2


@dataclass
class FlowConfig(SlotsConfig):
    """One optical flow field -> tokens."""

    slots: int = 20
    spacing_s: float = 0.1
    delay_s: float = 1 / 30
    dim: int = 96
    height: int = 48  # network input, pixels
    width: int = 64
    channels: list[int] = field(default_factory=lambda: [16, 24, 48])
    producer_preset: str = "fast"  # DIS preset of flow.FlowProducer
    producer_width: int = 160  # size at which the flow is computed
    producer_height: int = 120


@dataclass
class AudioConfig(SlotsConfig):
    """A short chunk of sound -> tokens, log-mel inside the network."""

    delay_s: float = 0.1
    dim: int = 96
    rate: int = 16000  # Hz
    context: int = 6400  # PCM samples an extractor run sees
    hop: int = 200  # PCM samples between spectrum frames; a frame is two hops long
    mels: int = 48  # mel bands
    channels: list[int] = field(default_factory=lambda: [16, 32, 64])


@dataclass
class FusionConfig:
    """Fusion block and heads."""

    width: int = 128
    layers: int = 2
    attention_heads: int = 4
    ffn: int = 256
    head_hidden: int = 256  # hidden width of each voter's MLP
    dropout: float = 0.1
    missing: str = "learned"  # an absent token is learned vectors, or masked: not attended to
    absent_votes: bool = False  # whether the head of a modality without any present token votes


@dataclass
class DropoutConfig:
    """What training hides from the model."""

    modality_p: float = 0.3  # probability that a modality is dropped whole; at least one stays
    runs_p: float = 0.3  # probability, per modality, that a run of tokens inside the window is missing
    full_share: float = 0.25  # share of windows in which every slot is encoded
    encode_min: float = 0.25  # in the other windows, the encoded share of the slots is uniform between these two
    encode_max: float = 0.6


@dataclass
class SensorsConfig:
    """How the sensors that fill training windows vary (frame rate, phase, jitter, losses)."""

    rate_divisors: list[int] = field(default_factory=lambda: [1, 2, 3])  # of the recording's frame rate
    rate_weights: list[float] = field(default_factory=lambda: [0.6, 0.25, 0.15])
    jitter_s: float = 0.003  # standard deviation of a stamp's error, clipped at two of them
    loss_p: float = 0.3  # probability that a window's camera loses frames
    loss_max: float = 0.6  # then each frame is lost with a probability up to this
    audio_phase: bool = True  # draw the phase of the audio grid; otherwise the recording starts at a grid point
    audio_lag_s: float = 0.04  # sound is up to this late: it arrives in chunks
    snap_p: float = 0.5  # probability that t is a frame's stamp, as when a frame triggers the prediction


@dataclass
class AugmentConfig:
    """Light changes of appearance; geometry is shared by video and flow of a window."""

    brightness: float = 0.2  # added, share of the full range
    contrast: float = 0.3  # factor 1 +- this
    colour: float = 0.3  # factor 1 +- this, per channel
    permute_p: float = 0.5  # probability that the colour channels are permuted: rendered objects come in any colour
    mirror_p: float = 0.5  # probability that left and right are exchanged
    shift: float = 0.06  # of the image size
    scale: float = 0.08  # factor 1 +- this
    gain_db: float = 6.0  # audio level, +- dB
    noise_p: float = 0.3  # probability of added white noise in audio
    noise_max: float = 0.01  # its standard deviation, at most


@dataclass
class DataConfig:
    """Where recordings come from."""

    source: str = "tabletop"  # tabletop (rendered) or the path of a manifest CSV
    minutes: float = 150.0  # of training recordings (rendered sources)
    validation_minutes: float = 6.0
    recording_s: float = 3.2  # length of a rendered recording: short, for many scenes
    takes: int = 3  # recordings of one training scene: more than one, or the scene gives the action away
    render_width: int = 320
    render_height: int = 240
    fps: float = 30.0


@dataclass
class TrainConfig:
    """Optimisation."""

    epochs: int = 4
    windows_per_second: float = 3.5  # windows drawn per second of recording and epoch
    batch: int = 96
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    final_lr_share: float = 0.01  # the cosine ends here, as a share of lr
    clip: float = 5.0  # gradient norm
    ema: float = 0.998  # decay of the averaged weights, which are what is evaluated and exported
    label_smoothing: float = 0.1
    alone_weight: float = 1.0  # of the loss of every modality alone, on the same tokens; 0: off
    precision: str = "auto"  # fp32, bf16, or auto: bf16 where the CPU multiplies it natively
    threads: int = 0  # of torch; 0 measures whether one or all cores are faster, which costs bitwise repeatability
    validate_every: int = 2  # epochs
    validate_step: int = 11  # frames between evaluated times
    checkpoint_s: float = 120.0  # seconds between checkpoints inside an epoch


@dataclass
class PretrainConfig:
    """Stage 0: every extractor alone, on single samples."""

    video: float = 1.5  # times that all frames are seen; 0: no pre-training
    flow: float = 1.0
    audio: float = 1.0  # of ten chunks a second
    batch: int = 256
    lr: float = 3e-3


@dataclass
class Config:
    """A whole run."""

    preset: str = "demo"
    seed: int = 0
    modalities: list[str] = field(default_factory=lambda: list(MODALITIES))
    data: DataConfig = field(default_factory=DataConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    sensors: SensorsConfig = field(default_factory=SensorsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def window_s(self) -> float:
        """Length of the window in seconds: that of the longest modality."""
        return max(self.slots(m).slots * self.slots(m).spacing_s for m in self.modalities)

    def check(self) -> None:
        """Values that no run could use.

        :raises UsageError: the first one found.
        """
        positive = {
            "train.epochs": self.train.epochs,
            "train.batch": self.train.batch,
            "train.windows_per_second": self.train.windows_per_second,
            "train.lr": self.train.lr,
            "data.minutes": self.data.minutes,
            "data.validation_minutes": self.data.validation_minutes,
            "data.recording_s": self.data.recording_s,
            "data.fps": self.data.fps,
        }
        for name, value in positive.items():
            if not value > 0:
                raise UsageError(f"{name} must be positive, not {value}")
        if self.train.threads < 0:
            raise UsageError(f"train.threads must not be negative, but is {self.train.threads}")
        if not self.modalities or not set(self.modalities) <= set(MODALITIES):
            raise UsageError(f"modalities must be some of {', '.join(MODALITIES)}, not {self.modalities}")
        if not 0 <= self.dropout.modality_p < 1:
            raise UsageError(f"dropout.modality_p must be in [0, 1), not {self.dropout.modality_p}")
        if self.audio.context % self.audio.hop:
            raise UsageError("audio.context must be a multiple of audio.hop")
        if self.fusion.width % self.fusion.attention_heads:
            raise UsageError("fusion.width must be a multiple of fusion.attention_heads")
        if self.fusion.missing not in ("learned", "masked"):
            raise UsageError(f"fusion.missing must be learned or masked, not {self.fusion.missing!r}")

    def slots(self, modality: str) -> SlotsConfig:
        """The section of one modality."""
        section: SlotsConfig = getattr(self, modality)
        return section


def preset(name: str) -> Config:
    """The configuration called `name`.

    :raises UsageError: no such preset.
    """
    if name == "demo":
        return Config()
    if name == "tiny":
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
    raise UsageError(f"no preset {name!r}: choose tiny or demo")


def apply_overrides(config: Config, overrides: list[str]) -> Config:
    """A copy of `config` with `section.key=value` strings applied; values are read as YAML.

    :raises UsageError: unknown key, or a value of the wrong type.
    """
    tree = dataclasses.asdict(config)
    for item in overrides:
        path, sign, text = item.partition("=")
        if not sign:
            raise UsageError(f"--set {item}: expected section.key=value, e.g. train.lr=0.001")
        *parents, leaf = path.strip().split(".")
        node = tree
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None  # type: ignore[assignment]
        if not isinstance(node, dict) or leaf not in node or isinstance(node[leaf], dict):
            known = [f"{k}.{leaf_}" for k, v in tree.items() if isinstance(v, dict) for leaf_ in v] + list(tree)
            close = difflib.get_close_matches(path, known, n=1)
            raise UsageError(f"--set {item}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
        try:
            node[leaf] = yaml.safe_load(text)
        except yaml.YAMLError:
            node[leaf] = text
    return _build(Config, tree, "--set")


def load_config(path: Path) -> Config:
    """Read a configuration from YAML.

    :raises UsageError: unreadable file, unknown key, wrong type.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    return _build(Config, tree if isinstance(tree, dict) else {}, str(path))


def save_config(config: Config, path: Path) -> None:
    """Write a configuration as YAML."""
    path.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))


def _build(cls: type[T], tree: dict[str, Any], where: str) -> T:
    """Build a dataclass from plain values, checking names and types."""
    hints = typing.get_type_hints(cls)
    unknown = set(tree) - set(hints)
    if unknown:
        raise UsageError(f"{where}: unknown setting {sorted(unknown)[0]!r} in {cls.__name__}")
    values: dict[str, Any] = {}
    for name, value in tree.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), value or {}, where)
        else:
            values[name] = _checked(hint, value, f"{where}: {name}")
    return cls(**values)


def _checked(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) is list:
        (inner,) = typing.get_args(hint)
        items = value if isinstance(value, list) else [value]
        return [_checked(inner, item, where) for item in items]
    if isinstance(hint, types.UnionType):
        raise TypeError(f"{where}: union types are not supported in the configuration")
    if hint is float:
        try:  # YAML reads 1e-3 as a string
            return float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{where} must be a number, not {value!r}") from None
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UsageError(f"{where} must be {hint.__name__}, not {value!r}")
    return value
