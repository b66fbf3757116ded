# SPDX-License-Identifier: Apache-2.0
"""The machine: cores, and how fast they are allowed to run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from karmma_ros.doctor.finding import Finding, advice, ok

__all__ = ["check_machine", "judge_cores", "judge_governor", "judge_power_mode"]

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_INTEL = Path("/sys/devices/system/cpu/intel_pstate")  # with this driver, powersave means automatic
_AMD = Path("/sys/devices/system/cpu/amd_pstate/status")  # the same, where it says active
_MODEL = Path("/proc/device-tree/model")  # of boards


def check_machine() -> Iterator[Finding]:
    """Reads what the kernel says and, on a Jetson, what nvpmodel says."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model = _text(_MODEL) or f"{platform.system()} {platform.machine()}"
    yield judge_cores(cores, f"{model}, Python {platform.python_version()}")
    governor = _text(_GOVERNOR)
    if governor:
        yield judge_governor(governor)
    if shutil.which("nvpmodel"):
        yield judge_power_mode(_output("nvpmodel", "-q"))


def judge_cores(cores: int, machine: str) -> Finding:
    """:param cores: that this process may use."""
    text = f"{cores} core{'s' * (cores != 1)}, {machine}"
    if cores < 2:
        return advice("machine", text, "give it two cores at least: one receives images while the other infers")
    return ok("machine", text)


def judge_governor(governor: str) -> Finding:
    """:param governor: of Linux's frequency scaling."""
    if governor == "powersave" and not _INTEL.exists() and _text(_AMD) != "active":
        return advice(
            "clock rate", f"governor {governor}: the lowest frequency", "sudo cpupower frequency-set -g performance"
        )
    return ok("clock rate", f"governor {governor}")


def judge_power_mode(answer: str) -> Finding:
    """:param answer: of `nvpmodel -q`: a line `NV Power Mode: NAME`, and a number."""
    mode = next((line.partition(":")[2].strip() for line in answer.splitlines() if "Power Mode" in line), "")
    if not mode:
        return advice("power mode", "nvpmodel does not say", "sudo nvpmodel -q")
    if not mode.upper().startswith("MAXN"):
        return advice("power mode", mode, "sudo nvpmodel -m 0 (modes: sudo nvpmodel -p --verbose), sudo jetson_clocks")
    return ok("power mode", mode)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return ""
