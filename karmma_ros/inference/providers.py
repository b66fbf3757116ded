# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's execution providers: what they are called here, which there are, and in which order they are tried."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime

from karmma_ros.errors import EngineError

__all__ = ["PROVIDERS", "attempts", "available", "short_names"]

# name: ONNX Runtime's; the best first
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


def available() -> list[str]:
    """The providers that this ONNX Runtime was built with, best first. Whether one works here, only a run shows."""
    has = onnxruntime.get_available_providers()
    return [name for name, full in PROVIDERS.items() if full in has]


def short_names(full: Sequence[str]) -> tuple[str, ...]:
    """ONNX Runtime's names to ours; one that has none stays."""
    short = {name: ours for ours, name in PROVIDERS.items()}
    return tuple(short.get(name, name) for name in full)


def attempts(providers: str | Sequence[str], *, engines: bool) -> list[tuple[str, ...]]:
    """What to try, in turn, until one proves itself; each attempt is a chain of providers that must all start.

    :param providers: names in order of preference (a sequence, or one text with commas), which make one attempt; or
        "auto": every provider that is here, each backed by those after it.
    :param engines: whether TensorRT's engines have been built; without them, auto does not think of it.
    :raises EngineError: a provider is unknown, or not in this ONNX Runtime.
    """
    names = [part.strip() for part in providers.split(",")] if isinstance(providers, str) else list(providers)
    here = available()
    if names == ["auto"]:
        usable = [name for name in here if name != "tensorrt" or engines]
        return [tuple(usable[i:]) for i in range(len(usable))]
    for name in names:
        if name not in PROVIDERS:
            raise EngineError(f"execution provider {name!r} is unknown: use auto, or some of cpu, cuda, tensorrt")
        if name not in here:
            raise EngineError(
                f"execution provider {name} is not in this ONNX Runtime {onnxruntime.__version__}: "
                "install a build that has it (for cuda: 'onnxruntime-gpu[cuda,cudnn]'), or use auto"
            )
    if not names:
        raise EngineError("no execution provider given: use auto, cpu, cuda or tensorrt")
    return [tuple(names)]
