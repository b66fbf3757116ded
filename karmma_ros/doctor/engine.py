# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: which execution providers it has, whether each really runs, which a node takes, and what of the GPU."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

from karmma_ros.doctor.bundles import Trial
from karmma_ros.doctor.finding import Finding, advice, fault, ok
from karmma_ros.inference.gpu import Gpu, find_gpus

__all__ = ["check_engine", "judge_auto", "judge_gpus", "judge_trials"]

_BUILD = "karmma build-engine"  # the command that an error names where TensorRT has not compiled the bundle yet
_ON_GPU = ("cuda", "tensorrt")
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_INSTALL = "pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]'; never both, they overwrite each other"


def check_engine(run: Callable[[str], Trial]) -> Iterator[Finding]:
    """:param run: tries the bundle on a provider (cpu, cuda, tensorrt, auto)."""
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

    trials = [run(name) for name in available()]
    yield from judge_trials(onnxruntime.__version__, trials)
    yield from judge_auto(run("auto") if len(trials) > 1 else trials[0])
    yield from judge_gpus(find_gpus(), trials)


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
        elif _BUILD in trial.problem:
            what, command, arguments = trial.problem.partition(_BUILD)
            yield advice(subject, f"this ONNX Runtime {version} has it: {what.rstrip(': ')}", command + arguments)
        else:
            yield advice(
                subject,
                f"this ONNX Runtime {version} has it, but it does not run: {trial.problem}",
                "install the CUDA, cuDNN and TensorRT that this ONNX Runtime was built for, or set providers:=cpu",
            )


def judge_auto(trial: Trial) -> Iterator[Finding]:
    """Which providers a node takes by itself.

    :param trial: of auto, or of the only provider that there is.
    """
    if not trial.problem:
        yield ok("provider auto", f"a node takes {', '.join(trial.used)}")
    elif trial.provider == "auto":  # else it has been said
        yield fault("provider auto", trial.problem, "set providers:=cpu, and mend the others")


def judge_gpus(gpus: Sequence[Gpu], trials: Sequence[Trial], machine: str = "") -> Iterator[Finding]:
    """Whether anything of ONNX Runtime uses the GPUs.

    :param machine: the processor's architecture; this machine's by default.
    """
    on_gpu = {trial.provider: trial.problem for trial in trials if trial.provider in _ON_GPU}
    for name, capability in gpus:
        text = f"{name}, compute capability {capability}"
        if "" in on_gpu.values():
            yield ok("GPU", text)
        elif (machine or platform.machine()) == "aarch64":
            yield advice("GPU", f"{text}: not used", "docs/jetson.md: the package index has no build for Jetson's GPUs")
        elif on_gpu:
            yield advice("GPU", f"{text}: not used", f"mend provider {' or '.join(sorted(on_gpu))}, above")
        else:
            yield advice(
                "GPU", f"{text}: not used", "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]'"
            )
