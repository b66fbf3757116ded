# SPDX-License-Identifier: Apache-2.0
"""`karmma video`: the robot's own recogniser on a video file with its sound, one prediction for every frame."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from karmma_ros.cli.common import add_bundle, add_json, add_out, add_threads, check_file, check_out
from karmma_ros.cli.recognition import progress_bar, seen_longest
from karmma_ros.console import make_console
from karmma_ros.event_log import EventLog, LoggedAction, write_actions
from karmma_ros.files import whole_file, write_json
from karmma_ros.film import Film
from karmma_ros.flow import FlowProducer
from karmma_ros.health import SensorState
from karmma_ros.media import AudioChunk, AudioReader, Frame, VideoReader, read_audio, read_video
from karmma_ros.offline import OfflineSensors, to_record
from karmma_ros.recognizer import Recognizer
from karmma_ros.records import Phase, PredictionRecord, percentiles, summarise, to_line

HELP = "Names the actions in a video file, frame by frame, with what a robot would run."

_NS = 1_000_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a video file, with or without sound")
    parser.add_argument("--no-overlay", action="store_true", help="do not write overlay.mp4")
    add_threads(parser)
    add_bundle(parser)
    add_out(parser, "out/video")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    check_file(args.file)
    check_out(args.out)
    console = make_console()
    # Whatever can be wrong with the file is found before anything is written.
    with ExitStack() as stack:
        video = stack.enter_context(read_video(args.file))
        sound = read_audio(args.file)
        if sound is not None:
            stack.enter_context(sound)
        recognizer = Recognizer(args.bundle, threads=args.threads)
        started = time.monotonic()
        with ExitStack() as outputs:
            predictions = outputs.enter_context(whole_file(args.out / "predictions.jsonl"))
            lines = outputs.enter_context(predictions.open("w", encoding="utf-8"))
            film = None
            if not args.no_overlay:
                track = (sound.rate, sound.channels) if sound else None
                film = outputs.enter_context(
                    Film(args.out / "overlay.mp4", (video.width, video.height), video.rate, sound=track)
                )
            progress = outputs.enter_context(progress_bar(console))
            task = progress.add_task("", total=video.duration_s, action="")
            records = []
            stream = _Stream(recognizer, video, sound, film)
            for frame, record, processing_s in stream.run():
                lines.write(to_line(record))
                # of the labels the first is all that the summary needs, and a file may be hours long
                records.append(replace(record, actions=record.actions[:1], verbs=(), nouns=()))
                if film is not None:
                    film.add_frame(frame.rgb, record, processing_s=processing_s)
                progress.update(task, completed=record.t_s, action=record.actions[0].name if record.actions else "")
        elapsed_s = time.monotonic() - started
    summary = _summary(args.file, recognizer, records, video, elapsed_s)
    write_actions(args.out / "events.csv", stream.actions)
    write_json(args.out / "summary.json", summary)
    if args.json is not None:
        write_json(args.json, summary)
    _report(console, args, records, summary, video, sound)
    return 0


class _Stream:
    """Feeds a file to the recogniser in order of time, as a robot would hear and see it.

    `actions`: once it is over, what started and ended.
    """

    def __init__(
        self, recognizer: Recognizer, video: VideoReader, sound: AudioReader | None, film: Film | None
    ) -> None:
        self._recognizer = recognizer
        self._video = video
        self._film = film
        self._rate = sound.rate if sound else 0
        self._chunks: Iterator[AudioChunk] = iter(sound) if sound else iter(())
        self._chunk: AudioChunk | None = next(self._chunks, None)
        modalities = recognizer.bundle.modalities
        producer = modalities["flow"].producer if "flow" in modalities else None
        self._flow = FlowProducer(producer.size, producer.preset) if producer else None
        self._sensors = OfflineSensors(recognizer)
        self.actions: list[LoggedAction] = []

    def run(self) -> Iterator[tuple[Frame, PredictionRecord, float]]:
        """Every frame with the prediction for it, and the seconds it cost."""
        first_ns: int | None = None
        for frame in self._video:
            if first_ns is None:
                first_ns = frame.stamp_ns
                events = EventLog(self._recognizer.bundle, origin_ns=first_ns)
            self._hear_until(frame.stamp_ns)
            started = time.perf_counter()
            state = SensorState.OK
            if "video" in self._recognizer.bundle.modalities:
                state = self._sensors.push("video", frame.stamp_ns, frame.rgb)
            if self._flow is not None:
                self._see_flow(frame, state)
            prediction = self._recognizer.predict(frame.stamp_ns)
            processing_s = time.perf_counter() - started
            events.take(frame.stamp_ns, prediction.scores)
            record = to_record(
                prediction,
                self._sensors.statuses(frame.stamp_ns),
                t_s=(frame.stamp_ns - first_ns) / _NS,
                bundle=self._recognizer.bundle.name,
                processing_s=processing_s,
            )
            yield frame, record, processing_s
        if first_ns is not None:
            events.close()
            self.actions = events.actions

    def _see_flow(self, frame: Frame, state: SensorState) -> None:
        """Flow up to a frame; none of a picture that is not believed, nor across it, as on the robot."""
        assert self._flow is not None
        if state is not SensorState.OK:
            self._flow.reset()
            return
        field = self._flow.push(frame.stamp_ns, frame.rgb)
        if field is not None:
            self._sensors.push("flow", frame.stamp_ns, field, period_s=1 / self._video.rate)

    def _hear_until(self, stamp_ns: int) -> None:
        """Takes the sound whose last sample had been heard at `stamp_ns`."""
        while self._chunk is not None:
            end_ns = self._chunk.stamp_ns + len(self._chunk.samples) * _NS // self._rate
            if end_ns > stamp_ns:
                return
            if self._film is not None:
                self._film.add_sound(self._chunk.stamp_ns, self._chunk.samples, self._rate)
            if "audio" in self._recognizer.bundle.modalities:
                chunk = self._chunk
                self._sensors.push("audio", chunk.stamp_ns, chunk.samples, self._rate, arrived_ns=end_ns)
            self._chunk = next(self._chunks, None)


def _summary(
    file: Path, recognizer: Recognizer, records: Sequence[PredictionRecord], video: VideoReader, elapsed_s: float
) -> dict[str, Any]:
    """As the demo's, with one phase, and how fast it went."""
    duration_s = records[-1].t_s + 1 / video.rate
    whole = Phase(file.name, 0.0, duration_s)
    bundle = recognizer.bundle.name
    # What is due is one prediction a frame.
    rate_hz = len(records) / duration_s
    summary = summarise(records, [whole], bundle=bundle, rate_hz=rate_hz, sent=[len(records)])
    summary["processing_ms"] = percentiles([record.processing_ms or 0.0 for record in records])
    summary["speed"] = round(duration_s / elapsed_s, 2)
    return summary


def _left_out(video: VideoReader, sound: AudioReader | None) -> Iterator[str]:
    """What of a file was not seen, or heard, and why."""
    damaged = video.damaged + (sound.damaged if sound else 0)
    if damaged:
        yield f"{damaged} damaged packets were left out"
    if video.late:
        yield f"{video.late} frames whose stamps are not after the one before were left out: several files in one?"
    for what, reader in (("picture", video), ("sound", sound)):
        if reader is not None and reader.ended_early:
            yield f"the {what} cannot be read to its end: the file is damaged"


def _report(
    console: Console,
    args: argparse.Namespace,
    records: Sequence[PredictionRecord],
    summary: dict[str, Any],
    video: VideoReader,
    sound: AudioReader | None,
) -> None:
    console.print(seen_longest(args.file.name, records))
    hearing = f"sound at {sound.rate} Hz" if sound else "no sound"
    speed, processing = summary["speed"], summary["processing_ms"]
    console.print(
        f"{len(records)} frames of {video.width}x{video.height} at {video.rate:.2f}/s, {hearing}; "
        f"{processing['p50']:.1f} ms from frame to answer (p99 {processing['p99']:.1f}); "
        f"in all {speed:.1f}x real time",
        soft_wrap=True,
    )
    for warning in _left_out(video, sound):
        console.print(warning, style="yellow", soft_wrap=True)
    console.print(f"written to {args.out}", soft_wrap=True)
