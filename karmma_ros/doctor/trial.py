# SPDX-License-Identifier: Apache-2.0
"""Runs a bundle's check on one execution provider and prints the result as a line of JSON:

python -m karmma_ros.doctor.trial BUNDLE PROVIDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from karmma_ros.errors import KarmmaError

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """:param argv: a bundle's name or folder, and a provider: cpu, cuda, tensorrt or auto."""
    name, provider = argv
    problem, milliseconds = "", 0.0
    used: tuple[str, ...] = ()
    try:
        from karmma_ros.bundle import load_bundle
        from karmma_ros.runtime import Engine

        engine = Engine(load_bundle(name), providers=provider)  # compares with the manifest's logits
        begun = time.perf_counter()
        engine.check_logits()
        milliseconds, used = (time.perf_counter() - begun) * 1e3, engine.providers
    except (KarmmaError, ImportError) as error:
        problem = " ".join(str(error).split())
    print(json.dumps({"problem": problem, "milliseconds": milliseconds, "used": used}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
