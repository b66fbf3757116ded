# SPDX-License-Identifier: Apache-2.0
"""Predictions on disk: one JSON object a line, one schema for demo, video files and replayed bags, and their summary.

A record holds what the recogniser said and what it had to say it with, and nothing of the truth: that is joined later.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from karmma_ros.errors import KarmmaError
from karmma_ros.manifest import action_name

__all__ = [
    "SETTLE_S",
    "Phase",
    "PredictionRecord",
    "Scored",
    "SensorRecord",
    "Truth",
    "describe_machine",
    "percentiles",
    "read_records",
    "summarise",
    "to_line",
]

_NS = 1_000_000_000
SETTLE_S = 0.5  # seconds around a change of action that the settled accuracy leaves out


@dataclass(frozen=True)
class Scored:
    """A label with its score: `id` is its index in the bundle's table, `score` a probability."""

    id: int
    name: str
    score: float


@dataclass(frozen=True)
class SensorRecord:
    """One modality as the recogniser saw it. `coverage`: present slots / slots; the counts grow from the start."""

    state: str = "OK"
    coverage: float = 0.0
    age_s: float | None = None
    rate_hz: float | None = None
    received: int = 0
    skipped: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class PredictionRecord:
    """One prediction. `stamp_ns`: the time it is about; `t_s`: the same from the start of the recording.

    `status`: OK, NO_INPUT or FAILED (then the lists are empty); `trigger`: CAMERA or TIMER; `latency_ms`: from the
    stamp (or the timer's due time) to the answer, None where there is no clock to measure it by; `processing_ms`: what
    it cost, None where a record must not depend on the machine.
    """

    stamp_ns: int
    t_s: float
    status: str
    trigger: str
    bundle: str
    actions: Sequence[Scored] = ()
    verbs: Sequence[Scored] = ()
    nouns: Sequence[Scored] = ()
    coverage: float = 0.0
    processing_ms: float | None = None
    latency_ms: float | None = None
    sensors: Mapping[str, SensorRecord] = field(default_factory=dict)


def to_line(record: PredictionRecord) -> str:
    """The record as one line of JSON, newline included; numbers that are not finite become null."""
    return json.dumps(_finite(asdict(record)), allow_nan=False, separators=(", ", ": ")) + "\n"


def read_records(path: str | Path) -> Iterator[PredictionRecord]:
    """The records of a file written line by line with `to_line`.

    :raises KarmmaError: if it cannot be read or a line is not a record.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield _from_json(json.loads(line))
                except (ValueError, TypeError, KeyError) as error:
                    raise KarmmaError(f"{path}, line {number}: not a prediction record ({error})") from error
    except OSError as error:
        raise KarmmaError(f"{path}: {error.strerror}") from error


def _from_json(value: dict[str, Any]) -> PredictionRecord:
    for key in ("actions", "verbs", "nouns"):
        value[key] = tuple(Scored(**label) for label in value[key])
    value["sensors"] = {name: SensorRecord(**sensor) for name, sensor in value["sensors"].items()}
    return PredictionRecord(**value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


@dataclass(frozen=True)
class Phase:
    """A stretch of a recording, [start_s, end_s) from its start, in which the sensors are in one condition."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Truth:
    """What really happened: `at(t_s)` gives (verb, noun), `changes_s` the times at which it changes.

    `pairs`: (verb, noun) of every action id of the bundle, to compare with.
    """

    at: Callable[[float], tuple[str, str]]
    changes_s: Sequence[float]
    pairs: Sequence[tuple[str, str]]

    def name_at(self, t_s: float) -> str:
        """The action at `t_s`, named as bundles name theirs."""
        return action_name(*self.at(t_s))


def summarise(
    records: Iterable[PredictionRecord],
    phases: Sequence[Phase],
    *,
    bundle: str,
    rate_hz: float,
    sent: Sequence[int],
    truth: Truth | None = None,
) -> dict[str, Any]:
    """`summary.json`: one entry for the whole and one for each phase; without truth there is no accuracy in them.

    :param rate_hz: predictions due per second.
    :param sent: frames sent in each phase.
    """
    ordered = sorted(records, key=lambda record: record.stamp_ns)
    whole = Phase("overall", phases[0].start_s, phases[-1].end_s)
    return {
        "machine": describe_machine(),
        "bundle": bundle,
        "overall": _summarise(ordered, whole, rate_hz, sum(sent), truth),
        "phases": [
            _summarise(ordered, phase, rate_hz, count, truth) for phase, count in zip(phases, sent, strict=True)
        ],
    }


def _summarise(
    ordered: Sequence[PredictionRecord], phase: Phase, rate_hz: float, sent: int, truth: Truth | None
) -> dict[str, Any]:
    inside = [record for record in ordered if phase.start_s <= record.t_s < phase.end_s]
    before = [record for record in ordered if record.t_s < phase.start_s]
    duration_s = phase.end_s - phase.start_s
    latencies = [record.latency_ms for record in inside if record.latency_ms is not None]
    summary: dict[str, Any] = {
        "name": phase.name,
        "start_s": round(phase.start_s, 3),
        "end_s": round(phase.end_s, 3),
        "frames": sent,
        "due": round(rate_hz * duration_s),
        "predictions": len(inside),
        "rate_hz": round(len(inside) / duration_s, 3),
        "latency_ms": percentiles(latencies),
    }
    if truth is not None:
        summary["accuracy"] = _accuracy(inside, truth)
        summary["accuracy_settled"] = _accuracy([record for record in inside if _settled(record, truth)], truth)
    summary["skipped"] = _skipped(inside[-1:]) - _skipped(before[-1:]) if inside else 0
    summary["coverage"] = _coverage(inside)
    return summary


def percentiles(values_ms: Sequence[float]) -> dict[str, float | None]:
    """Median, 95th and 99th percentile and maximum; None where there is nothing to take them of."""
    if not values_ms:
        return {"p50": None, "p95": None, "p99": None, "max": None}
    values = np.percentile(values_ms, (50, 95, 99, 100))
    return {key: round(float(ms), 3) for key, ms in zip(("p50", "p95", "p99", "max"), values, strict=True)}


def _accuracy(records: Sequence[PredictionRecord], truth: Truth) -> float | None:
    """Share of right predictions; saying nothing counts as wrong."""
    if not records:
        return None
    right = sum(
        bool(record.actions) and _pair(record.actions[0].id, truth) == truth.at(record.t_s) for record in records
    )
    return round(right / len(records), 4)


def _pair(action: int, truth: Truth) -> tuple[str, str] | None:
    return tuple(truth.pairs[action]) if 0 <= action < len(truth.pairs) else None  # type: ignore[return-value]


def _settled(record: PredictionRecord, truth: Truth) -> bool:
    return all(abs(record.t_s - change) >= SETTLE_S for change in truth.changes_s)


def _skipped(records: Sequence[PredictionRecord]) -> int:
    return sum(sensor.skipped for record in records for sensor in record.sensors.values())


def _coverage(records: Sequence[PredictionRecord]) -> dict[str, float]:
    """Mean coverage of each modality."""
    modalities = {name: None for record in records for name in record.sensors}
    return {
        name: round(float(np.mean([r.sensors[name].coverage for r in records if name in r.sensors])), 4)
        for name in modalities
    }


def describe_machine() -> dict[str, Any]:
    """The machine that a measurement was made on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
