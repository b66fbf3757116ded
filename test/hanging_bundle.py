# SPDX-License-Identifier: Apache-2.0
"""A toy bundle whose camera extractor never ends: a loop of 2^60 rounds, within ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from toy_bundle import make_toy_bundle

from karmma_ros.bundle import MANIFEST, write_manifest

ROUNDS = 2**60


def make_hanging_bundle(folder: Path, *, always: bool) -> Path:
    """:param always: whatever it is given, the check of the bundle included; else once a picture is all white."""
    make_toy_bundle(folder, modalities=("video",))
    path = folder / "video.onnx"
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["quick" if name == "tokens" else name for name in node.output]
    number = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("go_on", "kept")],
        "body",
        [
            number("round", TensorProto.INT64, []),
            number("go_on", TensorProto.BOOL, []),
            number("kept", TensorProto.FLOAT, []),
        ],
        [number("go_on_out", TensorProto.BOOL, []), number("kept_out", TensorProto.FLOAT, [])],
    )
    constants = {
        "rounds": np.array(ROUNDS, np.int64),
        "none": np.array(0, np.int64),
        "yes": np.array(True),
        "zero": np.array(0.0, np.float32),
        "white": np.array(0.0 if always else 254.5, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Cast", ["input"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMin", ["values"], ["darkest"], keepdims=0),
            helper.make_node("GreaterOrEqual", ["darkest", "white"], ["hangs"]),
            helper.make_node("Where", ["hangs", "rounds", "none"], ["count"]),
            helper.make_node("Loop", ["count", "yes", "zero"], ["nothing"], body=body),
            helper.make_node("Add", ["quick", "nothing"], ["tokens"]),
        ]
    )
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    path.write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["modalities"]["video"]["sha256"] = hashlib.sha256(data).hexdigest()
    write_manifest(folder, manifest)
    return folder
