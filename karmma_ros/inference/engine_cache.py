# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines: built ahead of time by `karmma build-engine`, kept in the user's cache folder, found by the node.

Compiling a graph takes TensorRT minutes, so a node never does; it takes engines that were made for just this graph on
just this kind of GPU, or none. A folder is there whole or not at all, so one that is there can be used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from karmma_ros.errors import EngineError
from karmma_ros.inference import gpu
from karmma_ros.manifest import GraphSpec

__all__ = ["Target", "all_built", "cache_root", "engine_folder", "find_target", "provider_options"]


@dataclass(frozen=True)
class Target:
    """What an engine is made for besides its graph."""

    tensorrt: str  # version
    capability: str  # the GPU's compute capability


def find_target() -> Target:
    """This machine.

    :raises EngineError: there is no GPU, or no TensorRT.
    """
    gpus = gpu.find_gpus()
    if not gpus:
        raise EngineError("TensorRT needs an NVIDIA GPU with its driver, and none is found: use providers cpu")
    version = gpu.tensorrt_version()
    if not version:
        raise EngineError("TensorRT's library (libnvinfer) is not found: install TensorRT, or use providers cuda")
    return Target(version, gpus[0].capability)  # ONNX Runtime takes the first unless told otherwise


def cache_root() -> Path:
    """Where engines are kept: `$XDG_CACHE_HOME/karmma/engines`, by default `~/.cache/karmma/engines`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "karmma" / "engines"


def engine_folder(graph: GraphSpec, target: Target) -> Path:
    """Where the engine of a graph is, or would be. Another graph, precision, version or kind of GPU: another folder."""
    parts = (graph.sha256, graph.precision, target.tensorrt, target.capability, onnxruntime.__version__)
    return cache_root() / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def all_built(graphs: Iterable[GraphSpec], target: Target) -> bool:
    """Whether no graph would have to be compiled first."""
    return all(engine_folder(graph, target).is_dir() for graph in graphs)


def provider_options(graph: GraphSpec, folder: Path) -> dict[str, str]:
    """Options of ONNX Runtime's TensorRT provider that read the engine in `folder`, or write it there.

    FP16 is used where the graph itself is FP16, and nowhere else; its norms are computed in FP32 even there.
    """
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": "1" if graph.precision == "fp16" else "0",
        "trt_layer_norm_fp32_fallback": "1",
    }
