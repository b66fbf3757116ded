# SPDX-License-Identifier: Apache-2.0
"""What a run is: one tree of dataclasses.

The resolved configuration is saved in the run folder; evaluation and export read it from there, so a checkpoint is
never interpreted with settings other than its own. Ready-made ones: presets.py; YAML and overrides: config_file.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from karmma_ros.detections import BOX
from karmma_ros.errors import UsageError
from karmma_ros.manifest import MODALITIES

__all__ = ["MODALITIES", "SYSTEMS", "Config"]

# extractors: stage 0 alone; teacher: frozen extractors, fusion trained; student: KARMMA_S and its ablations
SYSTEMS = ("extractors", "teacher", "student")


@dataclass
class SlotsConfig:
    """Where a modality's tokens sit in the window (docs/architecture.md, window.py)."""

    slots: int = 10  # slots in the window
    spacing_s: float = 0.2  # seconds from one slot to the next
    delay_s: float = 0.0  # slot 0 is centred on t - delay
    context: int = 1  # samples an extractor run sees, the newest last: frames, flow fields; of sound PCM samples
    context_step_s: float = 1 / 15  # seconds between the frames, or flow fields, of a longer context
    tokens: int = 1  # tokens an extractor run emits
    dim: int = 128  # width of a token
    grid: list[int] = field(default_factory=list)  # tokens are averages over this grid of cells; empty: learned pooling
    backbone: str = ""  # timm:NAME, torchvision:NAME, transformers:ID or folder; empty: the small network of our own
    weights: str = ""  # of a named backbone: hub, or a file of tensors; empty: random
    # of a named backbone: keep its three channels, flow as (x, y, 0), spectrograms three times; else it is adapted
    as_rgb: bool = False


@dataclass
class VideoConfig(SlotsConfig):
    """One RGB frame -> tokens."""

    height: int = 72  # network input, pixels
    width: int = 96
    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 96])  # one stage each, stride 2
    # of the data set's red, green and blue, in [0, 1]; empty: what the backbone's weights were trained with
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)


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
    context: int = 6400
    hop: int = 200  # PCM samples between spectrum frames; a frame is two hops long
    mels: int = 48  # mel bands
    layout: list[int] = field(default_factory=list)  # pieces of the spectrogram as a video: frames, height, width
    piece_s: float = 1.116  # length of such a piece in seconds
    channels: list[int] = field(default_factory=lambda: [16, 32, 64])


@dataclass
class DetectionsConfig(SlotsConfig):
    """The boxes around one frame's objects -> tokens."""

    dim: int = 96
    boxes: int = 14  # taken at most, those with the best scores
    categories: list[str] = field(default_factory=lambda: ["hand", "object"])
    width: int = 64  # of the transformer over the boxes
    layers: int = 2
    heads: int = 4


@dataclass
class FusionConfig:
    """Fusion block and heads."""

    width: int = 128
    layers: int = 2
    attention_heads: int = 4
    ffn: int = 256
    head_hidden: int = 256  # hidden width of each voter's MLP
    dropout: float = 0.1
    missing: str = "learned"  # an absent token is learned vectors, zeroed, or masked: not attended to
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
    first_scene: int = 0  # number of the first rendered training scene: other numbers, other scenes
    draw: str = "time"  # training windows: uniform over labelled time, or actions: one per annotated action and epoch
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
    windows_per_second: float = 3.5  # windows drawn per second of labelled time and epoch, where data.draw is time
    batch: int = 96
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    final_lr_share: float = 0.01  # the cosine ends here, as a share of lr
    clip: float = 5.0  # gradient norm
    ema: float = 0.998  # decay of the averaged weights, which are what is evaluated and exported
    label_smoothing: float = 0.1
    cache_features: bool = True  # a frozen extractor's tokens are made once, from samples without augmentation
    alone_weight: float = 1.0  # of the loss of every modality alone, on the same tokens; 0: off
    precision: str = "auto"  # fp32, bf16, or auto: bf16 where the processor multiplies it natively
    device: str = "auto"  # cpu, or auto: a GPU where there is one
    loaders: int = 0  # threads that prepare windows; 0: one, or one per core where files have to be decoded
    threads: int = 0  # of torch; 0 measures whether one or all cores are faster, which costs bitwise repeatability
    validate_every: int = 2  # epochs
    validate_step: int = 11  # frames between evaluated times
    checkpoint_s: float = 120.0  # seconds between checkpoints inside an epoch


@dataclass
class PretrainConfig:
    """Stage 0: every extractor alone, on single samples."""

    extractors: str = ""  # run folder that the extractors are taken from instead
    video: float = 1.5  # times that all frames (drawn by action: all actions) are seen; 0: no pre-training
    flow: float = 1.0
    audio: float = 1.0  # of ten chunks a second
    detections: float = 1.0
    batch: int = 256
    lr: float = 3e-3


@dataclass
class DistillationConfig:
    """Stage 2: what the student learns from the teacher, alpha * KL + (1 - alpha) * CE."""

    teacher: str = ""  # run folder of the teacher, or own: trained first, in teacher/; empty: cross-entropy alone
    alpha: float = 0.7
    temperature: float = 2.0


@dataclass
class Config:
    """A whole run."""

    preset: str = "demo"
    system: str = "student"  # one of SYSTEMS
    seed: int = 0
    modalities: list[str] = field(default_factory=lambda: ["video", "flow", "audio"])
    data: DataConfig = field(default_factory=DataConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    detections: DetectionsConfig = field(default_factory=DetectionsConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    sensors: SensorsConfig = field(default_factory=SensorsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def window_s(self) -> float:
        """Length of the window in seconds: that of the longest modality."""
        return max(self.slots(m).slots * self.slots(m).spacing_s for m in self.modalities)

    def check(self) -> None:
        """Values that no run could use.

        :raises UsageError: the first one found.
        """
        positive: dict[str, float] = {
            "train.epochs": self.train.epochs,
            "train.batch": self.train.batch,
            "train.windows_per_second": self.train.windows_per_second,
            "train.lr": self.train.lr,
            "train.clip": self.train.clip,
            "train.validate_every": self.train.validate_every,
            "train.validate_step": self.train.validate_step,
            "data.minutes": self.data.minutes,
            "data.validation_minutes": self.data.validation_minutes,
            "data.recording_s": self.data.recording_s,
            "data.fps": self.data.fps,
            "distillation.temperature": self.distillation.temperature,
            "audio.rate": self.audio.rate,
            "audio.hop": self.audio.hop,
            "audio.mels": self.audio.mels,
            "fusion.width": self.fusion.width,
            "fusion.attention_heads": self.fusion.attention_heads,
            "pretrain.batch": self.pretrain.batch,
        }
        for m in MODALITIES:
            section = self.slots(m)
            for name in ("slots", "spacing_s", "tokens", "dim", "height", "width", "boxes", "layers", "heads"):
                if hasattr(section, name):
                    positive[f"{m}.{name}"] = getattr(section, name)
        for name, value in positive.items():
            if not value > 0:
                raise UsageError(f"{name} must be positive, not {value}")
        counts = {"train.threads": self.train.threads, "train.loaders": self.train.loaders}
        for name, count in {**counts, "data.first_scene": self.data.first_scene, "seed": self.seed}.items():
            if count < 0:
                raise UsageError(f"{name} must not be negative, but is {count}")
        if not 0 <= self.distillation.alpha <= 1:
            raise UsageError(f"distillation.alpha must be in [0, 1], not {self.distillation.alpha}")
        if self.system not in SYSTEMS:
            raise UsageError(f"system must be one of {', '.join(SYSTEMS)}, not {self.system!r}")
        if self.distillation.teacher and self.system != "student":
            raise UsageError(f"distillation.teacher is for students, this is a run of system {self.system}")
        if self.data.draw not in ("time", "actions"):
            raise UsageError(f"data.draw must be time or actions, not {self.data.draw!r}")
        if self.train.device not in ("auto", "cpu"):
            raise UsageError(f"train.device must be auto or cpu, not {self.train.device!r}")
        if not self.modalities or not set(self.modalities) <= set(MODALITIES):
            raise UsageError(f"modalities must be some of {', '.join(MODALITIES)}, not {self.modalities}")
        if not 0 <= self.dropout.modality_p < 1:
            raise UsageError(f"dropout.modality_p must be in [0, 1), not {self.dropout.modality_p}")
        for m in self.modalities:
            c = self.slots(m)
            if c.context < 1:
                raise UsageError(f"{m}.context must be at least 1, but is {c.context}")
            if c.as_rgb and not c.backbone:
                raise UsageError(f"{m}.as_rgb is for a {m}.backbone by name")
            if m in ("video", "flow") and c.context > 1 and not c.backbone:
                raise UsageError(f"{m}.context {c.context} needs a {m}.backbone for clips, e.g. torchvision:swin3d_t")
            if c.grid and math.prod(c.grid) != c.tokens:
                raise UsageError(f"{m}.grid {c.grid} makes {math.prod(c.grid)} tokens, but {m}.tokens is {c.tokens}")
        mean, std = self.video.mean, self.video.std
        if {len(mean), len(std)} not in ({0}, {3}) or not all(0 < value < 1 for value in mean + std):
            raise UsageError("video.mean and video.std must be of red, green and blue, between 0 and 1, or both empty")
        if self.detections.backbone or self.detections.grid or not self.detections.categories:
            raise UsageError("detections have categories, and neither a backbone nor a grid")
        if self.detections.width % self.detections.heads:
            raise UsageError("detections.width must be a multiple of detections.heads")
        if self.audio.context % self.audio.hop:
            raise UsageError("audio.context must be a multiple of audio.hop")
        if self.fusion.width % self.fusion.attention_heads:
            raise UsageError("fusion.width must be a multiple of fusion.attention_heads")
        if self.fusion.missing not in ("learned", "zeroed", "masked"):
            raise UsageError(f"fusion.missing must be learned, zeroed or masked, not {self.fusion.missing!r}")

    def sample_shape(self, modality: str) -> tuple[int, ...]:
        """Shape of one sample: an extractor's graph input without its batch."""
        if modality == "audio":
            return (self.audio.context,)
        if modality == "detections":
            return (self.detections.context, self.detections.boxes, BOX)
        c = self.video if modality == "video" else self.flow
        return (c.context, c.height, c.width, 3 if modality == "video" else 2)

    def slots(self, modality: str) -> SlotsConfig:
        """The section of one modality."""
        section: SlotsConfig = getattr(self, modality)
        return section
