# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions for a bundle's graphs: where they run, that they are what the manifest says, and that they give
the logits here that they gave where the bundle was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from karmma_ros.bundle import Bundle
from karmma_ros.errors import BundleError, EngineError
from karmma_ros.inference import engine_cache
from karmma_ros.inference.providers import attempts, available, short_names
from karmma_ros.inference.session import FUSION, one_line, open_session
from karmma_ros.manifest import ModalitySpec

__all__ = ["FUSION", "Engine", "check_inputs"]

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


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

    Public attributes: `bundle`; `providers`, the names of the execution providers in use (`("cpu",)`); `passed_over`,
    why "auto" did not take better ones, a line each; `runs`, a Counter of graph runs by modality and `FUSION`, without
    those of the constructor.
    """

    def __init__(
        self, bundle: Bundle, providers: str | Sequence[str] = "auto", threads: int = 1, *, check: bool = True
    ) -> None:
        """:param providers: names out of cpu, cuda, tensorrt, in order of preference (a sequence, or one text with
            commas), each of which must work; or "auto": the best that proves itself by the check.
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
        passed_over: list[str] = []
        chains = attempts(providers, engines=_engines_built(bundle))
        if len(chains) > 1 and "int8" in bundle.precisions:  # only auto has a choice
            why = "graphs in INT8 are for CPUs; a GPU wants FP32 or FP16"
            passed_over += [f"{chain[0]}: {why}" for chain in chains[:-1]]
            chains = chains[-1:]
        for chain in chains:
            try:
                self._open(chain, threads, check=check)
                break
            except (BundleError, EngineError) as error:
                if chain is chains[-1]:
                    raise
                passed_over.append(f"{chain[0]}: {error}")
        self.passed_over = tuple(passed_over)

    def _open(self, chain: Sequence[str], threads: int, *, check: bool) -> None:
        """Loads every graph on one chain of providers and runs the check, which is also the warm-up."""
        bundle = self.bundle
        self._one_by_one = "tensorrt" in chain  # its engines are built for one sample
        self._extractors = {name: open_session(bundle, name, chain, threads) for name in bundle.modalities}
        self._fusion = open_session(bundle, FUSION, chain, threads)
        self.providers = short_names(self._fusion.get_providers())
        logits = self.check_logits()
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
        """Runs a graph over a batch, or over every part of it where the graph was built for one."""
        size = len(next(iter(feed.values())))
        if size == 1 or not self._one_by_one:
            return self._try_twice(session, outputs, feed)
        parts = [
            self._try_twice(session, outputs, {name: value[i : i + 1] for name, value in feed.items()})
            for i in range(size)
        ]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _try_twice(
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
            raise EngineError(one_line(error)) from None

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


def _engines_built(bundle: Bundle) -> bool:
    """Whether TensorRT could start at once."""
    if "tensorrt" not in available():
        return False
    try:
        return engine_cache.all_built((*bundle.modalities.values(), bundle.fusion), engine_cache.find_target())
    except EngineError:
        return False
