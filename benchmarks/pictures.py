# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' results as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from karmma_ros.files import whole_file

__all__ = ["draw"]

_FRAME = "a frame"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"  # Okabe and Ito
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def draw(name: str, data: Mapping[str, Any], machine: Mapping[str, Any], path: Path) -> None:
    """Draws the results of one benchmark into a PNG."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    _PICTURES[name](figure, data)
    on_gpu = name == "providers" or data.get("providers", "cpu") != "cpu"
    parts = [*(machine["gpus"] if on_gpu else []), machine["cpu"], f"{machine['cores']} cores"]
    figure.suptitle(", ".join(parts), size=10, color="#555555")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _bars(axes: Axes, values: Mapping[str, float], unit: str, title: str, *, log: bool = False) -> None:
    names = list(values)[::-1]
    heights = [values[name] for name in names]
    colours = [BLUE] + [GREY] * (len(names) - 1) if log else [BLUE] * len(names)
    axes.barh(names, heights, color=colours[::-1] if log else colours)
    for place, value in enumerate(heights):
        text = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
        axes.annotate(f" {text}", (value, place), va="center", size=8)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(min(heights) / 3, max(heights) * 4)
        axes.xaxis.set_major_formatter(PLAIN)
    else:
        axes.set_xlim(right=max(heights) * 1.15)
    axes.set_xlabel(unit)
    axes.set_title(title, size=10)
    axes.spines[["top", "right"]].set_visible(False)


def _cost(figure: Figure, data: Mapping[str, Any]) -> None:
    ways, windows, sensors = figure.subplots(1, 3)
    _bars(ways, data["ways_ms"], "ms a prediction", "ways to a prediction", log=True)
    rows = data["windows"]
    lengths = [row["window_s"] for row in rows]
    for key, label, colour in (
        ("again_ms", "window encoded again", GREY),
        ("streaming_ms", "streaming", BLUE),
        ("fusion_ms", "of it fusion", ORANGE),
    ):
        windows.plot(lengths, [row[key] for row in rows], marker="o", label=label, color=colour)
    windows.set_yscale("log")
    windows.yaxis.set_major_formatter(PLAIN)
    windows.yaxis.set_minor_formatter(NullFormatter())
    windows.set_xticks(lengths)
    windows.set_xlabel("window [s]")
    windows.set_ylabel("ms a prediction")
    windows.set_title("by length of the window", size=10)
    windows.set_ylim(top=5 * max(row["again_ms"] for row in rows))
    windows.legend(frameon=False, fontsize=8, loc="upper left")
    windows.spines[["top", "right"]].set_visible(False)
    _bars(sensors, data["sensors_ms"], "ms a prediction", "by sensors that are there")


def _dds(figure: Figure, data: Mapping[str, Any]) -> None:
    rows = data["cameras"]
    core_ms = {row["camera"]: row["core_ms"]["p50"] for row in rows}
    _latencies(figure.subplots(), {row["camera"]: row["latency_ms"] for row in rows}, core_ms)


def _latencies(axes: Axes, rows: Mapping[str, Mapping[str, float]], core_ms: Mapping[str, float]) -> None:
    """A bar for each row's median with its percentiles, and where the bare core would be."""
    for place, (name, latency) in enumerate(reversed(list(rows.items()))):
        axes.barh(place, latency["p50"], color=BLUE, height=0.6, label=None if place else "median")
        for key, colour in (("p95", GREEN), ("p99", ORANGE)):
            axes.plot(latency[key], place, "o", color=colour, label=None if place else key)
        if name in core_ms:
            axes.plot(core_ms[name], place, "|", color="black", markersize=16, label=None if place else "bare core")
    axes.set_yticks(range(len(rows)), list(rows)[::-1])
    axes.set_ylim(-1, len(rows))
    axes.set_xlabel("image stamped to prediction heard [ms]")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _choices(figure: Figure, data: Mapping[str, Any]) -> None:
    nodes, runs = figure.subplots(1, 2)
    _latencies(nodes, data["nodes"], {})
    nodes.set_title(data["camera"], size=10)
    _bars(runs, data["runs_ms"], "ms", "one run of a graph")


def _precision(figure: Figure, data: Mapping[str, Any]) -> None:
    """What a frame costs, with the mean accuracy beside it; and what each subset loses."""
    rows = data["variants"]
    trade, lost = figure.subplots(1, 2)
    best = data["fastest_within_half_a_point"]
    for place, (name, row) in enumerate(reversed(rows.items())):
        trade.barh(place, row["frame_ms"], color=ORANGE if name == best else BLUE)
        trade.annotate(
            f" {row['frame_ms']:.2f} ms, {100 * row['mean']:.1f} %", (row["frame_ms"], place), va="center", size=8
        )
    trade.set_yticks(range(len(rows)), list(rows)[::-1])
    trade.set_xlim(right=1.25 * max(row["frame_ms"] for row in rows.values()))
    trade.set_xlabel("a frame [ms]; actions right, mean over the subsets [%]")
    exact, *others = (name for name in rows if "graphs_ms" in rows[name])  # a bar for each graph would be too much
    names = list(rows[exact]["subsets"])
    for number, name in enumerate(others):
        differences = [100 * (rows[name]["subsets"][s] - rows[exact]["subsets"][s]) for s in names]
        places = [k + (number + 0.5) / len(others) * 0.8 - 0.4 for k in range(len(names))]
        lost.bar(places, differences, 0.8 / len(others), label=name)
    lost.set_xticks(range(len(names)), [name.replace("+", "\n") for name in names], size=8)
    lost.axhline(0, color="black", linewidth=0.8)
    lost.set_ylabel(f"against {exact} [points]")
    lost.legend(frameon=False, fontsize=8)
    for axes in (trade, lost):
        axes.spines[["top", "right"]].set_visible(False)


def _providers(figure: Figure, data: Mapping[str, Any]) -> None:
    """A group of bars for each graph, and for a frame."""
    rows = data["by_provider"]
    axes = figure.subplots()
    colours = {"cpu": BLUE, "cuda": GREEN, "tensorrt": ORANGE}
    height = 0.8 / len(rows)
    names = [*rows[0]["graphs_ms"], *([_FRAME] if "frame_ms" in rows[0] else [])]
    for i, row in enumerate(rows):
        values = {**row["graphs_ms"], _FRAME: row.get("frame_ms", 0.0)}
        places = [k + (0.5 - i / len(rows)) * 0.8 - height / 2 for k in range(len(names))][::-1]
        label = f"{row['provider']}, {row['precision']}"
        alpha = 1.0 if row["precision"] == rows[0]["precision"] else 0.5
        axes.barh(places, [values[n] for n in names], height, color=colours[row["provider"]], alpha=alpha, label=label)
        for place, name in zip(places, names, strict=True):
            axes.annotate(f" {values[name]:.2g}", (values[name], place), va="center", size=7)
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set_xlabel("ms")
    axes.set_title("one run of a graph, and a frame with all its sensors", size=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _replay(figure: Figure, data: Mapping[str, Any]) -> None:
    values = {name: row["times_real_time"] for name, row in data["bags"].items()}
    _bars(figure.subplots(), values, "times real time", "a bag of 640x480 at 30 Hz with sound, replayed")


def _decode(figure: Figure, data: Mapping[str, Any]) -> None:
    rows = data["clips_per_s"]
    axes = figure.subplots()
    height = 0.27
    for i, (way, colour) in enumerate(zip(next(iter(rows.values())), (BLUE, GREY, GREEN), strict=True)):
        places = [k + (1 - i) * height for k in range(len(rows))][::-1]
        axes.barh(places, [row[way] for row in rows.values()], height, color=colour, label=way)
    axes.set_yticks(range(len(rows)), list(rows)[::-1])
    axes.set_xlabel("clips a second")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


_PICTURES: Mapping[str, Callable[[Figure, Mapping[str, Any]], None]] = {
    "choices": _choices,
    "cost": _cost,
    "dds": _dds,
    "decode": _decode,
    "precision": _precision,
    "providers": _providers,
    "replay": _replay,
}
