# SPDX-License-Identifier: Apache-2.0
"""`karmma SUBCOMMAND ...`: finds the subcommand's module, runs it, and turns every foreseeable error into one line.

Only the module that was asked for is imported: `karmma --help` needs neither ROS nor torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from karmma_ros import __version__
from karmma_ros.cli.common import Parser, one_line
from karmma_ros.errors import KarmmaError, UsageError

__all__ = ["main"]

INTERRUPTED = 130  # what a shell expects after Ctrl-C
BAD_INPUT = 2


class _Command(NamedTuple):
    module: str
    summary: str


COMMANDS: Mapping[str, _Command] = {
    "soak": _Command("karmma_ros.cli.soak", "run the node under a storm of failing sensors, and judge"),
    "doctor": _Command("karmma_ros.cli.doctor", "look whether everything that the nodes need is there and works"),
    "demo": _Command("karmma_ros.cli.demo", "play a scene to the node over ROS 2 while its sensors fail"),
    "video": _Command("karmma_ros.cli.video", "name the actions in a video file"),
    "replay": _Command("karmma_ros.cli.replay", "name the actions in a rosbag, without ROS"),
    "record-check": _Command("karmma_ros.cli.record_check", "say whether a rosbag is fit for replay"),
    "bag-to-manifest": _Command("karmma_ros.cli.bag_to_manifest", "turn labelled rosbags into a data set"),
    "inspect": _Command("karmma_ros.cli.inspect", "show what is in a bundle"),
    "bench": _Command("karmma_ros.cli.bench", "measure cost, latency and speed on this machine"),
    "build-engine": _Command("karmma_ros.cli.build_engine", "compile a bundle for TensorRT on this GPU"),
    "synth": _Command("karmma_ros.cli.synth", "render a data set of tabletop scenes"),
    "data": _Command("karmma_training.cli.data", "look for the files of a data set (training extra)"),
    "train": _Command("karmma_training.cli.train", "train a student (training extra)"),
    "evaluate": _Command("karmma_training.cli.evaluate", "measure a bundle or a checkpoint (training extra)"),
    "ablate": _Command("karmma_training.cli.ablate", "compare teacher, student and baselines (training extra)"),
    "profile": _Command("karmma_training.cli.profile", "count and measure a preset's cost (training extra)"),
    "export": _Command("karmma_training.cli.export", "turn a checkpoint into a bundle (training extra)"),
}

# What to do about a package that is not there, by the package's name.
_TRAINING = "the training packages: pip install '.[training]' in the repository"
_ROS = "ROS 2: source its setup.bash, or run `make demo`, which sets everything up"
_MISSING: Mapping[str, str] = {
    "karmma_training": _TRAINING,
    "torch": _TRAINING,
    "onnx": _TRAINING,
    "onnxscript": _TRAINING,
    "rclpy": _ROS,
    "sensor_msgs": _ROS,
    "std_msgs": _ROS,
    "lifecycle_msgs": _ROS,
    "karmma_msgs": "karmma_msgs: build it with colcon (--base-paths . karmma_msgs), or run `make demo`",
    "onnxruntime": "ONNX Runtime: pip install onnxruntime (or onnxruntime-gpu)",
    "av": "PyAV: pip install av (python3-av in apt)",
    "rosbags": "rosbags: pip install rosbags",
    "rich": "rich: pip install rich (python3-rich in apt)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `karmma`; gives the exit status: 0, 2 for bad input (one line on stderr), 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `karmma ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KarmmaError as error:
        return _complain(error, getattr(error, "exit_status", BAD_INPUT))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", BAD_INPUT)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else BAD_INPUT
    if arguments[0] in ("-V", "--version"):
        print(f"karmma {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise UsageError(f"no subcommand {name!r}: choose from {', '.join(COMMANDS)}")
    module = _load(name)
    parser = Parser(prog=f"karmma {name}", description=module.HELP)
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(arguments[1:])))
    except ModuleNotFoundError as error:
        raise _missing(name, error) from error
    except SystemExit as request:  # --help
        return int(request.code or 0)


def _load(name: str) -> Any:
    try:
        return importlib.import_module(COMMANDS[name].module)
    except ModuleNotFoundError as error:
        raise _missing(name, error) from error


def _missing(command: str, error: ModuleNotFoundError) -> Exception:
    """What to say about a package that is not installed; a module of our own that is missing is a bug and stays one."""
    package = (error.name or "").partition(".")[0]
    if package in _MISSING:
        return UsageError(f"`karmma {command}` needs {_MISSING[package]}")
    return error


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: karmma SUBCOMMAND ...", "", "subcommands:", *lines, "", "`karmma SUBCOMMAND --help` tells more."]
    )


def _complain(error: object, status: int) -> int:
    print(f"karmma: {one_line(error)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
