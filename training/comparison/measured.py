# SPDX-License-Identifier: Apache-2.0
"""What a comparison has measured so far: read from its run folders, kept in one JSON file beside the document.

The file outlives the run folders. A comparison of many hours can so be spread over machines: what is in the file is not
trained again, unless a run that is still missing needs its weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file
from karmma_training.comparison.ablation import BY_NAME, RUNS, Run, comparison, run_config, run_folder
from karmma_training.config import Config
from karmma_training.config_file import load_config
from karmma_training.learning.run_log import METRICS, scores_by_epoch

__all__ = ["Measured", "Outcome", "area", "check_folders", "comparison_settings", "through_outages"]

KEPT = ("minutes", "windows", "majority_share", "heads", "subsets", "dropout_curve", "outages")  # of an evaluation
# of train: what changes no result, and precision, which is the machine's and told beside it
HARMLESS = ("threads", "loaders", "checkpoint_s", "precision")


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    minutes: that training took; machine: on what; evaluation: on the test split, empty for stage 0; validation: [epoch,
    mean accuracy over the modality subsets], empty for stage 0 and in older records.
    """

    minutes: float
    machine: str
    evaluation: Mapping[str, Any]
    validation: Sequence[tuple[int, float]] = ()


def comparison_settings(student: Config, test_minutes: float) -> dict[str, Any]:
    """What has to be the same for outcomes to be comparable."""
    return {**_settings(student), "test_minutes": test_minutes}


def _settings(config: Config) -> dict[str, Any]:
    return _comparable(asdict(config))


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what is HARMLESS."""
    for name in HARMLESS:
        settings["train"].pop(name, None)
    return settings


def check_folders(root: Path, student: Config, seeds: int) -> None:
    """Makes sure that the runs that are there, finished or not, are of this comparison.

    :raises UsageError: one has other settings.
    """
    for run in RUNS:
        for seed in range(seeds):
            path = run_folder(root, run, seed) / "config.yaml"
            if not path.exists():
                continue
            found, wanted = (_settings(c) for c in (load_config(path), run_config(student, run, seed, root)))
            for settings in (found, wanted):  # the folder may have been moved
                for section, key in (("pretrain", "extractors"), ("distillation", "teacher")):
                    settings[section][key] = "/".join(Path(settings[section][key]).parts[-2:])
            if found != wanted:
                raise UsageError(f"{path.parent} has another {_difference(found, wanted)}: give another --out")


class Measured:
    """Outcomes by run and seed.

    :param path: the JSON file; it need not exist.
    :param settings: see `comparison_settings`.
    :ivar note: what a reader should know of how the record came about.
    :raises UsageError: the file is unreadable, or of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self._settings = path, settings
        self._outcomes: dict[str, dict[int, Outcome]] = {}
        self.note = ""
        if path.exists():
            self._load()

    def _load(self) -> None:
        try:
            text = json.loads(self.path.read_text(encoding="utf-8"))
            default = _settings(comparison(text["settings"]["preset"]))
            kept = _comparable(_filled(text["settings"], default))  # an older version kept some that are harmless
            runs = text["runs"]
            self.note = str(text.get("note", ""))
            for name, seeds in runs.items():
                if name in BY_NAME:
                    self._outcomes[name] = {int(seed): Outcome(**outcome) for seed, outcome in seeds.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"{self.path} is not the record of a comparison: {error!r}") from error
        if kept != self._settings:
            raise UsageError(
                f"{self.path} is of a comparison with another {_difference(kept, self._settings)}: "
                "move it away, or give --report another name"
            )

    def collect(self, root: Path, seeds: int) -> None:
        """Take over what is finished in the run folders, and write the file."""
        for run in RUNS:
            for seed in sorted({run.own_seed(seed) for seed in range(seeds)}):
                if (run_folder(root, run, seed) / "done.json").exists():
                    self._take(root, run, seed)
        self._save()

    def add(self, root: Path, run: Run, seed: int) -> None:
        """Take over one run that has just finished, and write the file."""
        self._take(root, run, run.own_seed(seed))
        self._save()

    def _take(self, root: Path, run: Run, seed: int) -> None:
        folder = run_folder(root, run, seed)
        evaluation, validation = {}, []
        if run.group != "stage 0":
            whole = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
            evaluation = {key: whole[key] for key in KEPT if key in whole}  # one of an older version knows no outages
            validation = scores_by_epoch(folder / METRICS)
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        self._outcomes.setdefault(run.name, {})[seed] = Outcome(**done, evaluation=evaluation, validation=validation)

    def _save(self) -> None:
        """One line a run: a difference of the file shows which were added."""
        runs = []
        for run in RUNS:
            lines = [
                f'"{seed}": {json.dumps(asdict(outcome), separators=(",", ":"))}'
                for seed, outcome in self.outcomes(run.name).items()
            ]
            if lines:
                runs.append(f'"{run.name}": {{\n' + ",\n".join(lines) + "\n}")
        head = {"settings": self._settings, **({"note": self.note} if self.note else {})}
        text = json.dumps(head)[:-1] + ',\n"runs": {\n' + ",\n".join(runs) + "\n}}\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def has(self, run: Run, seed: int) -> bool:
        """Whether a run is finished, here or elsewhere; one of the larger set is the same for all seeds."""
        return run.own_seed(seed) in self._outcomes.get(run.name, {})

    def words(self, run: Run, seed: int) -> str:
        """How a run came out."""
        outcome = self._outcomes[run.name][run.own_seed(seed)]
        found = f", area {area(outcome.evaluation):.1f}" if outcome.evaluation else ""
        return f"{outcome.minutes:g} minutes{found}"

    def runs(self, group: str = "") -> list[Run]:
        """The runs with an evaluation, in order; of one group if named."""
        return [r for r in RUNS if self.evaluations(r.name) and group in ("", r.group)]

    def outcomes(self, name: str) -> dict[int, Outcome]:
        """Of one run, by seed."""
        return dict(sorted(self._outcomes.get(name, {}).items()))

    def evaluations(self, name: str) -> dict[int, Mapping[str, Any]]:
        """Of one run, by seed; empty for stage 0."""
        return {seed: o.evaluation for seed, o in self.outcomes(name).items() if o.evaluation}

    def pairs(self, more: str, less: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The evaluations of two runs, for every seed that both have on one machine: they began with the same."""
        a, b = self.outcomes(more), self.outcomes(less)
        both = [seed for seed in a if seed in b and a[seed].machine == b[seed].machine]
        return [(a[s].evaluation, b[s].evaluation) for s in both if a[s].evaluation and b[s].evaluation]

    def gaps(self, more: str, less: str) -> list[float]:
        """By how many points the area of one run exceeds that of another, per seed that both have."""
        return [area(a) - area(b) for a, b in self.pairs(more, less)]


def area(evaluation: Mapping[str, Any]) -> float:
    """Area under the dropout curve in %."""
    return 100 * float(evaluation["dropout_curve"]["area"])


def through_outages(evaluation: Mapping[str, Any]) -> float | None:
    """Mean accuracy in % where every sensor comes and goes; None in an older record."""
    outages = evaluation.get("outages")
    return 100 * float(mean(outages["action"][1:])) if outages else None


def _filled(kept: Any, default: Any) -> Any:
    """Settings of an older version, which did not know some of today's: those are as they are when none is given."""
    if isinstance(kept, dict) and isinstance(default, dict):
        return {**default, **{key: _filled(value, default.get(key)) for key, value in kept.items()}}
    return kept


def _difference(a: Any, b: Any, where: str = "") -> str:
    """Name of the first setting that differs."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            if a.get(key) != b.get(key):
                return _difference(a.get(key), b.get(key), f"{where}.{key}" if where else str(key))
    return f"{where} ({a}, now {b})"
