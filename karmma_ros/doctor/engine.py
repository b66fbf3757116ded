# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: which execution providers it has, whether each really runs, and whether it fits the GPU."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

from karmma_ros.doctor.bundles import Trial
from karmma_ros.doctor.finding import Finding, advice, fault, ok
from karmma_ros.inference.gpu import Gpu, find_gpus

__all__ = ["check_engine", "judge_gpus", "judge_trials"]

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_INSTALL = "pip install onnxruntime, or onnxruntime-gpu; never both, they overwrite each other"


def check_engine(run: Callable[[str], Trial]) -> Iterator[Finding]:
    """:param run: tries the bundle on a provider (cpu, cuda, tensorrt)."""
    try:
        import onnxruntime
    except Exception as error:  # built for another NumPy, another Python: it raises all sorts of things
        yield fault("ONNX Runtime", f"cannot be imported: {' '.join(str(error).split())}", _INSTALL)
        return
    installed = [name for name in _PACKAGES if _version(name)]
    if len(installed) > 1:
        yield fault(
            "ONNX Runtime", "onnxruntime and onnxruntime-gpu are both installed", f"pip uninstall both, then {_INSTALL}"
        )
    from karmma_ros.inference.providers import available  # imports ONNX Runtime

    providers = available()
    yield from judge_trials(onnxruntime.__version__, [run(name) for name in providers])
    yield from judge_gpus(find_gpus(), providers)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def judge_trials(version: str, trials: Sequence[Trial]) -> Iterator[Finding]:
    """:param version: of ONNX Runtime."""
    for trial in sorted(trials, key=lambda trial: trial.provider):
        subject = f"provider {trial.provider}"
        if not trial.problem:
            yield ok(subject, f"ONNX Runtime {version}: runs, as the manifest expects, {trial.milliseconds:.1f} ms")
        elif trial.provider == "cpu":
            yield fault(subject, trial.problem, "mend the bundle if it is at fault; else " + _INSTALL)
        else:
            yield advice(
                subject,
                f"this ONNX Runtime {version} has it, but it does not run: {trial.problem}",
                "install the CUDA, cuDNN and TensorRT that this ONNX Runtime was built for, or set providers:=cpu",
            )


def judge_gpus(gpus: Sequence[Gpu], providers: Sequence[str], machine: str = "") -> Iterator[Finding]:
    """Whether the ONNX Runtime that is installed can use the GPUs at all; whether it does is what the trials show.

    :param machine: the processor's architecture; this machine's by default.
    """
    for name, capability in gpus:
        text = f"{name}, compute capability {capability}"
        if "cuda" in providers:
            yield ok("GPU", text)
        elif (machine or platform.machine()) == "aarch64":
            yield advice("GPU", f"{text}: not used", "docs/jetson.md: the package index has no build for Jetson's GPUs")
        else:
            yield advice("GPU", f"{text}: not used", "pip uninstall onnxruntime, then pip install onnxruntime-gpu")
