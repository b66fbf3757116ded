# SPDX-License-Identifier: Apache-2.0
"""Bundles with graphs in FP16 and INT8: what they say, how large they are, and that the robot's side runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

import onnx

from karmma_ros.bundle import load_bundle
from karmma_ros.errors import UsageError
from karmma_ros.recognizer import Recognizer, Status
from karmma_ros.runtime import Engine, check_inputs
from karmma_training.bundle.precision import parse_precision
from karmma_training.cli.export import export

if TYPE_CHECKING:
    from fixtures.training import TinyRun

GRAPHS = ("video", "flow", "audio", "fusion")


def precisions(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "bundle.json").read_text())
    return {name: {**manifest["modalities"], "fusion": manifest["fusion"]}[name]["precision"] for name in GRAPHS}


def size(folder: Path, graph: str) -> int:
    return (folder / f"{graph}.onnx").stat().st_size


def operators(folder: Path, graph: str) -> list[str]:
    return [node.op_type for node in onnx.load(str(folder / f"{graph}.onnx")).graph.node]


def test_precisions_are_given_for_all_graphs_or_each() -> None:
    modalities = ("video", "flow", "audio")
    assert parse_precision("int8", modalities) == dict.fromkeys(GRAPHS, "int8")
    assert parse_precision("video=int8, fusion=fp16", modalities) == {"video": "int8", "fusion": "fp16"}
    assert parse_precision("int8,audio=fp32", modalities) == dict.fromkeys(("video", "flow", "fusion"), "int8")
    assert parse_precision("fp32", modalities) == {}
    with pytest.raises(UsageError, match="no precision 'int4'"):
        parse_precision("int4", modalities)
    with pytest.raises(UsageError, match="no graph 'lidar'"):
        parse_precision("lidar=int8", modalities)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_say_nearly_the_same(tiny_run: TinyRun, tmp_path: Path, precision: str) -> None:
    export(tiny_run.run, tmp_path / "small", precision=precision, store=tiny_run.store)
    small = tmp_path / "small"
    assert precisions(small) == dict.fromkeys(GRAPHS, precision)
    for graph in GRAPHS:
        assert size(small, graph) < size(tiny_run.bundle, graph), graph
    assert f"video in {precision.upper()}" in (small / "README.md").read_text()
    exact, fewer = Engine(load_bundle(tiny_run.bundle), "cpu"), Engine(load_bundle(small), "cpu")  # passes its check
    recording = tiny_run.validation[0]
    differences = []
    for modality, spec in exact.bundle.modalities.items():
        if modality == "audio":
            batch = recording.sound(recording.sound_stop_ns, spec.context)[np.newaxis]
        else:
            batch = np.asarray(recording.arrays[modality][:8])[:, np.newaxis]
            batch = batch.astype(spec.input.dtype)
        one, other = exact.encode(modality, batch), fewer.encode(modality, batch)
        differences.append(float(np.abs(one - other).max()))
        for a, b in zip(one.reshape(-1, spec.dim), other.reshape(-1, spec.dim), strict=True):
            assert np.corrcoef(a, b)[0, 1] > 0.95, modality
    assert max(differences) > 0, "fewer bits were used"
    inputs = check_inputs(exact.bundle.modalities, 3)
    assert set(inputs) == set(exact.bundle.modalities)
    assert Recognizer(small).predict(0).status is Status.NO_INPUT


def test_what_sees_raw_sensors_stays_in_fp32(tiny_run: TinyRun, tmp_path: Path) -> None:
    export(tiny_run.run, tmp_path / "some", precision="video=int8,audio=int8", store=tiny_run.store)
    some = tmp_path / "some"
    assert precisions(some) == {"video": "int8", "flow": "fp32", "audio": "int8", "fusion": "fp32"}
    assert size(some, "flow") == size(tiny_run.bundle, "flow")
    for graph in ("video", "audio"):
        model = onnx.load(str(some / f"{graph}.onnx"))
        made_by = {output: node.op_type for node in model.graph.node for output in node.output}
        raw = [n for n in model.graph.node if n.op_type == "Conv" and made_by.get(n.input[0]) != "DequantizeLinear"]
        quantised = operators(some, graph).count("Conv") - len(raw)
        assert quantised >= 2, "the rest is quantised"
        assert raw, "the first convolution is not"
        if graph == "audio":
            kinds = [node.op_type for node in model.graph.node]
            early = [n for n in model.graph.node[: kinds.index("Log")] if n.op_type == "Conv"]
            assert early
            assert all(made_by.get(name) != "DequantizeLinear" for n in early for name in n.input), "the spectrogram"
