# SPDX-License-Identifier: Apache-2.0
"""Builds a small but real bundle, so that tests run the whole core with real ONNX Runtime and without torch.

The graphs are built with onnx.helper and have fixed random weights. They do real, if small, mathematics: pooled image
and flow means and a bank of sinusoids over audio, each through a dense layer, and a fusion that averages the present
tokens of each modality with a bias for each position. The check's logits are computed by onnx's own reference
evaluator, so that ONNX Runtime is compared with something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from karmma_ros.bundle import write_manifest
from karmma_ros.manifest import parse_manifest
from karmma_ros.runtime import check_inputs

VERBS = ("idle", "pour", "stir", "cut")
NOUNS = ("none", "bottle", "cup", "bread")
CATEGORIES = ("hand", "cup")
BOXES = 4  # that the network for detections takes
ACTIONS = ((0, 0), (1, 1), (1, 2), (2, 2), (3, 3))

_GRID = 4  # images and flow are pooled to a grid of so many cells a side
_SINUSOIDS = 12
_WIDTH = 16  # of the fusion's hidden layer


def make_toy_bundle(
    folder: str | Path,
    *,
    name: str = "toy",
    modalities: Sequence[str] = ("video", "flow", "audio"),
    window_s: float = 1.0,
    rate: int = 16_000,
    size: tuple[int, int] = (24, 32),
    tokens: int = 2,
    dim: int = 6,
    seed: int = 0,
    clip: int = 1,
    slots: int = 0,
    single_head: bool = False,
    temperature: float = 1.0,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a bundle.

    :param window_s: the window; video and flow have slots of 1/30 s (flow delayed by one), audio of 0.1 s (delayed by
        one) with a context of 0.2 s.
    :param rate: [Hz] of the audio.
    :param size: (h, w) of images and flow, multiples of 4.
    :param tokens, dim: tokens per sample and their length.
    :param seed: of the weights: other seeds are other networks.
    :param clip: frames, and flow fields, that an extractor sees at once, 1/15 s apart.
    :param slots: into which every modality's window is divided, instead of those; 0: those.
    :param single_head: one head, `action`, in place of verb and noun.
    :param changes: manifest fields to replace at the top level, before it is written (it must stay valid).
    :return: the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    specs: dict[str, dict[str, Any]] = {}
    graphs: dict[str, onnx.ModelProto] = {}
    for modality in modalities:
        specs[modality] = _modality(modality, window_s, rate, size, clip) | {
            **({"slots": slots, "spacing_s": window_s / slots} if slots else {}),
            "graph": f"{modality}.onnx",
            "precision": "fp32",
            "tokens": tokens,
            "dim": dim,
        }
        graphs[modality] = _extractor(modality, specs[modality], rng)
    labels = {"action": ("idle", "pour bottle", "cut bread")} if single_head else {"verb": VERBS, "noun": NOUNS}
    graphs["fusion"] = _fusion(specs, {head: len(names) for head, names in labels.items()}, rng)

    for graph, model in graphs.items():
        data = model.SerializeToString()
        (folder / f"{graph}.onnx").write_bytes(data)
        if graph in specs:
            specs[graph]["sha256"] = hashlib.sha256(data).hexdigest()
    fusion = (folder / "fusion.onnx").read_bytes()
    manifest: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "created": "2026-01-01T00:00:00Z",
        "git": "",
        "preset": "toy",
        "licence": "Apache-2.0",
        "window_s": window_s,
        "modalities": specs,
        "fusion": {"graph": "fusion.onnx", "sha256": hashlib.sha256(fusion).hexdigest(), "precision": "fp32"},
        "heads": {head: list(names) for head, names in labels.items()},
        "actions": [] if single_head else [list(pair) for pair in ACTIONS],
        "temperature": dict.fromkeys(labels, temperature),
        "check": {
            "seed": seed,
            "expected": {head: [0.0] * len(names) for head, names in labels.items()},
            "tolerance": 1e-4,
        },
    }
    manifest["check"]["expected"] = _expected(manifest, graphs)
    manifest |= changes or {}
    write_manifest(folder, manifest)
    return folder


def _modality(modality: str, window_s: float, rate: int, size: tuple[int, int], clip: int) -> dict[str, Any]:
    if modality == "audio":
        context = rate // 5
        return {
            "input": {"dtype": "float32", "shape": ["B", context]},
            "rate": rate,
            "context": context,
            "spacing_s": 0.1,
            "slots": max(1, round(window_s / 0.1)),
            "delay_s": 0.1,
        }
    if modality == "detections":
        return {
            "input": {"dtype": "float32", "shape": ["B", clip, BOXES, 6]},
            "rate": 0,
            "context": clip,
            **({"context_step_s": 1 / 15} if clip > 1 else {}),
            "spacing_s": 1 / 30,
            "slots": max(1, round(window_s * 30)),
            "delay_s": 0.0,
            "categories": list(CATEGORIES),
        }
    video = modality == "video"
    spec: dict[str, Any] = {
        "input": {
            "dtype": "uint8" if video else "float32",
            "shape": ["B", clip, *size, 3 if video else 2],
            "resize": "squash",
            "interpolation": "area",
        },
        "rate": 0,
        "context": clip,
        **({"context_step_s": 1 / 15} if clip > 1 else {}),
        "spacing_s": 1 / 30,
        "slots": max(1, round(window_s * 30)),
        "delay_s": 0.0 if video else 1 / 30,
    }
    if not video:
        spec["producer"] = {"algorithm": "dis", "preset": "fast", "size": [64, 48]}
    return spec


class _Builder:
    """Collects nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def dense(self, value: str, width_in: int, width_out: int, rng: np.random.Generator, output: str = "") -> str:
        weight = self.constant(rng.standard_normal((width_in, width_out)) / np.sqrt(width_in))
        return self.add("Gemm", value, weight, self.constant(0.1 * rng.standard_normal(width_out)), output=output)

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "toy", inputs, outputs, initializer=self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        return model


def _extractor(modality: str, spec: Mapping[str, Any], rng: np.random.Generator) -> onnx.ModelProto:
    build = _Builder()
    if modality == "audio":
        n = spec["context"]
        time_s = np.arange(n) / spec["rate"]
        bank = np.sin(2 * np.pi * np.geomspace(100, spec["rate"] / 4, _SINUSOIDS) * time_s[:, np.newaxis])
        value = build.add("MatMul", "input", build.constant(bank * 10 / n))
        width = _SINUSOIDS
    elif modality == "detections":
        width = int(np.prod(spec["input"]["shape"][1:]))
        value = build.add("Reshape", "input", build.constant([-1, width], np.int64))
    else:
        _, context, height, width_px, channels = spec["input"]["shape"]
        value = build.add("Cast", "input", to=TensorProto.FLOAT)
        value = build.add("Mul", value, build.constant(1 / 255 if modality == "video" else 1.0))
        shape = [-1, context, _GRID, height // _GRID, _GRID, width_px // _GRID, channels]
        value = build.add("Reshape", value, build.constant(shape, np.int64))
        value = build.add("ReduceMean", value, build.constant([3, 5], np.int64), keepdims=0)
        width = context * _GRID * _GRID * channels
        value = build.add("Reshape", value, build.constant([-1, width], np.int64))
    value = build.add("Tanh", build.dense(value, width, spec["tokens"] * spec["dim"], rng))
    build.add("Reshape", value, build.constant([-1, spec["tokens"], spec["dim"]], np.int64), output="tokens")
    element = TensorProto.UINT8 if modality == "video" else TensorProto.FLOAT
    return build.model(
        [helper.make_tensor_value_info("input", element, spec["input"]["shape"])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["B", spec["tokens"], spec["dim"]])],
    )


def _fusion(
    modalities: Mapping[str, Mapping[str, Any]], heads: Mapping[str, int], rng: np.random.Generator
) -> onnx.ModelProto:
    build = _Builder()
    inputs = []
    votes = []
    for name, spec in modalities.items():
        count, dim = spec["slots"] * spec["tokens"], spec["dim"]
        inputs.append(helper.make_tensor_value_info(f"{name}_tokens", TensorProto.FLOAT, ["B", count, dim]))
        inputs.append(helper.make_tensor_value_info(f"{name}_present", TensorProto.BOOL, ["B", count]))
        present = build.add("Unsqueeze", f"{name}_present", build.constant([2], np.int64))
        tokens = build.add("Where", present, f"{name}_tokens", build.constant(0.0))
        value = build.add("MatMul", tokens, build.constant(rng.standard_normal((dim, _WIDTH))))
        value = build.add("Tanh", build.add("Add", value, build.constant(rng.standard_normal((count, _WIDTH)))))
        value = build.add("Where", present, value, build.constant(0.0))
        axis = build.constant([1], np.int64)
        total = build.add("ReduceSum", value, axis, keepdims=0)
        number = build.add("ReduceSum", build.add("Cast", present, to=TensorProto.FLOAT), axis, keepdims=0)
        votes.append(build.add("Div", total, build.add("Max", number, build.constant(1.0))))
    joined = build.add("Concat", *votes, axis=1)
    outputs = []
    for head, classes in heads.items():
        build.dense(joined, _WIDTH * len(votes), classes, rng, output=f"{head}_logits")
        outputs.append(helper.make_tensor_value_info(f"{head}_logits", TensorProto.FLOAT, ["B", classes]))
    return build.model(inputs, outputs)


def _expected(manifest: Mapping[str, Any], graphs: Mapping[str, onnx.ModelProto]) -> dict[str, list[float]]:
    typed = parse_manifest(manifest, "toy")
    feed: dict[str, npt.NDArray[Any]] = {}
    for name, batch in check_inputs(typed.modalities, typed.check.seed).items():
        tokens = np.asarray(ReferenceEvaluator(graphs[name]).run(["tokens"], {"input": batch})).squeeze(0)
        feed[f"{name}_tokens"] = np.tile(tokens, (1, typed.modalities[name].slots, 1)).astype(np.float32)
        feed[f"{name}_present"] = np.ones(feed[f"{name}_tokens"].shape[:2], dtype=np.bool_)
    fusion = ReferenceEvaluator(graphs["fusion"])
    return {
        head: np.asarray(fusion.run([f"{head}_logits"], feed), dtype=np.float64).ravel().tolist()
        for head in typed.heads
    }
