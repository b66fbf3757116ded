# SPDX-License-Identifier: Apache-2.0
"""The demo's camera and microphone: a process that publishes a source in real time, leaving out what the script says.

    python -m karmma_ros.demo.player      a pickled `Assignment` on stdin, then JSON commands; JSON reports on stdout

It sends {"event": "matched"} when its first seconds are rendered and every topic has a subscriber, waits for
{"start_ns": N} (ROS time of the first frame), plays, sends {"event": "done", ...} and stays until stdin closes, so that
nothing it published is cut off.
"""

from __future__ import annotations

import array
import json
import os
import pickle
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from karmma_ros.demo.ahead import FlowSettings, FramesAhead, Prepared
from karmma_ros.demo.script import SensorScript
from karmma_ros.demo.sources import SOUND_RATE, Source
from karmma_ros.errors import KarmmaError

__all__ = ["Assignment", "main"]

CHUNK = 512  # sound samples in one message: 32 ms
_NS = 1_000_000_000


@dataclass(frozen=True)
class Assignment:
    """What to play."""

    source: Source
    script: SensorScript
    flow: FlowSettings
    heard: frozenset[str]  # modalities that the bundle knows
    ahead_s: float = 3.0  # seconds rendered ahead


def main() -> int:
    """The process."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not get between the reports
    commands = sys.stdin.buffer
    assignment: Assignment = pickle.load(commands)  # nosec B301  # noqa: S301 - from the demo itself, through its own pipe
    try:
        _play(assignment, commands, report)
    except KarmmaError as error:
        _send(report, {"event": "failed", "reason": str(error)})
        return 1
    except (KeyboardInterrupt, BrokenPipeError, EOFError):  # the demo is gone or wants us to be
        return 0
    return 0


def _play(assignment: Assignment, commands: BinaryIO, report: Any) -> None:
    from karmma_ros import transport

    transport.prepare()
    import rclpy  # after the transport's settings

    from karmma_ros.demo.sensors import Sensors

    source = assignment.source
    ahead = max(8, round(assignment.ahead_s * source.rate))
    with FramesAhead(source, assignment.flow, ahead=ahead) as frames:
        sound = source.sound()
        frames.prefill(60.0)
        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        try:
            sensors = Sensors(assignment.heard if sound is not None else assignment.heard - {"audio"})
            while not sensors.matched():
                _stop_if_closed(commands)
                time.sleep(0.02)
            _send(report, {"event": "matched"})
            start_ns = int(json.loads(_line(commands))["start_ns"])
            outcome = _Outcome([{"video": 0, "flow": 0, "audio": 0} for _ in assignment.script.phases], [])
            _perform(_Schedule(start_ns), frames, sound, assignment.script, sensors, outcome)
            late_ms = np.percentile(outcome.late_ms or [0.0], (50, 99, 100))
            late = {name: round(float(ms), 3) for name, ms in zip(("p50", "p99", "max"), late_ms, strict=True)}
            _send(report, {"event": "done", "sent": outcome.sent, "late_ms": late})
            commands.read()  # until it closes
            sensors.destroy()
        finally:
            rclpy.try_shutdown()


@dataclass
class _Outcome:
    sent: list[dict[str, int]]  # messages by phase and topic
    late_ms: list[float]  # how long after their moment the frames were published


class _Schedule:
    """ROS time of the recording's moments, kept by the steady clock: a corrected system clock cannot disturb it."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self._steady_start_ns = time.monotonic_ns() + start_ns - time.time_ns()

    def wait(self, offset_ns: int) -> float:
        """Sleeps until `offset_ns` from the start; gives how late it is [ms]."""
        due_ns = self._steady_start_ns + offset_ns
        early_ns = due_ns - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / _NS)
        return (time.monotonic_ns() - due_ns) / 1e6


def _perform(
    schedule: _Schedule,
    frames: FramesAhead,
    sound: npt.NDArray[np.float32] | None,
    script: SensorScript,
    sensors: Any,
    outcome: _Outcome,
) -> None:
    """Publishes everything at its moment: a frame when it is taken, its flow right after, a chunk at its end."""
    chunks = _chunks(sound)
    chunk = next(chunks, None)
    for frame in frames:
        while chunk is not None and chunk[0] <= frame.stamp_ns:
            _play_chunk(schedule, chunk, script, sensors, outcome)
            chunk = next(chunks, None)
        t_s = frame.stamp_ns / _NS
        _play_frame(schedule, frame, t_s, script, sensors, outcome)
    while chunk is not None:
        _play_chunk(schedule, chunk, script, sensors, outcome)
        chunk = next(chunks, None)


def _play_frame(
    schedule: _Schedule, frame: Prepared, t_s: float, script: SensorScript, sensors: Any, outcome: _Outcome
) -> None:
    stamp_ns = schedule.start_ns + frame.stamp_ns
    number = script.number_at(t_s)
    image = sensors.image(stamp_ns, frame.rgb) if script.delivers_frame(frame.number, t_s) else None
    flow = None
    if frame.flow is not None and script.delivers_flow(frame.number, t_s):
        flow = sensors.flow(stamp_ns, frame.flow)
    late_ms = schedule.wait(frame.stamp_ns)
    if image is not None:
        sensors.publish_image(image)
        outcome.sent[number]["video"] += 1
        outcome.late_ms.append(late_ms)
    if flow is not None:
        sensors.publish_flow(flow)
        outcome.sent[number]["flow"] += 1


def _chunks(sound: npt.NDArray[np.float32] | None) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """(time of its end [ns], time of its start [ns], samples) of every whole chunk."""
    for start in range(0, 0 if sound is None else len(sound) - CHUNK + 1, CHUNK):
        assert sound is not None
        ends = ((start + CHUNK) * _NS // SOUND_RATE, start * _NS // SOUND_RATE)
        yield (*ends, sound[start : start + CHUNK])


def _play_chunk(
    schedule: _Schedule,
    chunk: tuple[int, int, npt.NDArray[np.float32]],
    script: SensorScript,
    sensors: Any,
    outcome: _Outcome,
) -> None:
    end_ns, begin_ns, samples = chunk
    schedule.wait(end_ns)
    if script.delivers_audio(begin_ns / _NS):
        sensors.publish_audio(schedule.start_ns + begin_ns, array.array("f", samples.tobytes()))
        outcome.sent[script.number_at(begin_ns / _NS)]["audio"] += 1


def _line(commands: BinaryIO) -> bytes:
    line = commands.readline()
    if not line:
        raise EOFError
    return line


def _stop_if_closed(commands: BinaryIO) -> None:
    """Raises EOFError once the demo has closed our stdin; nothing is sent before it knows that we are ready."""
    if select.select([commands], [], [], 0)[0]:
        raise EOFError


def _send(report: Any, message: dict[str, Any]) -> None:
    report.write(json.dumps(message) + "\n")
    report.flush()


if __name__ == "__main__":
    sys.exit(main())
