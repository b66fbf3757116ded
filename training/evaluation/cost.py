# SPDX-License-Identifier: Apache-2.0
"""What a model costs: GFLOPs and memory of naming one window from its samples, counted as the paper counts.

GFLOPs are 2 x multiply-accumulates of convolutions and matrix products; a modality that is absent contributes nothing.
Memory is that of the weights and of the most activations alive at once, float32, every slot of the window encoded.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from karmma_training.config import Config
from karmma_training.networks.model import MultimodalModel, TensorBatch, build_model

__all__ = ["PeakMemory", "costs", "full_window"]


def costs(config: Config, heads: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """{modality subset: {gflops, megabytes, parameters}} of the model that a configuration describes."""
    out = {}
    for size in range(len(config.modalities), 0, -1):
        for chosen in combinations(config.modalities, size):
            part = copy.deepcopy(config)
            part.modalities = list(chosen)
            out["+".join(chosen)] = _cost(build_model(part, heads).eval(), part)
    return out


@torch.no_grad()
def _cost(model: MultimodalModel, config: Config) -> dict[str, float]:
    batch = full_window(model, config)
    with FlopCounterMode(display=False) as counter:
        model(batch)
    with PeakMemory() as memory:
        model(batch)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    return {
        "gflops": counter.get_total_flops() / 1e9,
        "megabytes": (weights + memory.peak) / 1e6,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def full_window(model: MultimodalModel, config: Config) -> TensorBatch:
    """One window with every slot filled."""
    samples, places, present = {}, {}, {}
    for m, spec in model.specs.items():
        dtype = torch.uint8 if m == "video" else torch.float32
        samples[m] = torch.zeros(spec.slots, *config.sample_shape(m), dtype=dtype)
        places[m] = torch.arange(spec.slots)
        present[m] = torch.ones(1, spec.slots, dtype=torch.bool)
    return TensorBatch(samples, {}, places, present, torch.zeros(1, len(model.heads), dtype=torch.long))


class PeakMemory(TorchDispatchMode):
    """Bytes of the tensors made inside, at the moment when they were most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._made, out)
        return out

    def _made(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key in self._known or not storage.nbytes():  # a view, or written in place
            return
        self._known.add(key)
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
