# SPDX-License-Identifier: Apache-2.0
"""Graphs that somebody has tampered with, hash included, through ONNX Runtime: python graphs.py COUNT FOLDER

Prints how many were refused and how many could be used, as JSON; what else they raise, or a crash, is a finding.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from toy_bundle import make_toy_bundle

from karmma_ros.bundle import MANIFEST, load_bundle
from karmma_ros.errors import BundleError
from karmma_ros.runtime import Engine

CHANGES = (1, 1, 2, 4, 16)  # how many a graph may have


def mutated(data: bytes, generator: random.Random) -> bytes:
    """A few bytes are replaced, turned, left out or put in."""
    out = bytearray(data)
    for _ in range(generator.choice(CHANGES)):
        at, kind = generator.randrange(len(out)), generator.randrange(4)
        if kind == 0:
            out[at] = generator.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del out[at : at + generator.randrange(9)]
        else:
            out[at:at] = generator.randbytes(generator.randrange(5))
    return bytes(out)


def main(count: int, folder: Path) -> None:
    faulthandler.enable()
    make_toy_bundle(folder)
    manifest = (folder / MANIFEST).read_text()
    originals = {name: (folder / f"{name}.onnx").read_bytes() for name in ("video", "flow", "audio", "fusion")}
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        generator = random.Random(seed)
        name = generator.choice(list(originals))
        data = mutated(originals[name], generator)
        (folder / f"{name}.onnx").write_bytes(data)
        said = json.loads(manifest)
        entry = said["fusion"] if name == "fusion" else said["modalities"][name]
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        (folder / MANIFEST).write_text(json.dumps(said))
        try:
            Engine(load_bundle(folder), "cpu")
            outcomes["accepted"] += 1
        except BundleError:
            outcomes["refused"] += 1
        except BaseException:
            print(f"seed {seed}, {name}", file=sys.stderr)
            raise
        (folder / f"{name}.onnx").write_bytes(originals[name])
    print(f"\n{json.dumps(outcomes)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
