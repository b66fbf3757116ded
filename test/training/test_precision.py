# SPDX-License-Identifier: Apache-2.0
"""Bundles with graphs in FP16 and INT8: what they say, how large they are, and that the robot's side runs them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from toy_bundle import make_toy_bundle

import karmma_training.cli.export
from karmma_ros.bundle import load_bundle
from karmma_ros.cli.main import main
from karmma_ros.errors import UsageError
from karmma_ros.recognizer import Recognizer, Status
from karmma_ros.runtime import Engine, check_inputs
from karmma_ros.window import SlotSpec
from karmma_training.bundle.precision import (
    SAMPLES,
    calibration_samples,
    parse_precision,
    reduce_bundle,
    reduced_copy,
)
from karmma_training.cli.export import export
from karmma_training.data.recording import Context
from karmma_training.evaluation.bundle_predictor import BundlePredictor

if TYPE_CHECKING:
    from fixtures.training import TinyRun

GRAPHS = ("video", "flow", "audio", "fusion")


class Counted(SimpleNamespace):
    """A recording whose samples are its own number and theirs."""

    def __init__(self, number: int, frames: int) -> None:
        super().__init__(number=number, modalities={"video"}, stamps={"video": np.arange(frames)})

    def samples(self, modality: str, which: np.ndarray[Any, Any], context: Context) -> np.ndarray[Any, Any]:
        return np.array([[self.number, which[0]]])


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


def test_a_cast_that_is_there_twice_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ONNX Runtime before 1.32 leaves it, which then refuses the graph."""

    def convert(*given: Any, **how: Any) -> onnx.ModelProto:
        model: onnx.ModelProto = convert_float_to_float16(*given, **how)
        model.graph.node.extend([copy.deepcopy(node) for node in model.graph.node if node.op_type == "Cast"])
        return model

    monkeypatch.setattr("onnxruntime.transformers.float16.convert_float_to_float16", convert)
    bundle = make_toy_bundle(tmp_path / "toy", modalities=["video"])
    reached = reduce_bundle(bundle, parse_precision("fp16", ["video"]), {})
    assert reached == {"video": "fp16", "fusion": "fp16"}
    Engine(load_bundle(bundle), "cpu")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_say_nearly_the_same(tiny_run: TinyRun, tmp_path: Path, precision: str) -> None:
    export(tiny_run.run, tmp_path / "small", precision=precision, store=tiny_run.store)
    small = tmp_path / "small"
    assert precisions(small) == dict.fromkeys(GRAPHS, precision)
    for graph in GRAPHS:
        assert size(small, graph) < size(tiny_run.bundle, graph), graph
    assert f"Precision: all graphs in {precision.upper()}." in (small / "README.md").read_text()
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


def test_a_bundle_becomes_one_in_fewer_bits(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As exported from its run in fewer bits at once."""
    half, whole = tmp_path / "half", str(tiny_run.bundle)
    assert main(["export", whole, "--precision", "fp16", "--out", str(half)]) == 0
    export(tiny_run.run, tmp_path / "same", precision="fp16")
    for graph in GRAPHS:
        assert (half / f"{graph}.onnx").read_bytes() == (tmp_path / "same" / f"{graph}.onnx").read_bytes()
    assert load_bundle(half).name == "half"
    card = (half / "README.md").read_text()
    assert card.startswith("# half\n")
    assert "Made from `tiny`: all graphs in FP16." in card
    assert "Not evaluated on the test split yet" in card
    small = ["export", whole, "--precision", "video=int8,fusion=int8", "--out", str(tmp_path / "small")]
    assert main(small) == 2
    assert "say whose with --data" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()
    assert main([*small, "--data", "tabletop", "--store", str(tiny_run.store)]) == 0
    assert precisions(tmp_path / "small") == {"video": "int8", "flow": "fp32", "audio": "fp32", "fusion": "int8"}
    Engine(load_bundle(tmp_path / "small"), "cpu")  # passes its check
    capsys.readouterr()
    for given, said in (
        ([str(half), "--precision", "int8"], "in fewer bits already"),
        ([whole], "--precision says in how many bits"),
        ([whole, "--precision", "fp16", "--licence", "MIT"], "keeps its own"),
        ([str(tiny_run.run), "--data", "tabletop"], "a run is calibrated on its own"),
    ):
        assert main(["export", *given, "--out", str(tmp_path / "none")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_window_among_others_is_what_it_is_alone(tiny_run: TinyRun, tmp_path: Path) -> None:
    """As on the robot: INT8 scales by the largest of all that a run is given."""
    bundle = reduced_copy(load_bundle(tiny_run.bundle), tmp_path / "small", "fusion=int8", {})
    predictor, rng = BundlePredictor(bundle, 1, "cpu"), np.random.default_rng(0)
    shapes = {m: (2, spec.slots * spec.tokens, spec.dim) for m, spec in bundle.modalities.items()}
    tokens = {m: rng.standard_normal(shape).astype(np.float32) for m, shape in shapes.items()}
    for values in tokens.values():
        values[1] *= 100
    present = {m: np.ones(shape[:2], np.bool_) for m, shape in shapes.items()}
    together = predictor.fuse(tokens, present)
    for i in range(2):
        one = slice(i, i + 1)
        alone = predictor.fuse({m: v[one] for m, v in tokens.items()}, {m: v[one] for m, v in present.items()})
        for head, logits in alone.items():
            np.testing.assert_array_equal(logits[0], together[head][i])


def test_norms_stay_in_fp32_and_graphs_plain(tiny_run: TinyRun, tmp_path: Path) -> None:
    for precision in ("fp16", "int8"):
        export(tiny_run.run, tmp_path / precision, precision=precision, store=tiny_run.store)
    for path in sorted(tmp_path.glob("*/*.onnx")):
        model = onnx.load(str(path))
        (opset,) = model.opset_import
        assert opset.domain == "", "old runtimes read it"
        assert 18 <= opset.version <= 20
        assert model.ir_version == 10
    graph = onnx.load(str(tmp_path / "fp16" / "fusion.onnx")).graph
    casts = {node.output[0]: node.attribute[0].i for node in graph.node if node.op_type == "Cast"}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert {casts.get(name) for node in norms for name in node.input} == {onnx.TensorProto.FLOAT}
    weights = {value.name: value.data_type for value in graph.initializer}
    assert {weights[node.input[1]] for node in graph.node if node.op_type == "Gemm"} == {onnx.TensorProto.FLOAT16}


def test_calibration_draws_evenly_from_many_recordings() -> None:
    specs, seen = {"video": SlotSpec(10, 0.2, 0.0, 1, 4)}, {"video": Context()}
    few = calibration_samples([Counted(i, 1000) for i in range(3)], specs, seen)["video"]
    many = calibration_samples([Counted(i, 10) for i in range(5000)], specs, seen)["video"]
    for samples, recordings, frames in ((few, 3, 1000), (many, 5000, 10)):
        assert len(samples) == SAMPLES
        drawn = np.concatenate([sample.reshape(1, 2) for sample in samples])
        assert len(np.unique(drawn[:, 0])) == min(recordings, SAMPLES)
        assert drawn[:, 1].max() > 0.9 * (frames - 1), "not always the first"
        assert abs(drawn[:, 1].mean() - frames / 2) < 0.1 * frames
    with pytest.raises(UsageError, match="no validation recording has video"):
        calibration_samples([Counted(0, 0)], specs, seen)


def test_a_graph_without_anything_to_quantise_says_fp32(tmp_path: Path) -> None:
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("detections", "audio"))
    before = (bundle / "detections.onnx").read_bytes()
    sample = check_inputs(load_bundle(bundle).modalities, 0)["detections"]
    reached = reduce_bundle(bundle, {"detections": "int8", "fusion": "int8"}, {"detections": [sample]})
    assert reached == {"fusion": "int8"}
    assert (bundle / "detections.onnx").read_bytes() == before
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert manifest["modalities"]["detections"]["precision"] == "fp32"
    assert manifest["fusion"]["precision"] == "int8"
    Engine(load_bundle(bundle), "cpu")  # passes its check


def test_a_copy_in_which_nothing_was_quantised_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("detections", "audio"))
    sample = check_inputs(load_bundle(bundle).modalities, 0)["detections"]
    monkeypatch.setattr(karmma_training.cli.export, "_samples", lambda *_: {"detections": [sample]})
    command = ["export", str(bundle), "--precision", "detections=int8", "--data", "tabletop"]
    assert main([*command, "--out", str(tmp_path / "copy")]) == 2
    assert "nothing to quantise" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


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
