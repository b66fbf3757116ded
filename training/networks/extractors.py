# SPDX-License-Identifier: Apache-2.0
"""Unimodal extractors: one sample (frame, flow field, chunk of sound, boxes), or a clip of them -> tokens.

Each takes its graph's input as documented in docs/architecture.md; normalisation, flow scaling and log-mel are inside,
so the exported graph carries them. Plain 3x3 convolutions: on a CPU they train faster than depthwise ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from karmma_ros.errors import UsageError
from karmma_training.config import AudioConfig, Config, DetectionsConfig, FlowConfig, VideoConfig
from karmma_training.networks.backbones import NamedBackbone
from karmma_training.networks.fusion import TransformerLayer
from karmma_training.networks.steady import steadily

__all__ = [
    "AudioExtractor",
    "DetectionExtractor",
    "Extractor",
    "FlowExtractor",
    "LogMel",
    "VideoExtractor",
    "build_extractor",
]


class ConvNorm(nn.Module):
    """3x3 convolution and batch norm; `fuse` folds the norm into the convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)"""
        y: Tensor = self.norm(steadily(self.conv, x))
        return y

    def fuse(self) -> None:
        """Fold the norm; for export, in evaluation mode."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)"""
        return F.relu(x + self.second(F.relu(self.first(x))))


class Backbone(nn.Module):
    """Stages of stride 2; all but the first end in a residual block."""

    def __init__(self, inputs: int, channels: list[int]) -> None:
        super().__init__()
        self.downs = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for i, outputs in enumerate(channels):
            self.downs.append(ConvNorm(inputs, outputs, stride=2))
            self.blocks.append(Residual(outputs) if i else nn.Identity())
            inputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, channels[-1], h / 2^stages, w / 2^stages), rounded up"""
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(F.relu(down(x)))
        return x


class TokenPool(nn.Module):
    """Feature map -> N tokens: each token attends to the map with a learned query and knows where it looked.

    A token is made of the features at its attention, their plain mean, and the attended position.
    """

    def __init__(self, channels: int, tokens: int, dim: int, height: int, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, tokens, 1)
        self.project = nn.Linear(2 * channels + 2, dim)
        self.norm = nn.LayerNorm(dim)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("where", torch.stack([x, y], -1).reshape(1, height * width, 2), persistent=False)
        self.where: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, [t,] h, w) -> (n, N, dim); of a clip, rows of all times lie below each other"""
        if x.ndim == 5:
            x = x.flatten(2, 3)
        weights = steadily(self.query, x).flatten(2).float().softmax(-1)  # (n, N, hw)
        features = x.flatten(2).transpose(1, 2)  # (n, hw, c)
        attended = weights @ features  # (n, N, c)
        position = weights @ self.where.to(weights.dtype)  # (n, N, 2)
        mean = features.mean(1, keepdim=True).expand_as(attended)
        y: Tensor = self.norm(self.project(torch.cat([attended, mean, position], -1)).float())
        return y


class GridPool(nn.Module):
    """Feature map -> tokens: the averages over the cells of a grid, which is how the 784 positions of a Swin3D become
    the paper's 300 here (12 x 5 x 5; how they do there is not published).

    :param grid: cells per dimension of the map: (height, width), or (time, height, width).
    """

    def __init__(self, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = list(grid)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, [t,] h, w) -> (n, cells, c)"""
        for axis, cells in enumerate(self.grid, start=2):
            x = _average_cells(x, axis, cells)
        y: Tensor = self.norm(x.flatten(2).transpose(1, 2).float())
        return y


def _average_cells(x: Tensor, axis: int, cells: int) -> Tensor:
    """Averages over cells that divide an axis as evenly as they can, like adaptive average pooling: one axis after the
    other, which ONNX can say where it has no such pooling over three."""
    length = x.shape[axis]
    if length == cells:
        return x
    edges = [(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]
    return torch.stack([x.narrow(axis, low, high - low).mean(axis) for low, high in edges], axis)


class Extractor(nn.Module):
    """Preparation in float32 (never in reduced precision), then the network."""

    def __init__(self, c: VideoConfig | FlowConfig | AudioConfig, inputs: int, size: Sequence[int]) -> None:
        """:param size: of what `prepare` gives: (height, width), or (frames, height, width) of clips"""
        super().__init__()
        self.backbone: Backbone | NamedBackbone
        if c.backbone:
            self.backbone = NamedBackbone(c.backbone, inputs, size, c.weights)
            channels, cells = self.backbone.channels, self.backbone.cells
        else:
            self.backbone = Backbone(inputs, c.channels)
            channels = c.channels[-1]
            cells = tuple(-(-n // 2 ** len(c.channels)) for n in size)
        self.pool: GridPool | TokenPool
        if c.grid:
            if c.dim != channels:
                raise UsageError(f"tokens on a grid have the {channels} channels of their backbone, but dim is {c.dim}")
            self.pool = GridPool(channels, c.grid)
        else:
            self.pool = TokenPool(channels, c.tokens, c.dim, math.prod(cells[:-1]), cells[-1])

    def prepare(self, x: Tensor) -> Tensor:
        """Graph input -> (n, inputs, h, w) float32; of clips (n, inputs, t, h, w)."""
        raise NotImplementedError

    def encode(self, prepared: Tensor) -> Tensor:
        """What `prepare` gave -> tokens (n, N, D)"""
        y: Tensor = self.pool(self.backbone(prepared))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Graph input -> tokens (n, N, D)"""
        return self.encode(self.prepare(x))

    def fuse(self) -> None:
        """Fold every batch norm that follows a convolution; for export, in evaluation mode."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()


class VideoExtractor(Extractor):
    """RGB frames: (n, context, h, w, 3) uint8 -> (n, N, D)."""

    def __init__(self, c: VideoConfig) -> None:
        super().__init__(c, 3, _size(c))
        own = self.backbone.statistics if isinstance(self.backbone, NamedBackbone) else ([0.5], [0.25])
        mean, std = (c.mean, c.std) if c.mean else own
        over = [-1] + [1] * len(_size(c))  # (c, [t,] h, w)
        self.register_buffer("mean", 255 * torch.tensor(mean).reshape(over), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).reshape(over), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def prepare(self, x: Tensor) -> Tensor:
        """Pixels to about [-2, 2]; the permuted view is already channels-last."""
        return (_as_map(x).float() - self.mean) / self.std


class FlowExtractor(Extractor):
    """Flow fields: (n, context, h, w, 2) float32, image widths per second -> (n, N, D)."""

    def __init__(self, c: FlowConfig) -> None:
        super().__init__(c, 3 if c.as_rgb else 2, _size(c))
        self.as_rgb = c.as_rgb

    def prepare(self, x: Tensor) -> Tensor:
        """Signed logarithm: linear below 0.05 widths/s, so that slow motion shows and fast motion does not drown it."""
        x = _as_map(x) * 20.0
        y = x.sign() * torch.log1p(x.abs())
        return torch.cat([y, torch.zeros_like(y[:, :1])], 1) if self.as_rgb else y


class AudioExtractor(Extractor):
    """A chunk of sound: (n, context) float32 in [-1, 1] -> (n, N, D)."""

    def __init__(self, c: AudioConfig) -> None:
        frames = c.context // c.hop - 1
        super().__init__(c, 3 if c.as_rgb else 1, c.layout or (c.mels, frames))
        self.channels = 3 if c.as_rgb else 1
        self.layout = tuple(c.layout)
        self.piece = round(c.piece_s * c.rate / c.hop)  # spectrum frames
        if c.layout:
            if self.piece > frames:
                raise UsageError(
                    f"audio.piece_s {c.piece_s} is longer than the {c.context / c.rate:g} s of its context"
                )
            first = torch.linspace(0, frames - self.piece, c.layout[0]).round().long()
            self.register_buffer("first", first, persistent=False)  # spectrum frame at which each piece begins
            self.first: Tensor
        self.log_mel = LogMel(c.rate, c.hop, c.mels)
        self.level = nn.BatchNorm1d(c.mels)  # each band's own level, learned from the data

    def prepare(self, x: Tensor) -> Tensor:
        """-> (n, 1, mels, frames), or, laid out as a video, (n, 1, t, h, w); for a backbone of RGB three times that"""
        y = self._picture(x).unsqueeze(1)
        return y if self.channels == 1 else y.expand(-1, self.channels, *y.shape[2:])

    def _picture(self, x: Tensor) -> Tensor:
        y: Tensor = self.level(self.log_mel(x))
        if not self.layout:
            return y
        pieces = y.unfold(-1, self.piece, 1)[:, :, self.first].transpose(1, 2)  # (n, count, mels, piece)
        return F.interpolate(pieces, self.layout[1:], mode="bilinear", align_corners=False)


class DetectionExtractor(Extractor):
    """The boxes of some frames: (n, context, boxes, 6) float32, as `karmma_ros.detections` -> (n, N, D).

    A transformer over all boxes at once, with N learned queries beside them that become the tokens. Rows without a box
    are not attended to; in a frame where nothing was found the queries see each other only, which says so.
    """

    def __init__(self, c: DetectionsConfig) -> None:
        nn.Module.__init__(self)  # there is no picture, so neither a backbone nor a pool
        self.backbone, self.pool = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.kinds, self.boxes = len(c.categories), c.boxes
        self.embed = nn.Linear(9 + self.kinds, c.width)
        self.time = nn.Parameter(torch.randn(c.context, 1, c.width) * 0.02)
        self.queries = nn.Parameter(torch.randn(c.tokens, c.width) * 0.02)
        self.layers = nn.ModuleList(TransformerLayer(c.width, c.heads, 2 * c.width, 0.0) for _ in range(c.layers))
        self.project, self.norm = nn.Linear(c.width, c.dim), nn.LayerNorm(c.dim)
        self.register_buffer("kind", torch.arange(self.kinds, dtype=torch.float32), persistent=False)
        self.kind: Tensor

    def prepare(self, x: Tensor) -> Tensor:
        """-> (n, context, boxes, 9 + categories): corners, centre, size, score, which category, none without a box"""
        corners, kinds = 4 * x[..., :4] - 2, (x[..., 5:] == self.kind).float()
        first, second = corners[..., :2], corners[..., 2:]
        return torch.cat([corners, (first + second) / 2, second - first, x[..., 4:5], kinds], -1)

    def encode(self, prepared: Tensor) -> Tensor:
        """What `prepare` gave -> tokens (n, N, D)"""
        n = prepared.shape[0]
        boxes = (self.embed(prepared) + self.time).flatten(1, 2)  # (n, context * boxes, width)
        there = prepared[..., 9:].amax(-1).flatten(1) > 0
        x = torch.cat([self.queries.to(boxes.dtype).expand(n, -1, -1), boxes], 1)
        seen = torch.cat([torch.ones_like(there[:, :1]).expand(-1, len(self.queries)), there], 1)
        hidden = torch.where(seen, 0.0, -1e9)[:, None, None, :].to(x.dtype)
        for layer in self.layers:
            x = layer(x, hidden)
        y: Tensor = self.norm(self.project(x[:, : len(self.queries)]).float())
        return y


def _size(c: VideoConfig | FlowConfig) -> tuple[int, ...]:
    return (c.height, c.width) if c.context == 1 else (c.context, c.height, c.width)


def _as_map(x: Tensor) -> Tensor:
    """(n, context, h, w, c) -> (n, c, h, w), or, where the context is longer than 1, (n, c, context, h, w)"""
    return x.squeeze(1).permute(0, 3, 1, 2) if x.shape[1] == 1 else x.permute(0, 4, 1, 2, 3)


class LogMel(nn.Module):
    """Log-mel spectrum as convolutions with fixed weights: frames of two hops, Hann window, power, mel bands, log.

    The signal is cut into hops; a frame is two neighbouring hops, so the transform is a convolution of kernel 2 over
    hops. Mel scale: O'Shaughnessy's 2595 log10(1 + f / 700), triangular bands of equal peak.
    """

    def __init__(self, rate: int, hop: int, mels: int, low_hz: float = 40.0) -> None:
        super().__init__()
        self.hop = hop
        size = 2 * hop
        frequencies = np.arange(size // 2 + 1) * rate / size
        bins = (frequencies >= low_hz) & (frequencies <= 0.49 * rate)
        angle = 2 * math.pi * np.outer(frequencies[bins] / rate, np.arange(size))  # (bins, size)
        window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(size) / size)
        basis = np.concatenate([np.cos(angle), np.sin(angle)]) * window / math.sqrt(size)
        # (2 bins, 2 hops * hop) -> convolution weight (2 bins, hop, 2)
        weight = basis.reshape(-1, 2, hop).transpose(0, 2, 1)
        points = np.linspace(_mel(low_hz), _mel(0.49 * rate), mels + 2)
        centre = _mel(frequencies[bins])[None]
        left, middle, right = points[:-2, None], points[1:-1, None], points[2:, None]
        bands = np.maximum(0, np.minimum((centre - left) / (middle - left), (right - centre) / (right - middle)))
        # a band so narrow that it lies between two frequencies takes what is between them
        bin_numbers = np.arange(bands.shape[1])
        between = np.maximum(0, 1 - np.abs(np.interp(middle, centre[0], bin_numbers) - bin_numbers))
        bands = np.where(bands.any(1, keepdims=True), bands, between)
        self.register_buffer("basis", torch.tensor(weight, dtype=torch.float32), persistent=False)
        self.register_buffer("bands", torch.tensor(bands, dtype=torch.float32), persistent=False)
        self.basis: Tensor
        self.bands: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(n, context) -> (n, mels, context / hop - 1)"""
        hops = x.reshape(x.shape[0], -1, self.hop).transpose(1, 2)  # (n, hop, hops)
        spectrum = steadily(self._transform, hops)  # (n, 2 bins, frames)
        real, imaginary = spectrum.chunk(2, 1)
        power = real.square() + imaginary.square()
        return (self.bands @ power + 1e-6).log()  # the floor is about -60 dB of full scale

    def _transform(self, hops: Tensor) -> Tensor:
        return F.conv1d(hops, self.basis)


def _mel(hz: float | np.ndarray) -> np.ndarray:
    return np.asarray(2595 * np.log10(1 + np.asarray(hz) / 700))


def build_extractor(modality: str, config: Config) -> Extractor:
    """The extractor of one modality.

    :raises ValueError: audio context that is not a whole number of hops.
    """
    if modality == "video":
        return VideoExtractor(config.video)
    if modality == "flow":
        return FlowExtractor(config.flow)
    if modality == "detections":
        return DetectionExtractor(config.detections)
    if config.audio.context % config.audio.hop:
        raise ValueError("audio.context must be a multiple of audio.hop")
    return AudioExtractor(config.audio)
