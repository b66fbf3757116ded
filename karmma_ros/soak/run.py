# SPDX-License-Identifier: Apache-2.0
"""Runs the soak: starts node, sensors and deaf subscribers, listens, interferes, watches, and judges."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from karmma_ros.bundle import Bundle
from karmma_ros.files import write_json
from karmma_ros.processes import (
    Child,
    ProcessDiedError,
    node_arguments,
    own_domain,
    ros_environment,
    shared_memory_of,
    unlink_shared_memory,
)
from karmma_ros.soak.storm import SENSORS, Storm, make_storm
from karmma_ros.soak.watch import Watch, longest_gaps, usage_of, verdict

__all__ = ["run_soak"]

NODE = "action_node"
READY_S = 60.0
STILL_S = 10.0  # [s] that a subscriber stands still, again and again; after 20 s it would count as gone
WARM_S = 3.0  # predictions before the storm begins: everything the node allocates once is allocated
_LINGER_S = 0.5
_LOOK_S = 0.02  # between two looks
_ENDING_S = 1.0  # before the end of the storm the sensors may have ended


@dataclass
class _Sensors:
    """The processes of the sensors, which are replaced when they are killed."""

    environment: dict[str, str]
    storm: Storm
    seconds: float
    transport: str
    segments: set[Path]
    children: dict[str, Child] = field(default_factory=dict)
    kills: int = 0

    def start(self, names: Sequence[str], start_ns: int) -> None:
        for name in names:
            script = [str(self.seconds), str(self.storm.seed), str(start_ns), self.transport]
            arguments = ["-m", "karmma_ros.soak.sensors", name, *script]
            self.children[name] = Child(f"the sensor {name}", arguments, self.environment)

    def kill(self, names: Sequence[str]) -> None:
        """As the kernel would: no goodbye to anybody."""
        for name in names:
            child = self.children.pop(name)
            self.segments |= shared_memory_of([child.pid])
            child.process.send_signal(signal.SIGKILL)
            child.process.wait()
            child.__exit__()
        self.kills += 1

    def check(self) -> None:
        """:raises ProcessDiedError: one has ended by itself."""
        for child in self.children.values():
            child.check()

    def end(self) -> None:
        for child in self.children.values():
            self.segments |= shared_memory_of([child.pid])
            child.__exit__()


def run_soak(
    bundle: Bundle, seconds: float, seed: int, out: Path, console: Console, *, transport: str = "raw"
) -> dict[str, Any]:
    """Runs the storm and gives the verdict, which is also in `out`/soak.json; the node's log is in `out`/node.log.

    :param transport: of the camera, raw or compressed.
    :raises ProcessDiedError: the node ends before its time, or does not get ready.
    """
    storm = make_storm(seconds, seed)
    with ExitStack() as stack:
        domain = stack.enter_context(own_domain())
        stack.enter_context(ros_environment(domain))
        segments: set[Path] = set()
        stack.callback(unlink_shared_memory, segments)
        environment = {**os.environ}
        node = stack.enter_context(
            Child(
                "the action node",
                node_arguments(NODE, {"bundle": bundle.folder, "image.transport": transport}),
                environment,
            )
        )
        deaf = [
            # A process that is stopped heeds nothing but SIGKILL.
            stack.enter_context(
                Child(name, ["-m", "karmma_ros.soak.deaf", f"/{NODE}/actions"], environment, death=signal.SIGKILL)
            )
            for name in ("the deaf subscriber", "the one that stands still")
        ]
        for child in deaf:
            stack.callback(child.process.kill)
        sensors = _Sensors(environment, storm, seconds, transport, segments)
        import rclpy

        from karmma_ros.soak.ear import Ear

        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        ear = Ear(NODE)
        stack.callback(ear.destroy)
        try:
            _get_ready(node, ear, console)
            watch, arrivals_s = _weather(storm, seconds, node, deaf, sensors, ear, console)
        finally:
            log = node.log()  # of a node that crashed, too
            out.mkdir(parents=True, exist_ok=True)
            (out / "node.log").write_text(log)
            segments |= shared_memory_of([os.getpid(), node.pid, *(child.pid for child in deaf)])
            sensors.end()
    result = verdict(seconds, arrivals_s, storm.due(), watch, _exceptions(log), ear.statuses)
    result |= {
        "seed": seed,
        "transport": transport,
        "bundle": bundle.name,
        "states": ear.states,
        "statuses": ear.statuses,
    }
    result["gaps"] = [
        {
            "t_s": round(begin_s, 2),
            "gap_s": round(gap_s, 3),
            "machine_s": round(watch.stood_still_s(begin_s, begin_s + gap_s), 3),
            "weather": storm.episodes[storm.number_at(begin_s)].name,
        }
        for begin_s, gap_s in longest_gaps(seconds, arrivals_s)
    ]
    result["killed"] = sensors.kills
    result["usage"] = [[round(u.t_s, 1), round(u.resident_mb, 2), u.threads, u.files] for u in watch.usages]
    write_json(out / "soak.json", result)
    return result


def _get_ready(node: Child, ear: Any, console: Console) -> None:
    """Waits until the node has predicted for a while."""
    deadline = time.monotonic() + READY_S
    first_s: float | None = None
    with console.status("starting the node"):
        while first_s is None or time.monotonic() - first_s < WARM_S:
            time.sleep(0.05)
            node.check()
            if ear.arrivals_s and first_s is None:
                first_s = ear.arrivals_s[0]
            if time.monotonic() > deadline:
                raise ProcessDiedError(f"the node did not predict anything within {READY_S:.0f} s: {node.log()[-300:]}")


def _weather(
    storm: Storm,
    seconds: float,
    node: Child,
    deaf: Sequence[Child],
    sensors: _Sensors,
    ear: Any,
    console: Console,
) -> tuple[Watch, list[float]]:
    """The storm; gives what the node used, and when predictions were heard, from the start."""
    watch = Watch()
    start_ns = time.time_ns() + 5 * 10**9  # time for the sensors to render their scene
    sensors.start(SENSORS, start_ns)
    start_s = time.monotonic() + (start_ns - time.time_ns()) / 1e9
    number, next_s = -1, 0.0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("storm", total=seconds)
        while (t_s := time.monotonic() - start_s) < seconds + _LINGER_S:
            before_s = time.monotonic()
            time.sleep(_LOOK_S)
            watch.slept(t_s, time.monotonic() - before_s - _LOOK_S)
            node.check()
            for child in deaf:
                child.check()
            if t_s < seconds - _ENDING_S:
                sensors.check()
            if t_s >= next_s and t_s < seconds:
                stands_still = t_s // STILL_S % 2
                deaf[-1].process.send_signal(signal.SIGSTOP if stands_still else signal.SIGCONT)
                watch.subscribers.append(ear.subscribers())
                watch.usages.append(usage_of(node.pid, t_s))
                next_s += 1.0
                resident_mb = watch.usages[-1].resident_mb
                progress.update(
                    task, completed=t_s, description=f"storm, {len(ear.arrivals_s)} predictions, {resident_mb:.0f} MB"
                )
            if 0 <= t_s < seconds and storm.number_at(t_s) != number:
                number = storm.number_at(t_s)
                episode = storm.episodes[number]
                if episode.killed:
                    sensors.kill(episode.killed)
                    sensors.start(episode.killed, start_ns)
                if episode.modalities is not None:
                    ear.set_modalities(episode.modalities)
    return watch, [at_s - start_s for at_s in ear.arrivals_s]


def _exceptions(log: str) -> list[str]:
    """Lines that tell of something raised in the node."""
    return [line for line in log.splitlines() if "Traceback" in line or "worker:" in line or "[FATAL]" in line]
