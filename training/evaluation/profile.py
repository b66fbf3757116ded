# SPDX-License-Identifier: Apache-2.0
"""What teacher and student cost per modality subset, beside the bars of the paper.

GFLOPs are counted without running anything: 2 per multiply-accumulate of convolutions and matrix products. By the
paper's count an absent modality contributes nothing; as deployed, fusion also reads the learned tokens of what is
absent, while extractors of absent modalities do not run; online, only what is new since the last prediction is encoded.
Latency and memory are those of a run on this machine, batch 1, float32.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from karmma_ros.window import SlotSpec
from karmma_training.config import Config
from karmma_training.evaluation.cost import PeakMemory, full_window
from karmma_training.networks.model import Fusion, TensorBatch, build_model

__all__ = ["PAPER_GFLOPS", "PAPER_GIGABYTES", "count", "measure"]

CAMERA_HZ = 30  # predictions per second online

# arXiv 2504.08578, the two bar charts: {system: {subset: value}}, V, F, A as initials
_SUBSETS = ("V+F+A", "V+F", "V+A", "F+A", "V", "F", "A")
PAPER_GFLOPS = {
    "teacher": dict(zip(_SUBSETS, (1707.2, 1137.0, 1137.0, 1137.0, 568.0, 568.0, 568.0), strict=True)),
    "student": dict(zip(_SUBSETS, (358.2, 353.0, 181.3, 181.3, 176.4, 176.4, 4.67), strict=True)),
}
PAPER_GIGABYTES = {
    "teacher": dict(zip(_SUBSETS, (2.510, 2.127, 2.146, 2.127, 1.762, 1.762, 1.762), strict=True)),
    "student": dict(zip(_SUBSETS, (1.324, 1.289, 1.195, 1.182, 1.139, 1.139, 0.100), strict=True)),
}


def count(config: Config, heads: Mapping[str, int]) -> dict[tuple[str, ...], dict[str, float]]:
    """{modalities present: {gflops, gflops_deployed, gflops_online, parameters}}; parameters: of what it takes.

    Online: of one prediction per camera frame on a robot, which encodes what is new and keeps the rest of the window.
    """
    with torch.device("meta"):
        model = build_model(config, heads).eval()
        batch = full_window(model, config)
        encoding = {m: _gflops(partial(model.encode, m, batch.samples[m])) for m in model.specs}
        deployed = _fusion_gflops(model.fusion, batch.present)
        out = {}
        for size in range(len(config.modalities), 0, -1):
            for chosen in combinations(config.modalities, size):
                part = copy.deepcopy(config)
                part.modalities = list(chosen)
                fusion = Fusion(part, heads).eval()
                extractors = sum(encoding[m] for m in chosen)
                new = sum(encoding[m] / model.specs[m].slots * _new_samples(m, model.specs[m]) for m in chosen)
                out[chosen] = {
                    "gflops": extractors + _fusion_gflops(fusion, batch.present),
                    "gflops_deployed": extractors + deployed,
                    "gflops_online": new + deployed,
                    "parameters": sum(map(_parameters, (fusion, *(model.extractors[m] for m in chosen)))),
                }
    return out


def measure(
    config: Config, heads: Mapping[str, int], chosen: Sequence[str], runs: int, device: torch.device
) -> dict[str, float]:
    """{latency_ms, latency_online_ms, megabytes}.

    latency_ms, megabytes: of naming one window from all its samples, by the model as the paper counts it.
    latency_online_ms: of a prediction on a robot that gets something new from every sensor: one extractor run each, and
    fusion, which also reads the learned tokens of what is absent.

    :param runs: after one to warm up; latencies are their median. Memory: weights and the most activations at once.
    """
    part = copy.deepcopy(config)
    part.modalities = list(chosen)
    model = build_model(part, heads).eval().to(device)
    batch = _to(full_window(model, part), device)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    with torch.no_grad(), PeakMemory() as memory:
        model(batch)
    fusion = Fusion(config, heads).eval().to(device)
    window = {m: torch.zeros(1, s.slots * s.tokens, s.dim, device=device) for m, s in fusion.specs.items()}
    present = {m: torch.full(t.shape[:2], m in chosen, device=device) for m, t in window.items()}

    def online() -> None:
        for m in chosen:
            model.encode(m, batch.samples[m][:1])
        fusion(window, present)

    return {
        "latency_ms": _latency_ms(partial(model, batch), runs, device),
        "latency_online_ms": _latency_ms(online, runs, device),
        "megabytes": (weights + memory.peak) / 1e6,
    }


@torch.inference_mode()
def _latency_ms(work: Callable[[], object], runs: int, device: torch.device) -> float:
    """The median, after one run to warm up."""
    times = []
    for _ in range(1 + runs):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def _gflops(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def _fusion_gflops(fusion: Fusion, present: Mapping[str, Tensor]) -> float:
    """Of one window."""
    tokens = {m: torch.zeros(1, s.slots * s.tokens, s.dim) for m, s in fusion.specs.items()}
    seen = {m: present[m].repeat_interleave(s.tokens, 1) for m, s in fusion.specs.items()}
    return _gflops(lambda: fusion(tokens, seen))


def _new_samples(modality: str, spec: SlotSpec) -> float:
    """Extractor runs per prediction: one of a new frame, or field; sound is encoded at the spacing of its slots."""
    return min(1.0, 1 / (spec.spacing_s * CAMERA_HZ)) if modality == "audio" else 1.0


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _to(batch: TensorBatch, device: torch.device) -> TensorBatch:
    def moved(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: v.to(device) for m, v in values.items()}

    return replace(
        batch,
        samples=moved(batch.samples),
        places=moved(batch.places),
        present=moved(batch.present),
        targets=batch.targets.to(device),
    )
