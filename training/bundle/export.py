# SPDX-License-Identifier: Apache-2.0
"""A run's best weights -> a bundle: ONNX graphs, manifest, model card; written whole or not at all.

Nothing is accepted unseen: every graph, through the robot's own engine, is compared with PyTorch, and the fusion for
every subset of the modalities with random slots absent.
"""

from __future__ import annotations

import copy
import logging
import subprocess
import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from karmma_ros.bundle import load_bundle, sha256, write_manifest
from karmma_ros.detections import NOTHING
from karmma_ros.errors import KarmmaError
from karmma_ros.runtime import Engine, check_inputs
from karmma_training.config import Config
from karmma_training.data.labels import Labels
from karmma_training.networks.extractors import Extractor
from karmma_training.networks.model import Fusion, MultimodalModel

__all__ = ["MAX_ERROR", "compare", "export_bundle", "sample_inputs"]

NO_LICENCE, OUR_LICENCE = "not stated", "Apache-2.0"
MAX_ERROR = 1e-4  # largest difference between ONNX Runtime and PyTorch, absolute, float32
OPSET = 18
IR_VERSION = 10  # read by ONNX Runtime 1.18
CHECK_SEED = 20250408
CHECK_TOLERANCE = 1e-3  # other machines and providers sum in another order


def export_bundle(
    folder: Path,
    name: str,
    model: MultimodalModel,
    config: Config,
    labels: Labels,
    temperature: dict[str, float],
    licence: str = NO_LICENCE,
) -> float:
    """Write graphs and manifest into an existing folder and verify them.

    :param licence: of the weights.
    :return: the largest difference found.
    :raises KarmmaError: ONNX Runtime and PyTorch differ by more than MAX_ERROR.
    """
    model = copy.deepcopy(model).eval()
    model.reduced = None
    for m in model.specs:
        extractor = copy.deepcopy(model.extractors[m])
        assert isinstance(extractor, Extractor)
        extractor.fuse()
        example = torch.from_numpy(sample_inputs(config, m, 2, np.random.default_rng(0)))
        _write_graph(folder / f"{m}.onnx", extractor, (example,), ["input"], ["tokens"])
    flat = _FlatFusion(model.fusion)
    inputs: list[Tensor] = []
    for spec in model.specs.values():
        n = spec.slots * spec.tokens
        inputs += [torch.randn(2, n, spec.dim), torch.rand(2, n) < 0.5]
    names = [f"{m}_{part}" for m in model.specs for part in ("tokens", "present")]
    _write_graph(folder / "fusion.onnx", flat, tuple(inputs), names, [f"{h}_logits" for h in labels.heads])
    manifest = _manifest(folder, name, model, config, labels, temperature, licence)
    write_manifest(folder, manifest)
    bundle = load_bundle(folder)
    manifest["check"]["expected"] = _expected(model, check_inputs(bundle.modalities, CHECK_SEED))
    write_manifest(folder, manifest)
    return compare(Engine(load_bundle(folder), providers="cpu"), model, config)


def compare(engine: Engine, model: MultimodalModel, config: Config) -> float:
    """The largest absolute difference between engine and model, over every graph and every modality subset.

    :raises KarmmaError: it is more than MAX_ERROR, or something is not finite.
    """
    rng = np.random.default_rng(1)
    worst = 0.0

    def differ(what: str, got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
        nonlocal worst
        error = float(np.abs(got - wanted).max())
        if not error <= MAX_ERROR:  # NaN is not
            raise KarmmaError(f"export refused: {what} differs from PyTorch by {error:.2g}, more than {MAX_ERROR:g}")
        worst = max(worst, error)

    with torch.inference_mode():
        for m in model.specs:
            samples = sample_inputs(config, m, 5, rng)
            differ(f"{m}.onnx", engine.encode(m, samples), model.encode(m, torch.from_numpy(samples)).numpy())
        modalities = list(model.specs)
        for size in range(1, len(modalities) + 1):
            for chosen in combinations(modalities, size):
                tokens, present = {}, {}
                for m, spec in model.specs.items():
                    n = spec.slots * spec.tokens
                    there = (rng.random((6, n)) < 0.7) if m in chosen else np.zeros((6, n), bool)
                    values = rng.standard_normal((6, n, spec.dim)).astype(np.float32)
                    values[~there] = np.nan  # what is behind an absent token must not matter
                    tokens[m], present[m] = values, there
                wanted = model.fuse(
                    {m: torch.from_numpy(v) for m, v in tokens.items()},
                    {m: torch.from_numpy(v) for m, v in present.items()},
                )
                for head, got in engine.fuse(tokens, present).items():
                    differ(f"fusion.onnx ({head}, {'+'.join(chosen)})", got, wanted[head].numpy())
    return worst


def sample_inputs(config: Config, modality: str, count: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Random valid graph inputs.  -> (count, ...)"""
    shape = (count, *config.sample_shape(modality))
    if modality == "audio":
        loudness = rng.uniform(0, 0.5, (count, 1))
        return (loudness * rng.standard_normal(shape)).clip(-1, 1).astype(np.float32)
    if modality == "detections":
        return random_boxes(shape, len(config.detections.categories), rng)
    if modality == "flow":
        return (0.2 * rng.standard_normal(shape)).astype(np.float32)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def random_boxes(shape: tuple[int, ...], categories: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Boxes of a few objects per frame.  -> (..., boxes, 6)"""
    ends = np.sort(rng.random((*shape[:-1], 2, 2)), -2).reshape(*shape[:-1], 4)  # x1, y1, x2, y2
    score, kind = rng.random((*shape[:-1], 1)), rng.integers(0, categories, (*shape[:-1], 1))
    boxes = np.concatenate([ends, score, kind], -1).astype(np.float32)
    boxes[rng.random(shape[:-1]) < 0.5] = (0, 0, 0, 0, 0, NOTHING)
    return boxes


class _FlatFusion(nn.Module):
    """The fusion with one positional argument per graph input."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """tokens, present of every modality in turn -> logits of every head in turn"""
        modalities = list(self.fusion.specs)
        tokens = dict(zip(modalities, inputs[::2], strict=True))
        present = dict(zip(modalities, inputs[1::2], strict=True))
        return tuple(self.fusion(tokens, present).values())


def _write_graph(
    path: Path, module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str]
) -> None:
    """Export one module with a dynamic batch, everything inside one file."""
    batch = torch.export.Dim("batch")
    axes: Any = tuple({0: batch} for _ in inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module.eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=outputs,
            dynamic_shapes=(axes,) if isinstance(module, _FlatFusion) else axes,
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    model = onnx.load(str(path))
    model.ir_version = IR_VERSION
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes (stack traces with paths of this machine, tripling the file)."""
    items: list[Any] = [model, model.graph, *model.functions, *model.graph.node]
    items += [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]
    items += [node for function in model.functions for node in function.node]
    for item in items:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _expected(model: MultimodalModel, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, list[float]]:
    """The manifest's check values, by PyTorch."""
    tokens, present = {}, {}
    with torch.inference_mode():
        for m, spec in model.specs.items():
            tokens[m] = model.encode(m, torch.from_numpy(inputs[m])).repeat(1, spec.slots, 1)
            present[m] = torch.ones(1, spec.slots * spec.tokens, dtype=torch.bool)
        return {head: values[0].double().tolist() for head, values in model.fuse(tokens, present).items()}


def _manifest(
    folder: Path,
    name: str,
    model: MultimodalModel,
    config: Config,
    labels: Labels,
    temperature: dict[str, float],
    licence: str,
) -> dict[str, Any]:
    def graph(file: str) -> dict[str, Any]:
        return {"graph": file, "sha256": sha256((folder / file).read_bytes()), "precision": "fp32"}

    v, f, a = config.video, config.flow, config.audio
    image = {"resize": "squash", "interpolation": "area"}
    own: dict[str, dict[str, Any]] = {
        "video": {
            "input": {"dtype": "uint8", "shape": ["B", *config.sample_shape("video")], **image},
            "rate": 0,
            "context": v.context,
            **({"context_step_s": v.context_step_s} if v.context > 1 else {}),
        },
        "flow": {
            "input": {"dtype": "float32", "shape": ["B", *config.sample_shape("flow")], **image},
            "rate": 0,
            "context": f.context,
            **({"context_step_s": f.context_step_s} if f.context > 1 else {}),
            "producer": {
                "algorithm": "dis",
                "preset": f.producer_preset,
                "size": [f.producer_width, f.producer_height],
            },
        },
        "audio": {
            "input": {"dtype": "float32", "shape": ["B", *config.sample_shape("audio")]},
            "rate": a.rate,
            "context": a.context,
        },
    }
    if "detections" in model.specs:
        d = config.detections
        own["detections"] = {
            "input": {"dtype": "float32", "shape": ["B", *config.sample_shape("detections")]},
            "rate": 0,
            "context": d.context,
            **({"context_step_s": d.context_step_s} if d.context > 1 else {}),
            "categories": list(d.categories),
        }
    slots = {
        m: {"spacing_s": s.spacing_s, "slots": s.slots, "delay_s": s.delay_s, "tokens": s.tokens, "dim": s.dim}
        for m, s in model.specs.items()
    }
    return {
        "schema": 1,
        "name": name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git": _commit(),
        "preset": config.preset,
        "licence": licence,
        "window_s": config.window_s,
        "modalities": {m: {**graph(f"{m}.onnx"), **own[m], **slots[m]} for m in model.specs},
        "fusion": graph("fusion.onnx"),
        "heads": {head: list(classes) for head, classes in labels.heads.items()},
        "actions": labels.actions.tolist() if len(labels.heads) > 1 else [],
        "temperature": temperature,
        "check": {
            "seed": CHECK_SEED,
            "expected": {head: [0.0] * len(classes) for head, classes in labels.heads.items()},
            "tolerance": CHECK_TOLERANCE,
        },
    }


def _commit() -> str:
    """The commit of this code, `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
