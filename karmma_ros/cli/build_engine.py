# SPDX-License-Identifier: Apache-2.0
"""`karmma build-engine`: compiles a bundle's graphs for TensorRT on this machine's GPU, ahead of time."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from karmma_ros.bundle import Bundle, load_bundle
from karmma_ros.cli.common import add_bundle
from karmma_ros.console import make_console
from karmma_ros.errors import EngineError
from karmma_ros.files import whole_folder
from karmma_ros.inference.engine_cache import Target, engine_folder, find_target
from karmma_ros.inference.providers import available
from karmma_ros.runtime import FUSION, Engine

__all__ = ["HELP", "add_arguments", "build", "run"]

HELP = "Compiles a bundle for TensorRT on this GPU; a node takes what has been built and never compiles itself."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    add_bundle(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    bundle = load_bundle(args.bundle)
    if "tensorrt" not in available():
        raise EngineError("this ONNX Runtime has no TensorRT: install a build that has it (docs/jetson.md)")
    target = find_target()
    console = make_console(stderr=True)
    console.print(f"TensorRT {target.tensorrt}, compute capability {target.capability}")
    build(bundle, target, _compile, console)
    engine = Engine(bundle, "tensorrt,cuda" if "cuda" in available() else "tensorrt")
    console.print(f"{bundle.name} runs on {', '.join(engine.providers)}; the manifest's check passed", style="green")
    return 0


def build(bundle: Bundle, target: Target, compiler: Callable[[Bundle, str, Path], None], console: Console) -> None:
    """Builds the engines that are missing, one after another; each is there whole or not at all.

    :param compiler: (bundle, name of the graph, folder for its engine); raises EngineError.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name, graph in (*bundle.modalities.items(), (FUSION, bundle.fusion)):
            folder = engine_folder(graph, target)
            if folder.is_dir():
                progress.add_task(f"{name}: built before", total=1, completed=1)
                continue
            task = progress.add_task(f"{name}: compiling, which takes minutes", total=1)
            with whole_folder(folder) as partial:
                compiler(bundle, name, partial)
            progress.update(task, completed=1, description=f"{name}: built")


def _compile(bundle: Bundle, name: str, folder: Path) -> None:
    """In a process of its own, which Ctrl-C ends at once: TensorRT would not hear of it."""
    command = [sys.executable, "-m", "karmma_ros.inference.engine_compiler", str(bundle.folder), name, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours
    if done.returncode or not any(folder.iterdir()):
        said = done.stdout.strip() or f"the compiler ended with {done.returncode} and wrote nothing"
        raise EngineError(f"{bundle.folder / name}: {said}")
