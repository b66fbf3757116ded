# SPDX-License-Identifier: Apache-2.0
"""One graph of a bundle in an ONNX Runtime session: from verified bytes, on the providers asked for and no others."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from karmma_ros.bundle import Bundle
from karmma_ros.errors import BundleError, EngineError
from karmma_ros.inference import engine_cache
from karmma_ros.inference.graph_file import has_external_data
from karmma_ros.inference.providers import PROVIDERS
from karmma_ros.manifest import GraphSpec

__all__ = ["FUSION", "one_line", "open_session", "session_options"]

FUSION = "fusion"  # name of the graph that is no modality's

Signature = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape without the batch axis)

_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "bool": "tensor(bool)"}
_QUIET = 3  # ONNX Runtime's severity "error": its warnings about graph optimisation tell a user nothing


def _graph_signature(bundle: Bundle, name: str) -> tuple[GraphSpec, Signature, Signature]:
    """A graph, and its inputs and outputs by the manifest."""
    if name != FUSION:
        spec = bundle.modalities[name]
        return spec, {"input": (spec.input.dtype, spec.input.shape)}, {"tokens": ("float32", (spec.tokens, spec.dim))}
    inputs: Signature = {}
    for modality, spec in bundle.modalities.items():
        inputs[f"{modality}_tokens"] = ("float32", (spec.slots * spec.tokens, spec.dim))
        inputs[f"{modality}_present"] = ("bool", (spec.slots * spec.tokens,))
    outputs: Signature = {f"{head}_logits": ("float32", (len(labels),)) for head, labels in bundle.heads.items()}
    return bundle.fusion, inputs, outputs


def open_session(
    bundle: Bundle, name: str, chain: Sequence[str], threads: int, *, engines: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session, of a graph that is what the manifest says.

    :param name: a modality, or `FUSION`.
    :param chain: names of providers, in order of preference; each must start.
    :param engines: where TensorRT keeps the graph's engine; None: where it has been built.
    :raises BundleError: the graph does not load, or is not what the manifest says.
    :raises EngineError: a provider does not start, or TensorRT's engine has not been built.
    """
    spec, inputs, outputs = _graph_signature(bundle, name)
    path = bundle.folder / spec.graph
    data = bundle.read_graph(spec)
    try:
        external = has_external_data(data)
    except ValueError as error:
        raise BundleError(f"{path}: not an ONNX graph ({error}): export the bundle again") from None
    if external:
        raise BundleError(f"{path}: keeps weights in other files: export it with the weights inside")
    options = session_options(threads)
    if "tensorrt" not in chain:
        session = _load(path, data, options, chain)
        _match(path, session, inputs, outputs)
        return session
    # Before TensorRT sees it: with its batch made static, a graph no longer looks like the manifest's.
    plain = session_options(threads)
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    open_batch = _load(path, data, plain, ("cpu",))
    _match(path, open_batch, inputs, outputs)
    for node in open_batch.get_inputs():
        options.add_free_dimension_override_by_name(str(node.shape[0]), 1)
    if engines is None:
        engines = engine_cache.engine_folder(spec, engine_cache.find_target())
        if not engines.is_dir():
            raise EngineError(f"{path}: TensorRT has no engine of it: karmma build-engine --bundle {bundle.folder}")
    return _load(path, data, options, chain, engine_cache.provider_options(spec, engines))


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How sessions are opened on a robot."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # An arena would keep the samples of the last run, or what was made of them, when their sensor is switched off.
    options.enable_cpu_mem_arena = False
    # Idle threads would spin between two frames, on a robot that has other work for its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _load(
    path: Path,
    data: bytes,
    options: onnxruntime.SessionOptions,
    chain: Sequence[str],
    tensorrt: dict[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    lacking = _find_cuda(chain)
    # TF32 would round to 10 bits of mantissa without a word.
    settings: dict[str, dict[str, str]] = {"tensorrt": tensorrt or {}, "cuda": {"use_tf32": "0"}, "cpu": {}}
    providers: list[Any] = [(PROVIDERS[name], settings[name]) for name in chain]
    try:
        session = onnxruntime.InferenceSession(data, sess_options=options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        if list(chain) != ["cpu"]:
            raise EngineError(f"{path}: cannot be set up on {', '.join(chain)}: {one_line(error)}") from None
        raise BundleError(f"{path}: ONNX Runtime {onnxruntime.__version__} refuses it: {one_line(error)}") from None
    session.disable_fallback()
    # ONNX Runtime only logs when a provider cannot start, and goes on without it.
    missing = [name for name in chain if PROVIDERS[name] not in session.get_providers()]
    if missing:
        reason = f" ({lacking})" if lacking else ""
        raise EngineError(
            f"execution provider {missing[0]} cannot start on this machine{reason}: check its driver and libraries, or "
            "use auto"
        )
    return session


def _find_cuda(chain: Sequence[str]) -> str:
    """Makes CUDA's libraries known that pip has installed (`onnxruntime-gpu[cuda,cudnn]`): nothing else looks there.

    :return: the first that it misses, needed or not.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)  # from 1.21 on
    if preload is None or not {"cuda", "tensorrt"} & set(chain):
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        preload()
    return next((line for line in said.getvalue().splitlines() if line.startswith("Failed to load")), "")


def _match(path: Path, session: onnxruntime.InferenceSession, inputs: Signature, outputs: Signature) -> None:
    """Refuses a graph whose inputs and outputs are not the manifest's."""
    try:
        ends = {
            kind: {node.name: (node.type, node.shape) for node in nodes}
            for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs()))
        }
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: names in it are no text ({error}): export the bundle again") from None
    for kind, expected in (("input", inputs), ("output", outputs)):
        found = ends[kind]
        if set(found) != set(expected):
            raise BundleError(
                f"{path}: its {kind}s are {', '.join(sorted(found))}, the manifest needs {', '.join(sorted(expected))}"
                ": export the bundle again"
            )
        for name, (dtype, shape) in expected.items():
            of_type, of_shape = found[name]
            # A dimension that shape inference left open is None or a name; the check's run shows its size.
            fits = len(of_shape) == len(shape) + 1 and all(
                not isinstance(has, int) or has == wants for has, wants in zip(of_shape[1:], shape, strict=True)
            )
            if of_type != _ONNX_TYPES[dtype] or not fits:
                raise BundleError(
                    f"{path}: {kind} {name} is {of_type} {of_shape}, the manifest needs {dtype} {['B', *shape]}: "
                    "export the bundle again"
                )
            if isinstance(of_shape[0], int):
                raise BundleError(f"{path}: {kind} {name} has a fixed batch size: export it with a dynamic one")


def one_line(error: BaseException) -> str:
    """An exception of ONNX Runtime in one line of at most 300 characters."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
