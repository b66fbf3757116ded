# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions for a bundle's graphs: where they run, that they are what the manifest says, and that they give
the logits here that they gave where the bundle was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from karmma_ros.bundle import Bundle
from karmma_ros.errors import BundleError, EngineError
from karmma_ros.graph_file import has_external_data
from karmma_ros.manifest import GraphSpec, ModalitySpec

__all__ = ["FUSION", "Engine", "check_inputs"]

FUSION = "fusion"  # name of the fusion graph in `Engine.runs`

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "bool": "tensor(bool)"}
_QUIET = 3  # ONNX Runtime's severity "error": its warnings about graph optimisation tell a user nothing


def check_inputs(modalities: Mapping[str, ModalitySpec], seed: int) -> dict[str, npt.NDArray[Any]]:
    """The manifest's check inputs: {modality: batch of one}, drawn in manifest order from one generator."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, npt.NDArray[Any]] = {}
    for name, spec in modalities.items():
        shape = (1, *spec.input.shape)
        if spec.input.dtype == "uint8":
            inputs[name] = rng.integers(0, 256, size=shape, dtype=np.uint8)
        else:
            inputs[name] = (rng.standard_normal(size=shape) * 0.1).astype(np.float32)
    return inputs


class Engine:
    """All graphs of a bundle, loaded, verified and warm.

    Public attributes: `bundle`; `providers`, the names of the execution providers in use (`("cpu",)`); `runs`, a
    Counter of graph runs by modality and `FUSION`, without those of the constructor.
    """

    def __init__(
        self, bundle: Bundle, providers: str | Sequence[str] = "auto", threads: int = 1, *, check: bool = True
    ) -> None:
        """:param providers: names out of cpu, cuda, tensorrt, in order of preference (a sequence, or one text with
            commas), each of which must work; or "auto": cuda where this ONNX Runtime has it, else cpu.
        :param threads: threads inside one run.
        :param check: compare with the manifest's expected logits; only an exporter that is about to write them has
            reason not to.
        :raises BundleError: a graph does not load, is not what the manifest says, or fails the check.
        :raises EngineError: a provider is unknown or not usable here.
        """
        if threads < 1:
            raise EngineError(f"threads is {threads}: it must be at least 1")
        self.bundle = bundle
        self.runs: Counter[str] = Counter()
        self.retries = 0  # runs that failed and were tried again
        requested, strict = _requested(providers)
        self._extractors: dict[str, onnxruntime.InferenceSession] = {}
        for name, spec in bundle.modalities.items():
            session = _session(bundle, spec, requested, strict, threads)
            _match(bundle, spec, session, *_extractor_signature(spec))
            self._extractors[name] = session
        self._fusion = _session(bundle, bundle.fusion, requested, strict, threads)
        _match(bundle, bundle.fusion, self._fusion, *_fusion_signature(bundle))
        short = {full: name for name, full in _PROVIDERS.items()}
        self.providers = tuple(short.get(name, name) for name in self._fusion.get_providers())
        logits = self.check_logits()  # also the warm-up
        if check:
            self._compare(logits)
        self.runs.clear()

    def encode(self, modality: str, batch: npt.NDArray[Any]) -> Float32Array:
        """Runs an extractor.

        :param batch: (B, *input shape), of the manifest's dtype.
        :return: tokens (B, N, D).
        :raises ValueError: wrong shape or dtype.
        :raises EngineError: the run failed.
        """
        spec = self.bundle.modalities[modality]
        if batch.dtype != spec.input.dtype or batch.shape[1:] != spec.input.shape or not len(batch):
            raise ValueError(
                f"{modality} batch is {batch.dtype} {batch.shape}, expected {spec.input.dtype} (B, *{spec.input.shape})"
            )
        tokens = self._run(self._extractors[modality], ["tokens"], {"input": batch})[0]
        self.runs[modality] += 1
        if tokens.shape != (len(batch), spec.tokens, spec.dim):
            raise EngineError(f"{spec.graph} gave tokens of shape {tokens.shape}: export the bundle again")
        return tokens

    def fuse(self, tokens: Mapping[str, Float32Array], present: Mapping[str, BoolArray]) -> dict[str, Float32Array]:
        """Runs the fusion graph over windows.

        :param tokens: {modality: (B, slots * N, D)}; what stands behind an absent token does not matter.
        :param present: {modality: (B, slots * N)} bool.
        :return: {head: logits (B, C)}.
        :raises EngineError: the run failed.
        """
        feed: dict[str, npt.NDArray[Any]] = {}
        for name in self.bundle.modalities:
            feed[f"{name}_tokens"] = tokens[name]
            feed[f"{name}_present"] = present[name]
        heads = list(self.bundle.heads)
        outputs = self._run(self._fusion, [f"{head}_logits" for head in heads], feed)
        self.runs[FUSION] += 1
        return dict(zip(heads, outputs, strict=True))

    def _run(
        self, session: onnxruntime.InferenceSession, outputs: list[str], feed: dict[str, npt.NDArray[Any]]
    ) -> list[Float32Array]:
        """Runs a graph; once more, on the same provider, when that fails: a device may stumble."""
        try:
            return session.run(outputs, feed)
        except Exception:  # ONNX Runtime's exceptions share no base class
            self.retries += 1
        try:
            return session.run(outputs, feed)
        except Exception as error:
            raise EngineError(_one_line(error)) from None

    def check_logits(self) -> dict[str, Float32Array]:
        """{head: (C,)} for the manifest's check: its inputs, encoded and repeated into every slot, all present.

        :raises BundleError: a graph fails on valid input, or its outputs have the wrong shape.
        """
        bundle = self.bundle
        tokens: dict[str, Float32Array] = {}
        present: dict[str, BoolArray] = {}
        try:
            for name, batch in check_inputs(bundle.modalities, bundle.check.seed).items():
                slots = bundle.modalities[name].slots
                tokens[name] = np.tile(self.encode(name, batch), (1, slots, 1))
                present[name] = np.ones(tokens[name].shape[:2], dtype=np.bool_)
            logits = self.fuse(tokens, present)
        except EngineError as error:
            raise BundleError(f"{bundle.folder}: a graph fails on valid input: {error}") from None
        for head, labels in bundle.heads.items():
            if logits[head].shape != (1, len(labels)):
                raise BundleError(
                    f"{bundle.folder / bundle.fusion.graph}: {head}_logits has shape {logits[head].shape}, "
                    f"the manifest has {len(labels)} labels: export the bundle again"
                )
        return {head: values[0] for head, values in logits.items()}

    def _compare(self, logits: Mapping[str, Float32Array]) -> None:
        check = self.bundle.check
        for head, expected in check.expected.items():
            error = float(np.max(np.abs(logits[head].astype(np.float64) - np.asarray(expected))))
            if not error <= check.tolerance:  # NaN is not
                raise BundleError(
                    f"{self.bundle.folder}: the check's {head} logits are off by {error:.3g} "
                    f"(tolerance {check.tolerance:g}): these graphs are not the manifest's, or do not run correctly on "
                    f"{self.providers[0]}: export again, or try another provider"
                )


def _requested(providers: str | Sequence[str]) -> tuple[list[str], bool]:
    """ONNX Runtime's names in order of preference, and whether each must be usable."""
    names = [part.strip() for part in providers.split(",")] if isinstance(providers, str) else list(providers)
    available = onnxruntime.get_available_providers()
    if names == ["auto"]:
        return [_PROVIDERS[name] for name in ("cuda", "cpu") if _PROVIDERS[name] in available], False
    for name in names:
        if name not in _PROVIDERS:
            raise EngineError(f"execution provider {name!r} is unknown: use auto, or some of {', '.join(_PROVIDERS)}")
        if _PROVIDERS[name] not in available:
            raise EngineError(
                f"execution provider {name} is not in this ONNX Runtime {onnxruntime.__version__}: "
                "install a build that has it (for cuda: onnxruntime-gpu), or use auto"
            )
    if not names:
        raise EngineError("no execution provider given: use auto, cpu, cuda or tensorrt")
    return [_PROVIDERS[name] for name in names], True


def _session(
    bundle: Bundle, spec: GraphSpec, providers: list[str], strict: bool, threads: int
) -> onnxruntime.InferenceSession:
    """A session from verified bytes."""
    path = bundle.folder / spec.graph
    data = bundle.read_graph(spec)
    try:
        external = has_external_data(data)
    except ValueError as error:
        raise BundleError(f"{path}: not an ONNX graph ({error}): export the bundle again") from None
    if external:
        raise BundleError(f"{path}: keeps weights in other files: export it with the weights inside")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # Idle threads would spin between two frames, on a robot that has other work for its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # TF32 would round to 10 bits of mantissa without a word.
    with_options: list[Any] = [(p, {"use_tf32": "0"}) if p == _PROVIDERS["cuda"] else p for p in providers]
    try:
        session = onnxruntime.InferenceSession(data, sess_options=options, providers=with_options)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        if strict and providers != [_PROVIDERS["cpu"]]:
            raise EngineError(f"{path}: cannot be set up on {', '.join(providers)}: {_one_line(error)}") from None
        raise BundleError(f"{path}: ONNX Runtime {onnxruntime.__version__} refuses it: {_one_line(error)}") from None
    session.disable_fallback()
    # ONNX Runtime only logs when a provider cannot start, and goes on without it.
    missing = [name for name in providers if name not in session.get_providers()]
    if strict and missing:
        raise EngineError(
            f"execution provider {missing[0]} cannot start on this machine: check its driver and libraries, or use auto"
        )
    return session


Signature = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape without the batch axis)


def _extractor_signature(spec: ModalitySpec) -> tuple[Signature, Signature]:
    return (
        {"input": (spec.input.dtype, spec.input.shape)},
        {"tokens": ("float32", (spec.tokens, spec.dim))},
    )


def _fusion_signature(bundle: Bundle) -> tuple[Signature, Signature]:
    inputs: Signature = {}
    for name, spec in bundle.modalities.items():
        inputs[f"{name}_tokens"] = ("float32", (spec.slots * spec.tokens, spec.dim))
        inputs[f"{name}_present"] = ("bool", (spec.slots * spec.tokens,))
    return inputs, {f"{head}_logits": ("float32", (len(labels),)) for head, labels in bundle.heads.items()}


def _match(
    bundle: Bundle, spec: GraphSpec, session: onnxruntime.InferenceSession, inputs: Signature, outputs: Signature
) -> None:
    """Refuses a graph whose inputs and outputs are not the manifest's."""
    for kind, expected, nodes in (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs())):
        path = bundle.folder / spec.graph
        found = {node.name: node for node in nodes}
        if set(found) != set(expected):
            raise BundleError(
                f"{path}: its {kind}s are {', '.join(sorted(found))}, the manifest needs {', '.join(sorted(expected))}"
                ": export the bundle again"
            )
        for name, (dtype, shape) in expected.items():
            node = found[name]
            # A dimension that shape inference left open is None or a name; the check's run shows its size.
            fits = len(node.shape) == len(shape) + 1 and all(
                not isinstance(has, int) or has == wants for has, wants in zip(node.shape[1:], shape, strict=True)
            )
            if node.type != _ONNX_TYPES[dtype] or not fits:
                raise BundleError(
                    f"{path}: {kind} {name} is {node.type} {node.shape}, the manifest needs {dtype} {['B', *shape]}: "
                    "export the bundle again"
                )
            if isinstance(node.shape[0], int):
                raise BundleError(f"{path}: {kind} {name} has a fixed batch size: export it with a dynamic one")


def _one_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
