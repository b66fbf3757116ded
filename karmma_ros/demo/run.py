# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: starts node and player, listens and shows while they play, and writes what came of it."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from karmma_ros.bundle import Bundle
from karmma_ros.demo.ahead import FlowSettings
from karmma_ros.demo.film import shoot
from karmma_ros.demo.player import Assignment
from karmma_ros.demo.script import SensorScript, sensor_script
from karmma_ros.demo.sources import Source
from karmma_ros.demo.table import offline_accuracies, result_table
from karmma_ros.demo.view import open_view
from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_file, write_json
from karmma_ros.processes import (
    Child,
    ProcessDiedError,
    node_arguments,
    own_domain,
    ros_environment,
    shared_memory_of,
    unlink_shared_memory,
)
from karmma_ros.records import PredictionRecord, Truth, summarise, to_line

__all__ = ["Settings", "run_demo"]

NODE = "action_node"
READY_S = 60.0  # how long node and player may take to be ready
_LEAD_NS = 500_000_000  # from "everything is ready" to the first frame
_LINGER_S = 1.0  # after the last frame, for the predictions on their way
_REFRESH_S = 0.25
_LATE_MS = 5.0  # a player that is this late had no time to play
_DEFAULT_FLOW = FlowSettings((160, 120), "fast")


@dataclass(frozen=True)
class Settings:
    """What to run and where to put the results."""

    bundle: Bundle
    source: Source
    out: Path
    seed: int
    view: bool
    film: bool = True


def run_demo(settings: Settings, console: Console) -> dict[str, Any]:
    """Runs the whole demo and gives its summary.

    :raises ProcessDiedError: if node or player end before their time.
    :raises KarmmaError: if they do not get ready. :raises OSError: if results cannot be written.
    """
    source, bundle = settings.source, settings.bundle
    script = sensor_script(source.seconds, settings.seed, source.rate)
    truth = source.truth(_pairs(bundle))
    records, played = _perform(settings, script, truth, console)

    # Predictions are on disk before anything that knows the truth.
    with whole_file(settings.out / "predictions.jsonl") as path:
        path.write_text("".join(map(to_line, records)), encoding="utf-8")
    if truth is not None:
        _write_truth(settings.out / "truth.jsonl", truth, source.seconds)
    frames = [phase["video"] for phase in played["sent"]]
    summary = summarise(records, script.phases, bundle=bundle.name, rate_hz=source.rate, sent=frames, truth=truth)
    write_json(settings.out / "summary.json", summary)
    console.print(result_table(summary, script, offline_accuracies(bundle.folder)))
    if played["late_ms"]["p99"] > _LATE_MS:
        late = f"{played['late_ms']['p99']:.0f} ms (p99)"
        console.print(
            f"this machine was busy: frames were published {late} late, which counts as latency", style="yellow"
        )
    if settings.film:
        with _film_progress(console, source.seconds) as progress:
            shoot(settings.out / "overlay.mp4", source, script, records, truth, progress)
    console.print(f"written to {settings.out}: {', '.join(_written(settings, truth))}", highlight=False, soft_wrap=True)
    return summary


def _written(settings: Settings, truth: Truth | None) -> list[str]:
    names = ["predictions.jsonl", "summary.json"]
    return names + (["truth.jsonl"] if truth else []) + (["overlay.mp4"] if settings.film else [])


def _pairs(bundle: Bundle) -> list[tuple[str, str]]:
    """(verb, noun) of every action id."""
    if "action" in bundle.heads:
        return [(verb, noun or "none") for verb, _, noun in (name.partition(" ") for name in bundle.action_names)]
    verbs, nouns = bundle.heads["verb"], bundle.heads["noun"]
    return [(verbs[v], nouns[n]) for v, n in bundle.actions]


def _write_truth(path: Path, truth: Truth, seconds: float) -> None:
    """One line for each interval of an action."""
    bounds = [0.0, *(change for change in truth.changes_s if 0 < change < seconds), seconds]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for start, stop in pairwise(bounds):
            middle = (start + stop) / 2
            verb, noun = truth.at(middle)
            interval = {"start_s": round(start, 6), "stop_s": round(stop, 6), "verb": verb, "noun": noun}
            file.write(json.dumps(interval | {"action": truth.name_at(middle)}) + "\n")


def _perform(
    settings: Settings, script: SensorScript, truth: Truth | None, console: Console
) -> tuple[list[PredictionRecord], dict[str, Any]]:
    """Plays the recording to the node; gives its predictions and the player's last report."""
    with ExitStack() as stack:
        domain = stack.enter_context(own_domain())
        stack.enter_context(ros_environment(domain))
        segments: set[Path] = set()
        stack.callback(unlink_shared_memory, segments)  # last, when all who used them are gone
        environment = {**os.environ}
        node = stack.enter_context(Child("the action node", _node_arguments(settings.bundle), environment))
        player = stack.enter_context(Child("the player", ["-m", "karmma_ros.demo.player"], environment, talks=True))
        link = _PlayerLink(player)
        flow = settings.bundle.modalities.get("flow")
        producer = flow.producer if flow else None
        link.assign(
            Assignment(
                settings.source,
                script,
                FlowSettings(producer.size, producer.preset) if producer else _DEFAULT_FLOW,
                frozenset(settings.bundle.modalities),
            )
        )
        import rclpy

        from karmma_ros.demo.listener import Listener

        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)  # Ctrl-C stays a KeyboardInterrupt
        stack.callback(rclpy.try_shutdown)
        listener = Listener(NODE)
        stack.callback(listener.destroy)
        try:
            _get_ready(node, player, link, listener, console)
            segments |= shared_memory_of([os.getpid(), node.pid, player.pid])  # the dead cannot be asked
            played = _play(settings, script, truth, console, (node, player), link, listener)
        finally:
            segments |= shared_memory_of([os.getpid(), node.pid, player.pid])
    return listener.records, played


def _node_arguments(bundle: Bundle) -> list[str]:
    return node_arguments(NODE, {"bundle": bundle.folder, "autostart": "true", "flow.source": "independent"})


class _PlayerLink:
    """Talks to the player without ever waiting for it."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def assign(self, assignment: Assignment) -> None:
        self._child.say(pickle.dumps(assignment))

    def start(self, start_ns: int) -> None:
        self._child.say(json.dumps({"start_ns": start_ns}).encode() + b"\n")

    def report(self) -> dict[str, Any] | None:
        """The next report, if there is one. :raises KarmmaError: if the player says that it failed."""
        line = self._child.read_line()
        if line is None:
            return None
        report: dict[str, Any] = json.loads(line)
        if report["event"] == "failed":
            raise KarmmaError(f"the player failed: {report['reason']}")
        return report


def _get_ready(node: Child, player: Child, link: _PlayerLink, listener: Any, console: Console) -> None:
    """Waits until the node is active, its predictions reach us, and the player's topics have subscribers."""
    deadline = time.monotonic() + READY_S
    matched = active = False
    with console.status("starting the node and rendering the first seconds"):
        while not (matched and active):
            listener.spin(0.05)
            active = listener.ready()
            report = link.report()
            matched = matched or (report is not None and report["event"] == "matched")
            node.check()
            player.check()
            if time.monotonic() > deadline:
                lines = node.log().strip().splitlines()
                last = f"; the node's last words: {lines[-1]}" if lines else ""
                what = "the player did not get ready" if active else "the node did not become active"
                raise ProcessDiedError(f"{what} within {READY_S:.0f} s{last}")


def _play(
    settings: Settings,
    script: SensorScript,
    truth: Truth | None,
    console: Console,
    children: Sequence[Child],
    link: _PlayerLink,
    listener: Any,
) -> dict[str, Any]:
    """The recording, in real time; gives the player's last report."""
    start_ns = time.time_ns() + _LEAD_NS
    listener.begin(start_ns, settings.source.seconds)
    link.start(start_ns)
    view = open_view(console, script, truth, wanted=settings.view)
    played: dict[str, Any] | None = None
    end: float | None = None
    next_view = time.monotonic()
    try:
        while end is None or time.monotonic() < end:
            listener.spin(0.02)
            for child in children:
                child.check()
            report = link.report()
            if report is not None and report["event"] == "done":
                played, end = report, time.monotonic() + _LINGER_S
            now = time.monotonic()
            t_s = (time.time_ns() - start_ns) / 1e9
            if now >= next_view and 0 <= t_s < settings.source.seconds:
                view.update(t_s, listener.records)
                next_view = time.monotonic() + _REFRESH_S
    finally:
        view.close()
    assert played is not None
    return played


@contextmanager
def _film_progress(console: Console, seconds: float) -> Iterator[Any]:
    columns = (
        TextColumn("making the film"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("film", total=seconds)
        yield lambda t_s: progress.update(task, completed=t_s)
