# SPDX-License-Identifier: Apache-2.0
"""How fast a recorded bag is watched: 640x480 at 30 Hz with sound, pictures raw or JPEG, flow recorded or computed."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress

from karmma_benchmarks.feed import FPS, Feed
from karmma_benchmarks.settings import Report, Settings, Table
from karmma_ros.bags.reader import Bag
from karmma_ros.bags.replay import Replay
from karmma_ros.bags.topics import choose, origin_ns
from karmma_ros.bags.writer import BagWriter
from karmma_ros.flow import FlowProducer
from karmma_ros.recognizer import Recognizer

__all__ = ["run"]

BAGS: Mapping[str, tuple[bool, bool]] = {  # jpeg, with flow
    "raw, flow recorded": (False, True),
    "raw, flow computed": (False, False),
    "JPEG, flow recorded": (True, True),
    "JPEG, flow computed": (True, False),
}


def run(settings: Settings) -> Report:
    """Measures."""
    seconds = 3.0 if settings.quick else 20.0
    rounds = 1 if settings.quick else 3
    feed = Feed(settings.bundle)
    speeds: dict[str, list[float]] = {name: [] for name in BAGS}
    frames: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, Progress(console=settings.console, transient=True) as progress:
        paths = {name: Path(folder) / f"bag{i}" for i, name in enumerate(BAGS)}
        for name, path in progress.track(list(paths.items()), description="writing bags"):
            _write(path, feed, seconds, *BAGS[name])
        for _ in progress.track(range(rounds), description="replaying"):
            for name, path in paths.items():
                begun = time.perf_counter()
                frames[name] = _watch(path, settings, with_flow=BAGS[name][1])
                speeds[name].append(seconds / (time.perf_counter() - begun))
    middle = {name: round(statistics.median(values), 2) for name, values in speeds.items()}
    bags = {name: {"times_real_time": speed, "predictions": frames[name]} for name, speed in middle.items()}
    rows = [[name, f"{row['times_real_time']:.1f}", f"{row['predictions']}"] for name, row in bags.items()]
    return Report(
        {"seconds": seconds, "bags": bags},
        [Table("640x480 at 30 Hz with sound", ["bag", "times real time", "predictions"], rows)],
    )


def _write(path: Path, feed: Feed, seconds: float, jpeg: bool, with_flow: bool) -> None:
    with BagWriter(path, storage="sqlite3") as bag:
        for index in range(round(seconds * FPS)):
            moment = feed.at(index)
            log_ns = moment.stamp_ns + 5_000_000
            (bag.jpeg if jpeg else bag.image)("/camera/image", moment.stamp_ns, moment.rgb, log_ns=log_ns)
            if with_flow:
                bag.flow("/flow", moment.stamp_ns, moment.flow, log_ns=log_ns)
            bag.audio("/audio", moment.begin_ns, moment.sound, feed.rate, log_ns=log_ns)


def _watch(path: Path, settings: Settings, *, with_flow: bool) -> int:
    """Replays a bag; gives the number of predictions. The bundle's loading is part of it."""
    recognizer = Recognizer(settings.bundle, providers=settings.providers, threads=settings.threads)
    spec = recognizer.bundle.modalities["flow"].producer if "flow" in recognizer.bundle.modalities else None
    producer = FlowProducer(spec.size, spec.preset) if spec and not with_flow else None
    with Bag(path) as bag:
        sensors = choose(bag, {})
        replay = Replay(recognizer, bag, sensors, producer=producer)
        return sum(1 for _ in replay.run(origin_ns=origin_ns(bag, sensors)[1]))
