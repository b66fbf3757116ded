# SPDX-License-Identifier: Apache-2.0
"""Graphs of a bundle in fewer bits: FP16, or INT8 where it is worth it.

FP16: all of the graph but its norms, with FP32 inputs and outputs; for GPUs, since a CPU computes it in FP32 all the
same.
INT8, extractors: convolutions, statically quantised with samples of the validation split. What comes before the first
convolution that learns (the spectrogram, the scaling of flow) and that one stay in FP32: they see the raw range of a
sensor. Weights have 7 bits, so that processors without VNNI do not saturate and all give the same.
INT8, fusion: its products, dynamically quantised.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from karmma_ros.bundle import MANIFEST, Bundle, load_bundle, sha256, write_manifest
from karmma_ros.errors import UsageError
from karmma_ros.inference.session import FUSION
from karmma_ros.manifest import decode_manifest
from karmma_ros.runtime import Engine
from karmma_ros.window import SlotSpec
from karmma_training.data.grid import audio_stamps
from karmma_training.data.recording import Context, Recording

__all__ = [
    "PRECISIONS",
    "calibration_samples",
    "copy_graphs",
    "megabytes",
    "parse_precision",
    "reduce_bundle",
    "reduced_copy",
]

PRECISIONS = ("fp32", "fp16", "int8")
TOLERANCE = 0.1  # of the check's logits: a rounding that falls the other way on another machine moves them so far
SAMPLES = 200  # that INT8 is calibrated with, per modality
# What TensorRT would otherwise round: the sum of squares in a norm overflows half precision.
FP32_OPERATORS = ("LayerNormalization",)
QUANTISED = {"DequantizeLinear", "DynamicQuantizeLinear"}  # operators of a graph in INT8

Samples = Mapping[str, Sequence[npt.NDArray[Any]]]  # modality -> graph inputs (1, ...)


def parse_precision(text: str, modalities: Sequence[str]) -> dict[str, str]:
    """`int8` for all graphs, or `video=int8,flow=fp16`: {graph: precision}, those in FP32 left out.

    :raises UsageError: an unknown precision or graph.
    """
    graphs = [*modalities, FUSION]
    chosen: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().rpartition("=")
        if value not in PRECISIONS:
            raise UsageError(f"no precision {value!r}: choose from {', '.join(PRECISIONS)}")
        if name and name not in graphs:
            raise UsageError(f"no graph {name!r}: this bundle has {', '.join(graphs)}")
        chosen |= dict.fromkeys([name] if name else graphs, value)
    return {graph: value for graph, value in chosen.items() if value != "fp32"}


def calibration_samples(
    recordings: Sequence[Recording], specs: Mapping[str, SlotSpec], seen: Mapping[str, Context]
) -> Samples:
    """Samples of the modalities in `specs`, spread evenly over the recordings.

    :raises UsageError: the recordings lack a modality.
    """
    samples: dict[str, list[npt.NDArray[Any]]] = {}
    for modality, spec in specs.items():
        having = [r for r in recordings if modality in r.modalities]
        which = [
            audio_stamps(r, spec, seen[modality]) if modality == "audio" else np.arange(len(r.stamps[modality]))
            for r in having
        ]
        ends = np.cumsum([0, *map(len, which)])
        if not ends[-1]:
            raise UsageError(f"no validation recording has {modality}: INT8 cannot be calibrated for it")
        chosen = np.unique(np.linspace(0, ends[-1] - 1, SAMPLES).round().astype(np.int64))
        numbers = np.searchsorted(ends, chosen, side="right") - 1
        samples[modality] = [
            having[number].samples(modality, which[number][at : at + 1], seen[modality])
            for number, at in zip(numbers, chosen - ends[numbers], strict=True)
        ]
    return samples


def reduce_bundle(folder: Path, precisions: Mapping[str, str], samples: Samples) -> dict[str, str]:
    """Converts graphs of a bundle in place; the manifest's check is then what they give on this CPU.

    :param precisions: see `parse_precision`; samples: of the modalities in INT8.
    :return: the precisions reached: a graph in which there is nothing to quantise stays in FP32.
    """
    if not precisions:
        return {}
    reached: dict[str, str] = {}
    manifest = decode_manifest((folder / MANIFEST).read_bytes(), MANIFEST)
    entries: dict[str, Any] = {**manifest["modalities"], FUSION: manifest["fusion"]}
    for graph, precision in precisions.items():
        path = folder / entries[graph]["graph"]
        exact = path.read_bytes()
        if precision == "fp16":
            _to_fp16(path)
        elif graph == FUSION:
            _quantise_products(path)
        else:
            _quantise_convolutions(path, samples[graph])
        _forget_unused_domains(path)
        if precision == "int8" and not QUANTISED & {node.op_type for node in onnx.load(str(path)).graph.node}:
            path.write_bytes(exact)
            continue
        reached[graph] = precision
        entries[graph] |= {"precision": precision, "sha256": sha256(path.read_bytes())}
    if not reached:
        return reached
    write_manifest(folder, manifest)
    logits = Engine(load_bundle(folder), "cpu", check=False).check_logits()
    manifest["check"]["expected"] = {head: values.astype(float).tolist() for head, values in logits.items()}
    manifest["check"]["tolerance"] = TOLERANCE
    write_manifest(folder, manifest)
    return reached


def reduced_copy(bundle: Bundle, folder: Path, text: str, samples: Samples) -> Bundle:
    """A bundle's copy in fewer bits; `text`: see `parse_precision`, `samples`: `reduce_bundle`."""
    folder.mkdir()
    copy_graphs(bundle, folder, bundle.name)
    reduce_bundle(folder, parse_precision(text, list(bundle.modalities)), samples)
    return load_bundle(folder)


def copy_graphs(bundle: Bundle, folder: Path, name: str) -> None:
    """Graphs and manifest of a bundle under another name, in an existing folder."""
    for spec in (*bundle.modalities.values(), bundle.fusion):
        shutil.copy(bundle.folder / spec.graph, folder)
    manifest = decode_manifest((bundle.folder / MANIFEST).read_bytes(), MANIFEST)
    write_manifest(folder, {**manifest, "name": name})


def megabytes(folder: Path) -> float:
    """Of a bundle's graphs."""
    return sum(path.stat().st_size for path in folder.glob("*.onnx")) / 1e6


def _forget_unused_domains(path: Path) -> None:
    """Quantisation names operator sets that no node is of, and that old runtimes may not know."""
    model = onnx.load(str(path))
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, str(path))


def _to_fp16(path: Path) -> None:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    left_out = [*DEFAULT_OP_BLOCK_LIST, *FP32_OPERATORS]
    model = convert_float_to_float16(onnx.load(str(path)), keep_io_types=True, op_block_list=left_out)
    del model.graph.value_info[:]  # of the types before
    # ONNX Runtime before 1.32 casts a weight once for every node that reads it, each time under the same name
    different = {tuple(node.output): node for node in model.graph.node}
    del model.graph.node[:]
    model.graph.node.extend(different.values())
    onnx.save(model, str(path))


def _quantise_products(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(path) as source:
        quantize_dynamic(source, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def _quantise_convolutions(path: Path, samples: Sequence[npt.NDArray[Any]]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[npt.NDArray[Any]] = iter(samples)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            sample = next(self._left, None)
            return None if sample is None else {"input": sample}

    with _prepared(path) as source:
        quantize_static(
            source,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_front_end(onnx.load(source)),
        )


def _front_end(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions up to the first that learns: all before the last logarithm, and one more."""
    kinds = [node.op_type for node in model.graph.node]
    after = len(kinds) - kinds[::-1].index("Log") if "Log" in kinds else 0
    convolutions = [i for i, kind in enumerate(kinds) if kind == "Conv"]
    early = [i for i in convolutions if i < after] + [i for i in convolutions if i >= after][:1]
    return [model.graph.node[i].name for i in early]


@contextmanager
def _prepared(path: Path) -> Iterator[str]:
    """A copy of a graph with shapes inferred and constants folded, as quantisation wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        copy = str(Path(folder) / path.name)
        quant_pre_process(str(path), copy, skip_symbolic_shape=True)
        yield copy
