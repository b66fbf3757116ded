# SPDX-License-Identifier: Apache-2.0
"""The bundle: is it there and whole, and does it give here what it gave where it was made?"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from karmma_ros.bundle import load_bundle
from karmma_ros.doctor.finding import Finding, fault, ok
from karmma_ros.errors import BundleError

__all__ = ["Trial", "check_bundle", "try_bundle"]

_PATIENCE_S = 180.0  # a provider may compile the graphs


@dataclass(frozen=True)
class Trial:
    """How a bundle ran on an execution provider."""

    provider: str  # or auto
    problem: str  # "" when it gave what the manifest expects
    milliseconds: float = 0.0  # of one encode of every modality and one fusion
    used: tuple[str, ...] = ()  # the providers that it came to run on, best first


def check_bundle(name_or_path: str) -> Iterator[Finding]:
    """Reads the manifest and compares the hash of every graph with it."""
    try:
        bundle = load_bundle(name_or_path)
    except BundleError as error:
        yield fault("bundle", str(error), "name another with --bundle, or copy it again")
        return
    size = sum(path.stat().st_size for path in bundle.folder.iterdir() if path.is_file())
    yield ok("bundle", f"{bundle.name} ({size / 1e6:.1f} MB, {bundle.folder}): whole")


def try_bundle(name_or_path: str, provider: str) -> Trial:
    """Runs the bundle's own check on one provider, in a process of its own: a wrong library may take it down.

    :param provider: cpu, cuda, tensorrt; or auto, which tries them as a node does.
    """
    command = [sys.executable, "-m", "karmma_ros.doctor.trial", name_or_path, provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired:
        return Trial(provider, f"no answer within {_PATIENCE_S:.0f} s")
    if done.returncode < 0:
        return Trial(provider, f"the process died of {signal.Signals(-done.returncode).name}")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        return Trial(provider, answer["problem"], answer["milliseconds"], tuple(answer["used"]))
    except (ValueError, IndexError, KeyError):
        return Trial(provider, (done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"])[0])
