# SPDX-License-Identifier: Apache-2.0
"""`karmma replay`: a rosbag through the node's own core, offline and without ROS."""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from karmma_ros.bags.health_picture import write_health_picture
from karmma_ros.bags.intervals import BagIntervals, read_intervals
from karmma_ros.bags.reader import Bag
from karmma_ros.bags.replay import Answer, Replay, ReplaySettings
from karmma_ros.bags.score import score, score_events
from karmma_ros.bags.sound import SoundDecoder
from karmma_ros.bags.tables import csv_header, csv_row
from karmma_ros.bags.topics import NONE, Sensors, choose, first_picture, first_stamp_ns, origin_ns, usual_rate_hz
from karmma_ros.cli.bag_options import add_rotate, add_topics, wanted_topics
from karmma_ros.cli.common import (
    add_bundle,
    add_json,
    add_out,
    add_threads,
    check_file,
    check_out,
    positive,
)
from karmma_ros.cli.recognition import progress_bar, seen_longest
from karmma_ros.console import make_console
from karmma_ros.errors import KarmmaError, SampleError, UsageError
from karmma_ros.event_log import EventLog, write_actions
from karmma_ros.events import EventSettings
from karmma_ros.files import whole_file, write_json
from karmma_ros.film import Film
from karmma_ros.flow import FlowProducer
from karmma_ros.health import SensorStatus
from karmma_ros.manifest import MODALITIES
from karmma_ros.recognizer import Recognizer
from karmma_ros.records import Phase, PredictionRecord, percentiles, summarise, to_line

HELP = "Names the actions in a rosbag as the node would have, without ROS and faster than real time."

CAMERA = "camera"  # value of --flow: computed from the camera
_NS = 10**9
_FILMED_NS = 60 * 10**9  # a sensor that begins further from the camera than this is on another clock
_NO_CAMERA = (480, 640)  # (H, W) of the film where there is no picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="a bag's folder, an .mcap or a .db3")
    add_topics(parser, computed=True)
    parser.add_argument("--truth", type=Path, metavar="FILE.csv", help="score against start_s, stop_s, verb, noun")
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, help="sensors in use (default: all)")
    add_rotate(parser)
    parser.add_argument("--rate", type=positive, default=0.0, metavar="HZ", help="predictions due per second")
    parser.add_argument(
        "--flow-unit",
        default="pixels_per_second",
        choices=("pixels_per_second", "pixels_per_frame"),
        help="unit of the flow topic (default: %(default)s)",
    )
    parser.add_argument(
        "--flow-source", default=CAMERA, choices=(CAMERA, "independent"), help="as the node's parameter flow.source"
    )
    parser.add_argument(
        "--detections-size",
        type=_size,
        metavar="WIDTHxHEIGHT",
        help="images that the detections are boxes in, before --rotate (default: as large as the camera's)",
    )
    parser.add_argument(
        "--stamp-offset",
        type=_offset,
        action="append",
        default=[],
        metavar="MODALITY=SECONDS",
        help="added to a sensor's stamps, as the node's parameter; may be given several times",
    )
    parser.add_argument("--no-overlay", action="store_true", help="do not write overlay.mp4")
    add_threads(parser)
    add_bundle(parser)
    add_out(parser, "out/replay")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    check_out(args.out)
    console = make_console()
    # Whatever can be wrong with bag, truth and bundle is found before anything is written.
    with Bag(args.bag) as bag:
        recognizer = Recognizer(args.bundle, threads=args.threads, modalities=args.modalities)
        sensors, computed = _sensors(bag, args, recognizer)
        modality, sent_ns = origin_ns(bag, sensors)
        truth = None
        if args.truth is not None:
            truth = read_intervals(check_file(args.truth), [bag.name]).of(bag.name, sent_ns)
        begin_ns = sent_ns + _offset_ns(args, modality)  # as everything from here on counts
        settings = ReplaySettings(
            rotate=args.rotate,
            rate_hz=args.rate,
            flow_unit=args.flow_unit,
            flow_follows_camera=computed or args.flow_source == CAMERA,
            detections_size=args.detections_size,
            stamp_offsets_s=dict(args.stamp_offset),
        )
        started = time.monotonic()
        outcome = _replay(args, console, bag, sensors, recognizer, settings, computed, begin_ns, truth)
        elapsed_s = time.monotonic() - started
        summary = outcome.summary(args.bag, bag, sensors, computed, truth, elapsed_s)
    title = f"{bag.name}    bundle {recognizer.bundle.name}    {bag.duration_s:.1f} s"
    if summary["overall"].get("accuracy") is not None:
        title += f"    {summary['overall']['accuracy']:.0%} right"
    names = None if truth is None else _true_names(outcome.records, truth)
    write_health_picture(args.out / "health.png", title, outcome.records, names)
    write_actions(args.out / "events.csv", outcome.events.actions)
    write_json(args.out / "summary.json", summary)
    if args.json is not None:
        write_json(args.json, summary)
    _report(console, args, bag, outcome.records, summary)
    return 0


def _offset_ns(args: argparse.Namespace, modality: str) -> int:
    """What --stamp-offset adds to a sensor's stamps."""
    return round(dict(args.stamp_offset).get(modality, 0.0) * _NS)


def _sensors(bag: Bag, args: argparse.Namespace, recognizer: Recognizer) -> tuple[Sensors, bool]:
    """The topics, and whether flow is computed from the camera."""
    wanted = wanted_topics(args)
    if "detections" not in recognizer.bundle.modalities:  # whichever detectors a bag has, none is asked for
        wanted["detections"] = NONE
    asked = wanted["flow"] == CAMERA
    sensors = choose(bag, wanted | {"flow": NONE if asked else wanted["flow"]})
    if not sensors.items():
        raise UsageError(f"{bag.path}: nothing to replay: no camera, flow or sound; `karmma record-check` says more")
    if asked and sensors.video is None:
        raise UsageError(f"--flow camera: no camera in {bag.path}")
    unsent = sensors.video is not None and sensors.flow is None and (asked or wanted["flow"] is None)
    if asked and "video" not in recognizer.modalities:
        raise UsageError("--flow camera: a node whose camera is not among its modalities computes no flow from it")
    return sensors, unsent and {"video", "flow"} <= recognizer.modalities


def _producer(recognizer: Recognizer, computed: bool) -> FlowProducer | None:
    if not computed:
        return None
    spec = recognizer.bundle.modalities["flow"].producer
    return FlowProducer(spec.size, spec.preset) if spec else None


class _Outcome:
    """What a replay gave."""

    def __init__(self, recognizer: Recognizer, replay: Replay, begin_ns: int) -> None:
        self.recognizer = recognizer
        self.replay = replay
        self.events = EventLog(recognizer.bundle, origin_ns=begin_ns)
        self.records: list[PredictionRecord] = []
        self.processing_ms: list[float] = []

    def add(self, answer: Answer) -> None:
        # Of the labels the first is all that the summary needs, and a bag may be hours long.
        self.records.append(replace(answer.record, actions=answer.record.actions[:1], verbs=(), nouns=()))
        self.events.take(answer.record.stamp_ns, answer.scores)
        self.processing_ms.append(answer.processing_s * 1e3)

    def summary(
        self, path: Path, bag: Bag, sensors: Sensors, computed: bool, truth: BagIntervals | None, elapsed_s: float
    ) -> dict[str, Any]:
        """As the demo's, with one phase; where the bag's time went besides."""
        times = [record.t_s for record in self.records]
        whole = Phase(bag.name, min(times), max(times) + self.replay.period_s)
        bundle = self.recognizer.bundle
        rate_hz = 1 / self.replay.period_s
        frames = self.replay.frames
        summary = summarise(self.records, [whole], bundle=bundle.name, rate_hz=rate_hz, sent=[frames])
        if truth is not None:
            scores = score(self.records, truth, bundle.action_names)
            summary["truth"] = scores
            for key in ("accuracy", "accuracy_settled"):
                summary["overall"][key] = scores[key]
            scores["events"] = score_events(self.events.actions, truth, EventSettings().idle)
        topics = {modality: topic.name for modality, topic in sensors.items()}
        summary["bag"] = {
            "path": str(path),
            "duration_s": round(bag.duration_s, 3),
            "topics": topics | ({"flow": "computed from the camera"} if computed else {}),
        }
        summary["sensors"] = {name: self._sensor(name, status) for name, status in self.replay.statuses().items()}
        summary["restarts"] = self.replay.restarts
        if self.replay.restarts:  # its stamps do not say how long it is
            overall = summary["overall"]
            overall["due"] = round(rate_hz * bag.duration_s)
            overall["rate_hz"] = round(overall["predictions"] / bag.duration_s, 3)
        summary["processing_ms"] = percentiles(self.processing_ms)
        summary["speed"] = round(bag.duration_s / elapsed_s, 2)
        return summary

    def _sensor(self, name: str, last: SensorStatus) -> dict[str, Any]:
        states = Counter(record.sensors[name].state for record in self.records)
        return {
            "states": {state: round(count / len(self.records), 4) for state, count in states.most_common()},
            "received": last.received,
            "skipped": last.skipped,
            "rejected": last.rejected,
            "faults": dict(self.replay.faults.get(name, {})),
        }


def _replay(
    args: argparse.Namespace,
    console: Console,
    bag: Bag,
    sensors: Sensors,
    recognizer: Recognizer,
    settings: ReplaySettings,
    computed: bool,
    begin_ns: int,
    truth: BagIntervals | None,
) -> _Outcome:
    """Runs the bag and writes predictions and film as they come."""
    modalities = list(recognizer.bundle.modalities)
    with ExitStack() as outputs:
        film = None if args.no_overlay else outputs.enter_context(_film(args, bag, sensors, begin_ns))
        replay = Replay(
            recognizer,
            bag,
            sensors,
            settings,
            producer=_producer(recognizer, computed),
            on_sound=None if film is None else film.add_sound,
        )
        outcome = _Outcome(recognizer, replay, begin_ns)
        lines = outputs.enter_context(
            outputs.enter_context(whole_file(args.out / "predictions.jsonl")).open("w", encoding="utf-8")
        )
        table = outputs.enter_context(
            outputs.enter_context(whole_file(args.out / "predictions.csv")).open("w", newline="", encoding="utf-8")
        )
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(csv_header(modalities, truth=truth is not None))
        progress = outputs.enter_context(progress_bar(console))
        task = progress.add_task("", total=bag.duration_s, action="")
        for answer in replay.run(origin_ns=begin_ns):
            record = answer.record
            row = None if truth is None else truth.at(record.t_s)
            true = None if truth is None else row.action if row is not None else ""
            outcome.add(answer)
            lines.write(to_line(record))
            writer.writerow(csv_row(record, modalities, true))
            if film is not None:
                rgb = answer.rgb if answer.rgb is not None else np.zeros((*_NO_CAMERA, 3), np.uint8)
                film.add_frame(rgb, record, processing_s=answer.processing_s, truth=true or None, seen=answer.fresh)
            said = record.actions[0].name if record.actions else ""
            progress.update(task, completed=answer.arrived_s, action=said)
        outcome.events.close()
        if not outcome.records:
            causes = {name: dict(faults) for name, faults in replay.faults.items() if faults}
            raise KarmmaError(f"{bag.path}: no prediction: {causes or 'too short'}; `karmma record-check` says more")
    return outcome


def _film(args: argparse.Namespace, bag: Bag, sensors: Sensors, begin_ns: int) -> Film:
    size, rate_hz = _NO_CAMERA[::-1], args.rate or 30.0
    if sensors.video is not None:
        size = first_picture(bag, sensors.video, args.rotate)
        rate_hz = args.rate or usual_rate_hz(bag, sensors.video)
    stamps = [
        stamp_ns + _offset_ns(args, modality)
        for modality, topic in sensors.items()
        if (stamp_ns := first_stamp_ns(bag, topic)) is not None
    ]
    # what is on another clock has no place in the film
    near = [stamp_ns for stamp_ns in stamps if abs(stamp_ns - begin_ns) < _FILMED_NS]
    first_ns = min(near, default=begin_ns)
    return Film(args.out / "overlay.mp4", size, rate_hz, origin_ns=first_ns, sound=_track(bag, sensors))


def _track(bag: Bag, sensors: Sensors) -> tuple[int, int] | None:
    """(rate, channels) of the first sound that can be used."""
    if sensors.audio is None:
        return None
    to_samples = SoundDecoder(bag, sensors.audio)
    for message in bag.messages([sensors.audio.name]):
        try:
            samples, rate = to_samples(message.decode())
        except SampleError:
            continue
        return rate, samples.shape[1]
    return None


def _true_names(records: Sequence[PredictionRecord], truth: BagIntervals) -> dict[int, str]:
    rows = ((record.stamp_ns, truth.at(record.t_s)) for record in records)
    return {stamp_ns: row.action for stamp_ns, row in rows if row is not None}


def _report(
    console: Console, args: argparse.Namespace, bag: Bag, records: Sequence[PredictionRecord], summary: dict[str, Any]
) -> None:
    console.print(seen_longest(bag.name, records))
    health = Table()
    for heading in ("sensor", "topic", "received", "rejected", "states"):
        health.add_column(heading, justify="right" if heading in ("received", "rejected") else "left")
    topics = summary["bag"]["topics"]
    for name, sensor in summary["sensors"].items():
        states = ", ".join(f"{state.lower()} {share:.0%}" for state, share in sensor["states"].items())
        why = f" ({', '.join(sensor['faults'])})" if sensor["faults"] else ""
        health.add_row(name, topics.get(name, "-"), str(sensor["received"]), f"{sensor['rejected']}{why}", states)
    console.print(health)
    if "truth" in summary:
        _report_truth(console, summary["truth"])
    if summary["restarts"]:
        text = f"stamps jumped back {summary['restarts']} times, and all began anew: a bag that holds several runs"
        console.print(text, style="yellow", soft_wrap=True)
    processing = summary["processing_ms"]
    console.print(
        f"{len(records)} predictions for {summary['overall']['frames']} frames in {bag.duration_s:.1f} s; "
        f"{processing['p50']:.1f} ms from frame to answer (p99 {processing['p99']:.1f}); "
        f"in all {summary['speed']:.1f}x real time",
        soft_wrap=True,
    )
    console.print(f"written to {args.out}", soft_wrap=True)


def _report_truth(console: Console, truth: dict[str, Any]) -> None:
    if not truth["scored"]:
        text = "no prediction lies within an interval of --truth: are its times those of this bag?"
        console.print(text, style="yellow", soft_wrap=True)
        return
    table = Table()
    for heading in ("true action", "predictions", "right", "mostly said"):
        table.add_column(heading, justify="right" if heading in ("predictions", "right") else "left")
    for name, result in truth["actions"].items():
        table.add_row(name, str(result["predictions"]), f"{result['accuracy']:.0%}", result["mostly"] or "nothing")
    table.add_section()
    settled = truth["accuracy_settled"]
    table.add_row("all", str(truth["scored"]), f"{truth['accuracy']:.1%}", style="bold")
    table.add_row("all, settled", "", "-" if settled is None else f"{settled:.1%}", style="bold")
    console.print(table)
    events = truth["events"]
    late = events["start_latency_s"]
    console.print(
        f"events: {events['said']} said, {events['true']} true, F1 {events['f1']:.0%} at half of the union, "
        f"{events['false_starts']} false starts" + (f", {late:.1f} s after the start" if late is not None else ""),
        soft_wrap=True,
    )
    if truth["unknown"]:
        text = f"the bundle cannot say: {', '.join(truth['unknown'])}"
        console.print(text, style="yellow", soft_wrap=True)


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 640x480")
    return int(width), int(height)


def _offset(text: str) -> tuple[str, float]:
    """MODALITY=SECONDS."""
    name, _, seconds = text.partition("=")
    try:
        value = float(seconds)
    except ValueError:
        value = float("nan")
    if name not in MODALITIES or not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not MODALITY=SECONDS, such as audio=-0.2")
    return name, value
