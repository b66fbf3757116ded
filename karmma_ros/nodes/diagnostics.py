# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says: one status for the node, one for each sensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from karmma_ros.health import SensorState, SensorStatus
from karmma_ros.nodes.worker import Statistics

__all__ = ["node_status", "sensor_status", "status_of"]

_LEVELS = {
    SensorState.OK: DiagnosticStatus.OK,
    SensorState.DISABLED: DiagnosticStatus.OK,
    SensorState.WAITING: DiagnosticStatus.WARN,
    SensorState.STALE: DiagnosticStatus.ERROR,
    SensorState.OCCLUDED: DiagnosticStatus.WARN,
    SensorState.FROZEN: DiagnosticStatus.ERROR,
    SensorState.MUTED: DiagnosticStatus.WARN,
    SensorState.CORRUPT: DiagnosticStatus.ERROR,
}
_MEANINGS = {
    SensorState.OCCLUDED: "something covers the lens, or it sees nothing but black",
    SensorState.FROZEN: "it sends exactly the same again and again: restart the driver",
    SensorState.MUTED: "digital silence: muted or unplugged",
}
LAG_S = 0.5  # [s] of difference between two sensors' stamps that cannot be what they do
RARE = 0.25  # share of a sensor's slots below which it hardly counts, whatever its state
REPORT_S = 1.0  # [s] between two reports
_RARE_PERIODS = 2.5  # that nothing may be heard of any sensor before it is more than a slow camera
_COUNTS = ("predictions", "status_no_input")


def node_status(
    name: str,
    *,
    state: str,
    fault: str,
    facts: Mapping[str, Any],
    now: Statistics | None,
    before: Statistics | None,
    simulated_time: bool,
) -> DiagnosticStatus:
    """The node's own status.

    :param state: its life cycle state.
    :param fault: why the last transition failed; "" if it did not.
    :param facts: what is loaded (bundle, providers, ...).
    :param now, before: statistics of now and of the report before; None unless active.
    :param simulated_time: whether the node's time is that of `/clock`, which may stand still.
    """
    level, message = DiagnosticStatus.OK, state
    values = {"state": state, **facts}
    if fault:
        level, message = DiagnosticStatus.ERROR, f"{state}: {fault}"
    elif now is not None:
        if before is not None and _predictions(now) < _predictions(before):
            before = None  # the clock jumped back: counted afresh since
        level, message = _running(now, before, simulated_time)
        if before is not None:  # by the timer's period: a report that is late has what the next one lacks
            values["rate_hz"] = f"{(_predictions(now) - _predictions(before)) / REPORT_S:.1f}"
        values |= {"period_s": f"{now.period_s:.4f}", **dict(sorted(now.counts.items())), "skipped": _skipped(now)}
        values |= _latency(now.latencies_s)
        values |= {f"fault {cause}": count for cause, count in sorted(now.faults.items())}
    return status_of(name, level, message, str(facts.get("bundle", "")), values)


def _predictions(statistics: Statistics) -> int:
    return statistics.counts.get("predictions", 0)


def _skipped(statistics: Statistics) -> int:
    """Frames and turns of the timer that this machine had no time for."""
    camera = statistics.statuses.get("video")
    return statistics.counts.get("skipped_predictions", 0) + (camera.skipped if camera is not None else 0)


def _running(now: Statistics, before: Statistics | None, simulated_time: bool) -> tuple[bytes, str]:
    grown = {key: now.counts.get(key, 0) - (before.counts.get(key, 0) if before else 0) for key in _COUNTS}
    if now.failures:
        return DiagnosticStatus.ERROR, f"failed {now.failures} times: {now.last_failure}"
    if grown["predictions"] <= 0 and not _rare(now):
        if simulated_time:
            return DiagnosticStatus.WARN, "no predictions: the clock stands still or has not started"
        return DiagnosticStatus.WARN, f"no prediction for {REPORT_S:g} s: this machine is too slow for the bundle"
    if 0 < grown["predictions"] == grown["status_no_input"]:
        return DiagnosticStatus.WARN, "no sensor has anything to say: check topics and sensors"
    skipped = _skipped(now) - _skipped(before) if before is not None else now.counts.get("skipped_predictions", 0)
    if skipped > 0:
        return DiagnosticStatus.WARN, f"too slow: {skipped} frames skipped"
    return DiagnosticStatus.OK, "active"


def _rare(now: Statistics) -> bool:
    """Whether predictions are so far apart that a report without one says nothing: with a camera slower than 1 Hz.

    When the last one came is not known. Where time stands still no sensor is heard any more, and that is.
    """
    camera = now.statuses.get("video")
    interval_s = 1 / camera.rate_hz if camera is not None and camera.rate_hz > 0 else 0.0
    longest_s = _RARE_PERIODS * max(now.period_s, interval_s)  # the period is held to 2 s, the interval is not
    heard_s = min((status.age_s for status in now.statuses.values()), default=math.inf)
    return _predictions(now) > 0 and longest_s > REPORT_S and heard_s <= longest_s


def _latency(latencies_s: tuple[float, ...]) -> dict[str, str]:
    if not latencies_s:
        return {}
    p50, p95, p99 = np.percentile(latencies_s, (50, 95, 99)) * 1e3
    return {
        "latency_ms_p50": f"{p50:.1f}",
        "latency_ms_p95": f"{p95:.1f}",
        "latency_ms_p99": f"{p99:.1f}",
        "latency_ms_max": f"{max(latencies_s) * 1e3:.1f}",
    }


def sensor_status(
    name: str,
    topic: str,
    status: SensorStatus,
    extra: Mapping[str, Any],
    *,
    behind_camera_s: float = 0.0,
    coverage: float | None = None,
    silent: str = "",
    made_of: str = "",
) -> DiagnosticStatus:
    """A sensor's status.

    :param topic: where it is heard; extra: what only this kind of sensor counts.
    :param behind_camera_s: by how much its stamps are older at arrival than the camera's.
    :param coverage: share of its slots in the window that is filled, averaged over seconds; None of what has no slots.
    :param silent: why nothing is heard, where that is known.
    :param made_of: what lacks that it is made of, which has a status of its own.
    """
    message, level = status.state.name, _LEVELS[status.state]
    if status.state in (SensorState.WAITING, SensorState.STALE):
        level = DiagnosticStatus.WARN if made_of else level
        hangs = f"the same stamp on {topic} again and again: restart the driver" if status.repeats else ""
        message += f": {made_of or hangs or silent or f'nothing on {topic}'}"
    elif status.state is SensorState.OK and abs(behind_camera_s) > LAG_S:
        level = DiagnosticStatus.WARN
        parameter = f"{name.rsplit(' ', 1)[-1]}.stamp_offset"
        lie = "before" if behind_camera_s > 0 else "after"
        message += (
            f": stamps lie {abs(behind_camera_s):.2f} s {lie} the camera's; if that is constant, and not how long its "
            f"samples take to come, add {behind_camera_s:+.2f} to {parameter}"
        )
    elif status.state is SensorState.OK and coverage is not None and coverage < RARE:
        level = DiagnosticStatus.WARN
        message += f": only {100 * coverage:.0f} % of its slots are filled: it comes too rarely, or with gaps between"
    elif status.state is SensorState.CORRUPT:
        message += f": {status.last_cause}"
    elif status.state in _MEANINGS:
        message += f": {_MEANINGS[status.state]}"
    values = {
        "state": status.state.name,
        "age_s": "none yet" if math.isinf(status.age_s) else f"{status.age_s:.3f}",
        "rate_hz": f"{status.rate_hz:.2f}",
        "received": status.received,
        "skipped": status.skipped,
        "rejected": status.rejected,
        "last_cause": status.last_cause,
        **extra,
    }
    if coverage is not None and status.state is SensorState.OK:
        values["coverage"] = f"{coverage:.2f}"
    return status_of(name, level, message, topic, values)


def status_of(name: str, level: bytes, message: str, hardware: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    """A status; `hardware` is what it is about (a bundle, a topic)."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware, values=pairs)
