# SPDX-License-Identifier: Apache-2.0
"""Compiles one graph for TensorRT, as a process; what went wrong is one line on the standard output.

python -m karmma_ros.inference.engine_compiler BUNDLE GRAPH FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from karmma_ros.bundle import load_bundle
from karmma_ros.errors import KarmmaError
from karmma_ros.inference.session import open_session

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """:param argv: a bundle's folder, a modality or `fusion`, and the folder for the engine."""
    name, graph, folder = argv
    try:
        open_session(load_bundle(name), graph, ("tensorrt",), 1, engines=Path(folder))
    except KarmmaError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
