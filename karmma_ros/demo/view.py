# SPDX-License-Identifier: Apache-2.0
"""What the demo shows while it runs: a live panel in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from karmma_ros.demo.script import SensorPhase, SensorScript
from karmma_ros.records import PredictionRecord, Truth

__all__ = ["View", "open_view"]

_STYLES = {"OK": "green", "WAITING": "dim", "DISABLED": "dim", "STALE": "red"}  # the rest is yellow
_RATE_S = 2.0  # seconds over which the rate is counted
_LINE_EVERY_S = 2.0  # between two lines where there is no terminal


class View(Protocol):
    """Shows the demo; `update` is called a few times a second."""

    def update(self, t_s: float, records: Sequence[PredictionRecord]) -> None:
        """Shows the state at `t_s` from the start."""

    def close(self) -> None:
        """Leaves the screen as it should stay."""


def open_view(console: Console, script: SensorScript, truth: Truth | None, *, wanted: bool) -> View:
    """The view that suits the console; `wanted` False is silence."""
    if not wanted:
        return _Silence()
    return _Panel(console, script, truth) if console.is_terminal else _Lines(console, script, truth)


class _Silence:
    def update(self, t_s: float, records: Sequence[PredictionRecord]) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines:
    """One line at every change of phase and every two seconds."""

    def __init__(self, console: Console, script: SensorScript, truth: Truth | None) -> None:
        self._console, self._script, self._truth = console, script, truth
        self._next_s = 0.0
        self._phase = -1

    def update(self, t_s: float, records: Sequence[PredictionRecord]) -> None:
        number = self._script.number_at(t_s)
        if number != self._phase:
            self._phase = number
            self._console.print(f"-- {self._script.phases[number].name}", highlight=False)
        if t_s < self._next_s or not records:
            return
        self._next_s = t_s + _LINE_EVERY_S
        last = records[-1]
        latencies = _latencies(records, self._script.phases[number])
        sensors = " ".join(f"{name}={sensor.state.lower()}" for name, sensor in last.sensors.items())
        truth = f" (true: {_true_action(self._truth, last)})" if self._truth else ""
        self._console.print(
            f"{t_s:5.1f} s  {_said(last)}{truth}  {sensors}  {_rate(records):.1f} Hz  {_spread(latencies)}",
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        pass


class _Panel:
    """A panel that redraws itself in place."""

    def __init__(self, console: Console, script: SensorScript, truth: Truth | None) -> None:
        self._script, self._truth = script, truth
        # No thread of its own: it would take the interpreter from the listener at times that nobody chose.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def update(self, t_s: float, records: Sequence[PredictionRecord]) -> None:
        self._live.update(self._render(t_s, records), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _render(self, t_s: float, records: Sequence[PredictionRecord]) -> RenderableType:
        phases = self._script.phases
        number = self._script.number_at(t_s)
        title = f"[bold]{phases[number].name}[/]  [dim]{number + 1}/{len(phases)}[/]"
        total_s = phases[-1].end_s
        clock = Table.grid(expand=True, padding=(0, 1))
        clock.add_column(ratio=1)
        clock.add_column(justify="right", width=13)
        clock.add_row(
            ProgressBar(total=total_s, completed=min(t_s, total_s), complete_style="cyan"), f"{t_s:.1f}/{total_s:.0f} s"
        )
        parts: list[RenderableType] = [clock]
        if records:
            last = records[-1]
            parts += [Text(), self._answers(last), Text(), _sensors(last), Text()]
            latencies = _latencies(records, phases[number])
            parts.append(Text(f"{_rate(records):5.1f} predictions/s    latency {_spread(latencies)}", style="cyan"))
        else:
            parts.append(Text("waiting for the first prediction", style="dim"))
        return Panel(Group(*parts), title=title, title_align="left", width=78, padding=(0, 2))

    def _answers(self, last: PredictionRecord) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=9, style="dim")
        table.add_column(width=24)
        table.add_column(width=24)
        table.add_column(justify="right", width=5)
        true = _true_action(self._truth, last) if self._truth else None
        if true is not None:
            table.add_row("true", Text(true, style="bold"))
        style = "blue" if true is None else "green" if last.actions and last.actions[0].name == true else "red"
        if not last.actions:
            table.add_row("predicted", Text(_said(last), style="yellow"))
        for place, label in enumerate(last.actions[:3]):
            bar = ProgressBar(
                total=1.0, completed=label.score, width=24, complete_style=style if place == 0 else "grey50"
            )
            name = Text(label.name, style=f"bold {style}" if place == 0 else "dim")
            table.add_row("predicted" if place == 0 else "", name, bar, f"{label.score:.0%}")
        return table


def _sensors(last: PredictionRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    for width, justify in ((9, "left"), (12, "left"), (10, "right"), (24, "left"), (8, "right")):
        table.add_column(width=width, justify=justify)  # type: ignore[arg-type]
    for name, sensor in last.sensors.items():
        style = _STYLES.get(sensor.state, "yellow")
        bar = ProgressBar(total=1.0, completed=sensor.coverage, width=24, complete_style=style, finished_style=style)
        rate = f"{sensor.rate_hz:.1f} Hz" if sensor.rate_hz else ""
        table.add_row(name, Text(f"● {sensor.state.lower()}", style=style), rate, bar, f"{sensor.coverage:.0%}")
    return table


def _said(record: PredictionRecord) -> str:
    if record.actions:
        return f"{record.actions[0].name} {record.actions[0].score:.0%}"
    return record.status.lower().replace("_", " ")


def _true_action(truth: Truth, record: PredictionRecord) -> str:
    return truth.name_at(record.t_s)


def _rate(records: Sequence[PredictionRecord]) -> float:
    since_ns = records[-1].stamp_ns - round(_RATE_S * 1e9)
    recent = sum(record.stamp_ns > since_ns for record in records[-500:])
    return recent / min(_RATE_S, max(records[-1].t_s, 0.1))


def _latencies(records: Sequence[PredictionRecord], phase: SensorPhase) -> list[float]:
    return [r.latency_ms for r in records[-500:] if r.latency_ms is not None and r.t_s >= phase.start_s]


def _spread(latencies_ms: Sequence[float]) -> str:
    if not latencies_ms:
        return "-"
    p50, p99 = np.percentile(latencies_ms, (50, 99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
