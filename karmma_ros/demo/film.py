# SPDX-License-Identifier: Apache-2.0
"""The demo's film: every frame of the recording with what the node said about it, truth and sensor states drawn in."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from karmma_ros.demo.ahead import FramesAhead
from karmma_ros.demo.script import SensorScript
from karmma_ros.demo.sources import SOUND_RATE, Source
from karmma_ros.media import VideoWriter
from karmma_ros.overlay import PredictionView, draw
from karmma_ros.records import PredictionRecord, Truth

__all__ = ["shoot"]

_NS = 1_000_000_000
_RATE_S = 2.0  # seconds over which the rate is counted
_HELD_S = 0.2  # seconds for which the last frame stands in for lost ones: dark ones between others would flicker


def shoot(
    path: Path,
    source: Source,
    script: SensorScript,
    records: Sequence[PredictionRecord],
    truth: Truth | None,
    progress: Callable[[float], None],
) -> None:
    """Writes the film. While no frame reaches the node the scene is dark, and where it heard nothing there is no sound.

    :param progress: called with the seconds done.
    :raises OSError: if it cannot be written.
    """
    ordered = sorted(records, key=lambda record: record.stamp_ns)
    times = [record.t_s for record in ordered]
    sound = source.sound()
    if sound is not None:
        at_s = np.arange(len(sound)) / SOUND_RATE
        for phase in script.phases:
            if not phase.audio:
                sound[(at_s >= phase.start_s) & (at_s < phase.end_s)] = 0.0
    period_s = 1 / source.rate
    with (
        FramesAhead(source, None, ahead=32) as frames,
        VideoWriter(path, source.size, source.rate, sound=None if sound is None else (SOUND_RATE, 1)) as writer,
    ):
        played = 0
        arrived_s, arrived = 0.0, None
        for frame in frames:
            t_s = frame.stamp_ns / _NS
            record = _nearest(ordered, times, t_s, period_s)
            rate_hz = (bisect_right(times, t_s) - bisect_right(times, t_s - _RATE_S)) / min(_RATE_S, t_s + period_s)
            if script.delivers_frame(frame.number, t_s):
                arrived_s, arrived = t_s, frame.rgb.copy()
            elif t_s - arrived_s >= _HELD_S:
                arrived = None
            view = _view(script, record, truth, t_s, seen=arrived is not None, rate_hz=rate_hz)
            writer.write(draw(frame.rgb if arrived is None else arrived, view), frame.stamp_ns)
            if sound is not None:
                until = round((t_s + period_s) * SOUND_RATE)
                writer.write_sound(sound[played:until])
                played = until
            progress(t_s)


def _nearest(
    records: Sequence[PredictionRecord], times: Sequence[float], t_s: float, period_s: float
) -> PredictionRecord | None:
    """The record about this frame: the nearest, if that is no more than a period away."""
    place = bisect_left(times, t_s)
    near = [i for i in (place - 1, place) if 0 <= i < len(times) and abs(times[i] - t_s) <= period_s]
    return records[min(near, key=lambda i: abs(times[i] - t_s))] if near else None


def _view(
    script: SensorScript,
    record: PredictionRecord | None,
    truth: Truth | None,
    t_s: float,
    *,
    seen: bool,
    rate_hz: float,
) -> PredictionView:
    true = truth.name_at(t_s) if truth else None
    phase = script.at(t_s).name
    if record is None:
        return PredictionView(truth=true, phase=phase, rate_hz=rate_hz, seen=seen)
    return PredictionView(
        actions=[(label.name, label.score) for label in record.actions],
        truth=true,
        sensors={name: sensor.state for name, sensor in record.sensors.items()},
        latency_ms=record.latency_ms,
        rate_hz=rate_hz,
        phase=phase,
        note=record.status.lower().replace("_", " "),
        seen=seen,
    )
