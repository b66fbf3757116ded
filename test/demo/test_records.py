# SPDX-License-Identifier: Apache-2.0
"""Prediction records and the summary: the numbers that are published about a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from karmma_ros.errors import KarmmaError
from karmma_ros.records import (
    Phase,
    PredictionRecord,
    Scored,
    SensorRecord,
    Truth,
    read_records,
    summarise,
    to_line,
)

PAIRS = [("idle", "none"), ("pour", "mug"), ("shake", "box")]
NAMES = ["idle", "pour mug", "shake box"]


def record(t_s: float, action: int | None = 0, *, latency_ms: float = 5.0, skipped: int = 0) -> PredictionRecord:
    actions = () if action is None else (Scored(action, NAMES[action], 0.75),)
    return PredictionRecord(
        stamp_ns=1_700_000_000_000_000_000 + round(t_s * 1e9),
        t_s=t_s,
        status="OK" if actions else "NO_INPUT",
        trigger="CAMERA",
        bundle="toy",
        actions=actions,
        coverage=0.5,
        processing_ms=3.0,
        latency_ms=latency_ms,
        sensors={"video": SensorRecord(coverage=0.5, age_s=0.01, skipped=skipped), "audio": SensorRecord("STALE")},
    )


def truth_that_changes_at(change_s: float) -> Truth:
    """Idle before, pour mug after."""
    return Truth(lambda t_s: PAIRS[0] if t_s < change_s else PAIRS[1], [change_s], PAIRS)


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    records = [record(0.0), replace(record(1.0, None), latency_ms=None)]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(map(to_line, records)))
    assert list(read_records(path)) == records


def test_a_record_holds_nothing_of_the_truth() -> None:
    keys = json.loads(to_line(record(0.0))).keys()
    assert not [key for key in keys if "tru" in key or "correct" in key or "accura" in key]


def test_numbers_that_json_does_not_know_become_null() -> None:
    line = to_line(replace(record(0.0), latency_ms=float("nan"), sensors={"flow": SensorRecord(age_s=float("inf"))}))
    parsed = json.loads(line, parse_constant=pytest.fail)
    assert parsed["latency_ms"] is None
    assert parsed["sensors"]["flow"]["age_s"] is None


@pytest.mark.parametrize("text", ["{", "[]", '{"t_s": 1}', "null"])
def test_a_bad_line_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(to_line(record(0.0)) + text + "\n")
    with pytest.raises(KarmmaError, match="line 2"):
        list(read_records(path))


def test_predictions_are_counted_by_stamp_in_half_open_phases() -> None:
    phases = [Phase("one", 0.0, 1.0), Phase("two", 1.0, 3.0)]
    records = [record(i / 10) for i in range(30)]
    summary = summarise(reversed(records), phases, bundle="toy", rate_hz=10.0, sent=[10, 7])
    one, two = summary["phases"]
    assert (one["predictions"], one["due"], one["frames"], one["rate_hz"]) == (10, 10, 10, 10.0)
    assert (two["predictions"], two["due"], two["frames"], two["rate_hz"]) == (20, 20, 7, 10.0)
    whole = summary["overall"]
    assert (whole["predictions"], whole["due"], whole["frames"]) == (30, 30, 17)
    assert (whole["start_s"], whole["end_s"]) == (0.0, 3.0)


def test_the_summary_has_the_shape_that_is_documented() -> None:
    truth = truth_that_changes_at(0.5)
    summary = summarise([record(0.1)], [Phase("p", 0, 1)], bundle="toy", rate_hz=30, sent=[30], truth=truth)
    assert list(summary) == ["machine", "bundle", "overall", "phases"]
    keys = "name start_s end_s frames due predictions rate_hz latency_ms accuracy accuracy_settled skipped coverage"
    assert list(summary["overall"]) == list(summary["phases"][0]) == keys.split()
    assert list(summary["overall"]["latency_ms"]) == ["p50", "p95", "p99", "max"]
    assert summary["overall"]["coverage"] == {"video": 0.5, "audio": 0.0}


def test_latency_percentiles() -> None:
    records = [record(i / 1000, latency_ms=float(i)) for i in range(101)]
    (phase,) = summarise(records, [Phase("p", 0, 1)], bundle="toy", rate_hz=1, sent=[0])["phases"]
    assert phase["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


def test_accuracy_counts_silence_as_wrong_and_settled_leaves_changes_out() -> None:
    truth = truth_that_changes_at(2.0)
    # Wrong for 0.4 s after the change, as a recogniser with a window is; silent once at 0.2 s.
    records = [record(i / 10, 0 if i < 24 else 1) for i in range(40)]
    records[2] = record(0.2, None)
    (phase,) = summarise(records, [Phase("p", 0, 4)], bundle="toy", rate_hz=10, sent=[40], truth=truth)["phases"]
    assert phase["accuracy"] == pytest.approx((40 - 4 - 1) / 40)
    # 1.6 .. 2.4 s is left out: 9 records; 1.5 and 2.5 s are exactly half a second away and count.
    assert phase["accuracy_settled"] == pytest.approx((31 - 1) / 31, abs=1e-4)


def test_unknown_is_not_an_action() -> None:
    unknown = replace(record(0.1), actions=(Scored(-1, "unknown", 0.1),))
    truth = Truth(lambda t_s: PAIRS[-1], [], PAIRS)  # id -1 must not be read as the last pair
    (phase,) = summarise([unknown], [Phase("p", 0, 1)], bundle="toy", rate_hz=1, sent=[1], truth=truth)["phases"]
    assert phase["accuracy"] == 0.0


def test_without_truth_there_is_no_accuracy() -> None:
    summary = summarise([record(0.1)], [Phase("p", 0, 1)], bundle="toy", rate_hz=1, sent=[1])
    assert "accuracy" not in summary["overall"]
    assert "accuracy_settled" not in summary["phases"][0]


def test_skips_are_counted_where_they_happened() -> None:
    records = [record(0.5, skipped=2), record(1.5, skipped=2), record(2.5, skipped=7)]
    phases = [Phase(str(i), i, i + 1) for i in range(3)]
    summary = summarise(records, phases, bundle="toy", rate_hz=1, sent=[1, 1, 1])
    assert [phase["skipped"] for phase in summary["phases"]] == [2, 0, 5]
    assert summary["overall"]["skipped"] == 7


def test_a_phase_without_predictions_is_reported_as_such() -> None:
    truth = truth_that_changes_at(0.5)
    (phase,) = summarise([], [Phase("p", 0, 2)], bundle="toy", rate_hz=30, sent=[60], truth=truth)["phases"]
    assert (phase["predictions"], phase["due"], phase["rate_hz"]) == (0, 60, 0.0)
    assert phase["accuracy"] is None
    assert phase["latency_ms"]["p99"] is None
