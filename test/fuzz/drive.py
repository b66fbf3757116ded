# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of a target, by atheris (libFuzzer):

    python drive.py TARGET RUNS FOLDER [SEED]
    python drive.py TARGET replay FOLDER          only runs the corpus, for a coverage report
    python drive.py TARGET random FOLDER RUNS     random bytes without atheris, which keeps memory of its own

FOLDER/corpus holds what to begin with, and what was found to cover more.
FOLDER/stats.json: how often each outcome came, and the resident memory [kB] after a tenth of the runs and at the end.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from karmma_ros.soak.watch import usage_of

WARM = 5000  # random runs before those that count: the allocator takes most of what it will want in them


class Stats:
    """Runs a target, counts outcomes and writes them now and then: a fuzzer ends its process without goodbye."""

    def __init__(self, target: Callable[[bytes], str], runs: int, folder: Path) -> None:
        self._target, self._runs, self._path = target, runs, folder / "stats.json"
        self._outcomes: Counter[str] = Counter()
        self._early_kb = 0

    def __call__(self, data: bytes) -> None:
        self._outcomes[self._target(data)] += 1
        done = self._outcomes.total()
        if done == self._runs // 10:
            self._early_kb = self._resident_kb()
        if done % 500 == 0 or done == self._runs:
            report = {"runs": done, **self._outcomes, "early_kb": self._early_kb, "resident_kb": self._resident_kb()}
            self._path.write_text(json.dumps(report))

    def _resident_kb(self) -> int:
        return round(usage_of(os.getpid(), 0.0).resident_mb * 1024)


def run_random(target: Callable[[bytes], str], runs: int, folder: Path) -> None:
    """Runs it on random bytes, and counts once it is warm."""
    generator = random.Random(1)
    counted = Stats(target, runs, folder)
    for number in range(WARM + runs):
        data = generator.randbytes(generator.randrange(4096))
        (target if number < WARM else counted)(data)


def main() -> None:
    """The process."""
    name, how, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    if how in ("replay", "random"):
        from fuzz.targets import TARGETS

        target = TARGETS[name]
        if how == "replay":
            for path in sorted(corpus.iterdir()):
                target(path.read_bytes())
        else:
            run_random(target, int(sys.argv[4]), folder)
        return
    import atheris

    with atheris.instrument_imports(include=["karmma_ros", "karmma_training"]):
        from fuzz.targets import TARGETS
    seed = sys.argv[4] if len(sys.argv) > 4 else "1"
    options = [f"-runs={how}", f"-seed={seed}", "-max_len=4096", "-len_control=0", "-rss_limit_mb=2048", "-timeout=10"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], Stats(TARGETS[name], int(how), folder)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
