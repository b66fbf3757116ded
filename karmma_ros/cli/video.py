# SPDX-License-Identifier: Apache-2.0
"""`karmma video`: the robot's own recogniser on a video file with its sound, one prediction for every frame."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from karmma_ros.cli.common import add_bundle, add_json, add_out, check_file, check_out
from karmma_ros.files import whole_file, write_json
from karmma_ros.flow import FlowProducer
from karmma_ros.media import AudioChunk, AudioReader, Frame, VideoReader, VideoWriter, read_audio, read_video
from karmma_ros.offline import OfflineSensors
from karmma_ros.overlay import PredictionView, draw
from karmma_ros.recognizer import Prediction, Recognizer
from karmma_ros.records import Phase, PredictionRecord, Scored, SensorRecord, summarise, to_line
from karmma_ros.resample import Resampler
from karmma_ros.samples import to_mono

HELP = "Names the actions in a video file, frame by frame, with what a robot would run."

_NS = 1_000_000_000
# Rates that AAC knows; sound at any other is resampled for the film.
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a video file, with or without sound")
    parser.add_argument("--no-overlay", action="store_true", help="do not write overlay.mp4")
    parser.add_argument(
        "--threads", type=int, default=1, choices=range(1, 65), metavar="N", help="threads of inference"
    )
    add_bundle(parser)
    add_out(parser, "out/video")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    check_file(args.file)
    check_out(args.out)
    console = Console() if sys.stdout.isatty() else Console(width=120)
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
            film = None if args.no_overlay else outputs.enter_context(_Film(args.out / "overlay.mp4", video, sound))
            progress = outputs.enter_context(_progress(console))
            task = progress.add_task("", total=video.duration_s, action="")
            records = []
            for frame, record in _Stream(recognizer, video, sound, film).run():
                lines.write(to_line(record))
                records.append(record)
                if film is not None:
                    film.add_frame(frame, record, video.rate)
                progress.update(task, completed=record.t_s, action=record.actions[0].name if record.actions else "")
        elapsed_s = time.monotonic() - started
    summary = _summary(args.file, recognizer, records, video, elapsed_s)
    write_json(args.out / "summary.json", summary)
    if args.json is not None:
        write_json(args.json, summary)
    _report(console, args, records, summary, video, sound)
    return 0


class _Stream:
    """Feeds a file to the recogniser in order of time, as a robot would hear and see it."""

    def __init__(
        self, recognizer: Recognizer, video: VideoReader, sound: AudioReader | None, film: _Film | None
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

    def run(self) -> Iterator[tuple[Frame, PredictionRecord]]:
        """Every frame with the prediction for it."""
        first_ns: int | None = None
        for frame in self._video:
            first_ns = frame.stamp_ns if first_ns is None else first_ns
            self._hear_until(frame.stamp_ns)
            started = time.perf_counter()
            if "video" in self._recognizer.bundle.modalities:
                self._sensors.push("video", frame.stamp_ns, frame.rgb)
            if self._flow is not None:
                flow = self._flow.push(frame.stamp_ns, frame.rgb)
                if flow is not None:
                    self._sensors.push("flow", frame.stamp_ns, flow)
            prediction = self._recognizer.predict(frame.stamp_ns)
            processing_s = time.perf_counter() - started
            yield frame, self._record(prediction, (frame.stamp_ns - first_ns) / _NS, processing_s)

    def _hear_until(self, stamp_ns: int) -> None:
        """Takes the sound whose last sample had been heard at `stamp_ns`."""
        while self._chunk is not None:
            end_ns = self._chunk.stamp_ns + len(self._chunk.samples) * _NS // self._rate
            if end_ns > stamp_ns:
                return
            if self._film is not None:
                self._film.add_sound(self._chunk)
            if "audio" in self._recognizer.bundle.modalities:
                chunk = self._chunk
                self._sensors.push("audio", chunk.stamp_ns, chunk.samples, self._rate, arrived_ns=end_ns)
            self._chunk = next(self._chunks, None)

    def _record(self, prediction: Prediction, t_s: float, processing_s: float) -> PredictionRecord:
        sensors = {}
        for name, status in self._sensors.statuses(prediction.stamp_ns).items():
            sensors[name] = SensorRecord(
                state=status.state.name,
                coverage=prediction.coverages[name],
                age_s=status.age_s,
                rate_hz=status.rate_hz,
                received=status.received,
                skipped=status.skipped,
                rejected=status.rejected,
            )
        return PredictionRecord(
            stamp_ns=prediction.stamp_ns,
            t_s=t_s,
            status=prediction.status.name,
            trigger="CAMERA",
            bundle=self._recognizer.bundle.name,
            actions=[Scored(*label) for label in prediction.actions],
            verbs=[Scored(*label) for label in prediction.verbs],
            nouns=[Scored(*label) for label in prediction.nouns],
            coverage=prediction.coverage,
            processing_ms=processing_s * 1e3,
            sensors=sensors,
        )


class _Film:
    """overlay.mp4: the frames with what was said about them, and the sound as it was."""

    def __init__(self, path: Path, video: VideoReader, sound: AudioReader | None) -> None:
        self._origin_ns: int | None = None
        self._resampler: Resampler | None = None
        self._channels = 0
        track: tuple[int, int] | None = None
        if sound is not None:
            rate = sound.rate if sound.rate in _AAC_RATES else _AAC_RATES[-1]
            self._channels = 2 if sound.channels == 2 and rate == sound.rate else 1
            if rate != sound.rate:
                self._resampler = Resampler(sound.rate, rate)
            track = (rate, self._channels)
        self._rate = sound.rate if sound else 0
        self._heard = 0  # samples of the file written so far
        self._writer = VideoWriter(path, (video.width, video.height), video.rate, sound=track)

    def add_frame(self, frame: Frame, record: PredictionRecord, rate_hz: float) -> None:
        """Adds a frame with its prediction drawn in; one of another size than the first is made to fit."""
        self._origin_ns = frame.stamp_ns if self._origin_ns is None else self._origin_ns
        rgb = frame.rgb
        if rgb.shape[1::-1] != self._writer.size:
            rgb = np.asarray(cv2.resize(rgb, self._writer.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        view = PredictionView(
            actions=[(label.name, label.score) for label in record.actions],
            sensors={name: sensor.state for name, sensor in record.sensors.items()},
            latency_ms=record.processing_ms,
            rate_hz=rate_hz,
            note=record.status.lower().replace("_", " "),
        )
        self._writer.write(draw(rgb, view), frame.stamp_ns - self._origin_ns)

    def add_sound(self, chunk: AudioChunk) -> None:
        """Adds sound at its time: what is missing before it is silence, what is there already is left out."""
        begin = round((chunk.stamp_ns - (self._origin_ns or 0)) * self._rate / _NS)
        gap = begin - self._heard
        samples = chunk.samples if self._channels == 2 else to_mono(chunk.samples)[:, np.newaxis]
        if abs(gap) <= self._rate // 50:  # jitter of the stamps
            gap = 0
        if gap > 0:
            samples = np.concatenate([np.zeros((gap, samples.shape[1]), np.float32), samples])
        samples = samples[max(-gap, 0) :]
        self._heard += len(samples)
        if self._resampler is not None:
            samples = self._resampler.process(samples[:, 0])
        self._writer.write_sound(samples)

    def __enter__(self) -> _Film:
        self._writer.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._writer.__exit__(*exc)


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
    processing = np.percentile([record.processing_ms for record in records], (50, 95, 99, 100))
    names = ("p50", "p95", "p99", "max")
    summary["processing_ms"] = {name: round(float(ms), 3) for name, ms in zip(names, processing, strict=True)}
    summary["speed"] = round(duration_s / elapsed_s, 2)
    return summary


def _report(
    console: Console,
    args: argparse.Namespace,
    records: Sequence[PredictionRecord],
    summary: dict[str, Any],
    video: VideoReader,
    sound: AudioReader | None,
) -> None:
    table = Table(title=f"{args.file.name}: what was seen longest", title_justify="left", title_style="bold")
    for heading in ("action", "share", "mean score", "first at"):
        table.add_column(heading, justify="left" if heading == "action" else "right")
    said = Counter(record.actions[0].name for record in records if record.actions)
    for name, count in said.most_common(8):
        scores = [r.actions[0].score for r in records if r.actions and r.actions[0].name == name]
        first_s = next(r.t_s for r in records if r.actions and r.actions[0].name == name)
        table.add_row(name, f"{count / len(records):.0%}", f"{np.mean(scores):.0%}", f"{first_s:.1f} s")
    console.print(table)
    hearing = f"sound at {sound.rate} Hz" if sound else "no sound"
    speed, processing = summary["speed"], summary["processing_ms"]
    console.print(
        f"{len(records)} frames of {video.width}x{video.height} at {video.rate:.2f}/s, {hearing}; "
        f"{processing['p50']:.1f} ms a frame (p99 {processing['p99']:.1f}), {speed:.1f}x real time",
        highlight=False,
        soft_wrap=True,
    )
    damaged = video.damaged + (sound.damaged if sound else 0)
    if damaged:
        console.print(f"{damaged} damaged packets were left out", style="yellow", highlight=False)
    console.print(f"written to {args.out}", highlight=False, soft_wrap=True)


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[action]}"), console=console, transient=True)
