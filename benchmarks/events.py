# SPDX-License-Identifier: Apache-2.0
"""What events are worth, against the plain stream of best labels; and what they cost in delay.

    scripts/run python benchmarks/events.py --out out/events

Renders long sequences, lets the shipped bundle watch them (with all sensors, and while sensors fail), and compares the
segments of time with the truth. The detector's settings are chosen on validation scenes alone and tried on test scenes.
Writes events.json and events.md.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from karmma_ros.event_log import EventLog
from karmma_ros.events import EventSettings
from karmma_ros.files import whole_file, write_json
from karmma_ros.flow import FlowProducer
from karmma_ros.manifest import Manifest, action_name
from karmma_ros.offline import OfflineSensors
from karmma_ros.recognizer import Recognizer
from karmma_ros.records import describe_machine
from karmma_ros.segments import Segment, SegmentScores, score_segments, segments_of_labels
from karmma_ros.tabletop.sequence import Sequence as Scene
from karmma_ros.tabletop.sequence import make_sequence

SIZE, FPS, RATE = (320, 240), 30, 16000
CONDITIONS = {
    "all sensors": (),
    "camera fails": ("video", "flow"),
    "microphone fails": ("audio",),
    "either fails in turn": ("video", "flow", "audio"),
}
OUTAGE_S, PERIOD_S = 8.0, 20.0  # a sensor that fails is away for this long, once in so long


@dataclass(frozen=True)
class Watched:
    """A sequence and what was said of it: (T, A) scores, rows of NaN where nothing was said."""

    truth: list[Segment]
    scores: np.ndarray

    @property
    def duration_s(self) -> float:
        return len(self.scores) / FPS


def away(condition: str, modality: str, t_s: float) -> bool:
    """Whether a sensor is unplugged at `t_s`. In turn: the camera in one outage, the microphone in the next."""
    if modality not in CONDITIONS[condition] or t_s % PERIOD_S < PERIOD_S - OUTAGE_S:
        return False
    if condition == "either fails in turn":
        return (modality == "audio") == bool(int(t_s // PERIOD_S) % 2)
    return True


def watch(recognizer: Recognizer, scene: Scene, conditions: Sequence[str]) -> Iterator[Watched]:
    """What the recogniser says of one sequence, under each condition."""
    producer = recognizer.bundle.modalities["flow"].producer
    assert producer is not None
    frames = [np.asarray(frame, np.uint8) for frame in scene.frames()]
    stamps = [_stamp(i) for i in range(len(frames))]
    flow = FlowProducer(producer.size, producer.preset)
    flows = [flow.push(stamp, frame) for stamp, frame in zip(stamps, frames, strict=True)]
    sound, chunk = scene.sound(), RATE // FPS + 1
    truth = [Segment(action_name(i.verb, i.noun), i.start_s, i.stop_s) for i in scene.intervals if i.verb != "idle"]
    for condition in conditions:
        recognizer.reset()
        sensors = OfflineSensors(recognizer)
        heard, rows = 0, []
        for stamp, frame, field in zip(stamps, frames, flows, strict=True):
            t_s = stamp / 1e9
            while heard + chunk <= round(t_s * RATE):
                begin_ns = heard * 10**9 // RATE
                if not away(condition, "audio", heard / RATE):
                    sensors.push("audio", begin_ns, sound[heard : heard + chunk], RATE, arrived_ns=stamp)
                heard += chunk
            if not away(condition, "video", t_s):
                sensors.push("video", stamp, frame)
                if field is not None:
                    sensors.push("flow", stamp, field)
            scores = recognizer.predict(stamp).scores
            rows.append(np.full(len(recognizer.bundle.action_names), np.nan) if scores is None else scores)
        yield Watched(truth, np.stack(rows))


def _stamp(index: int) -> int:
    """[ns] When a frame was taken."""
    return index * 10**9 // FPS


def by_events(watched: Watched, bundle: Manifest, settings: EventSettings) -> SegmentScores:
    """The detector's segments against the truth."""
    log = EventLog(bundle, origin_ns=0, settings=settings)
    for i, row in enumerate(watched.scores):
        log.take(_stamp(i), None if np.isnan(row).any() else row)
    log.close()
    said = [Segment(a.action, a.start_s, a.stop_s, a.decided_s) for a in log.actions]
    return score_segments(said, watched.truth, watched.duration_s)


def by_best_label(watched: Watched, bundle: Manifest) -> SegmentScores:
    """Runs of the best label against the truth."""
    names = bundle.action_names
    labels = [None if np.isnan(row).any() else names[int(row.argmax())] for row in watched.scores]
    times = [i / FPS for i in range(len(labels))]
    said = segments_of_labels(times, labels, ("idle",), end_s=times[-1] + 1 / FPS)
    return score_segments(said, watched.truth, watched.duration_s)


def total(scores: Sequence[SegmentScores]) -> SegmentScores:
    return sum(scores, SegmentScores())


def report(scores: SegmentScores) -> dict[str, Any]:
    """The figures; latencies are None where nothing was found."""
    p50, p90 = np.percentile(scores.latencies_s, (50, 90)).round(2).tolist() if scores.latencies_s else (None, None)
    return {
        "f1": round(100 * scores.f1, 1),
        "start_latency_s": p50,
        "start_latency_p90_s": p90,
        "false_starts_per_minute": round(scores.false_starts_per_minute, 2),
        "said": scores.said,
        "true": scores.true,
    }


def choose(watched: Sequence[Watched], bundle: Manifest) -> list[dict[str, Any]]:
    """Every combination of settings on validation scenes, best F1 first."""
    grid = list(product((0.2, 0.4, 0.7, 1.0), (0.4, 0.5, 0.6), (0.15, 0.25, 0.35), (0.3, 0.5, 0.8)))
    tried = []
    for smoothing_s, start, end, least_s in track(grid, "settings"):
        settings = EventSettings(smoothing_s, start, end, least_s)
        tried.append({"settings": asdict(settings)} | report(total([by_events(w, bundle, settings) for w in watched])))
    return sorted(tried, key=lambda row: (-row["f1"], row["start_latency_s"] or math.inf))


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = [
        "| sensors | stream | F1 at 50 % overlap | starts after, p50 / p90 [s] | false starts a minute | said / true |",
        "|---|---|---|---|---|---|",
    ]
    for condition, streams in results.items():
        for stream, row in streams.items():
            spans = (row["start_latency_s"], row["start_latency_p90_s"])
            latency = " / ".join("-" if span is None else f"{span:.2f}" for span in spans)
            counts = f"{row['false_starts_per_minute']:.2f} | {row['said']} / {row['true']}"
            lines.append(f"| {condition} | {stream} | {row['f1']:.1f} | {latency} | {counts} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/events"), help="folder for the results")
    parser.add_argument("--bundle", default="tabletop")
    parser.add_argument("--val", type=int, default=6, help="validation sequences")
    parser.add_argument("--test", type=int, default=10, help="test sequences")
    parser.add_argument("--seconds", type=float, default=120.0, help="[s] length of a sequence")
    args = parser.parse_args()
    recognizer = Recognizer(args.bundle)
    bundle = recognizer.bundle

    def scene(split: str, seed: int) -> Scene:
        return make_sequence(seed, split, duration_s=args.seconds, size=SIZE, fps=FPS)

    val: list[Watched] = []
    for seed in track(range(args.val), "validation"):
        val += watch(recognizer, scene("val", seed), ("all sensors", "either fails in turn"))
    tried = choose(val, bundle)
    streams: dict[str, list[list[SegmentScores]]] = {condition: [[], []] for condition in CONDITIONS}
    for seed in track(range(args.test), "test"):
        for condition, watched in zip(
            CONDITIONS, watch(recognizer, scene("test", seed), list(CONDITIONS)), strict=True
        ):
            streams[condition][0].append(by_best_label(watched, bundle))
            streams[condition][1].append(by_events(watched, bundle, EventSettings()))
    results = {
        condition: {"best label": report(total(labels)), "events": report(total(events))}
        for condition, (labels, events) in streams.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    shipped = asdict(EventSettings())
    write_json(
        args.out / "events.json",
        {
            "machine": describe_machine(),
            "bundle": bundle.name,
            "minutes": {"val": args.val * args.seconds / 60, "test": args.test * args.seconds / 60},
            "settings": shipped,
            "tried": tried,
            "test": results,
        },
    )
    with whole_file(args.out / "events.md") as path:
        path.write_text(table(results), encoding="utf-8")
    Console().print(table(results), highlight=False, soft_wrap=True)
    Console().print("best on validation:", *(f"\n  {row}" for row in tried[:5]), highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
