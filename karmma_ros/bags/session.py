# SPDX-License-Identifier: Apache-2.0
"""A rendered tabletop sequence as a robot would have recorded it: camera, microphone and, if wanted, flow in a bag."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from karmma_ros.bags.writer import BagWriter
from karmma_ros.files import whole_file
from karmma_ros.flow import FlowProducer
from karmma_ros.synthesis import FPS, SIZE, Job, Row
from karmma_ros.tabletop.sequence import SOUND_RATE, make_sequence
from karmma_ros.tabletop.sequence import Sequence as Scene

__all__ = ["AUDIO", "CAMERA", "FLOW", "INTERVALS", "plan_session", "record_scene", "render_take", "write_intervals"]

CAMERA, FLOW, AUDIO = "/camera/image_raw/compressed", "/flow", "/audio"
INTERVALS = "intervals.csv"

_NS = 1_000_000_000
_START_NS = 1_767_607_200 * _NS  # 5 January 2026, 10:00 UTC
_CHUNK = 1024  # samples of sound in a message
# From a stamp (of sound: the chunk's last sample) until the recorder has the message.
_CAMERA_LAG_NS, _FLOW_LAG_NS, _AUDIO_LAG_NS = 8_000_000, 14_000_000, 5_000_000

_Event = tuple[int, int, Callable[[BagWriter], None]]  # log time, order among equals, what to write


def record_scene(
    path: Path,
    scene: Scene,
    *,
    flow_size: tuple[int, int] | None = None,
    quality: int = 90,
    start_ns: int = _START_NS,
    storage: str = "mcap",
) -> None:
    """Writes the bag: JPEG on `/camera/image_raw/compressed`, sound on `/audio`, flow on `/flow`.

    :param flow_size: (width, height) of the flow fields; None: without flow, which is computed when it is needed.
    :param quality: of the JPEG pictures, 1 to 100.
    :param start_ns: stamp of the first frame.
    :raises OSError: it cannot be written.
    """
    with BagWriter(path, storage=storage) as bag:
        for _, _, write in heapq.merge(_pictures(scene, start_ns, flow_size, quality), _sound(scene, start_ns)):
            write(bag)


def _pictures(scene: Scene, start_ns: int, flow_size: tuple[int, int] | None, quality: int) -> Iterator[_Event]:
    producer = FlowProducer() if flow_size is not None else None
    for index in range(scene.n_frames):
        stamp_ns = start_ns + round(index * _NS / scene.fps)
        rgb = np.asarray(scene.frame(index), np.uint8)
        log_ns = stamp_ns + _CAMERA_LAG_NS
        yield (
            log_ns,
            0,
            partial(BagWriter.jpeg, topic=CAMERA, stamp_ns=stamp_ns, rgb=rgb, log_ns=log_ns, quality=quality),
        )
        field = producer.push(stamp_ns, rgb) if producer is not None else None
        if field is not None and flow_size is not None:
            small = np.asarray(cv2.resize(field, flow_size, interpolation=cv2.INTER_AREA), np.float32)
            log_ns = stamp_ns + _FLOW_LAG_NS
            yield log_ns, 1, partial(BagWriter.flow, topic=FLOW, stamp_ns=stamp_ns, field=small, log_ns=log_ns)


def _sound(scene: Scene, start_ns: int) -> Iterator[_Event]:
    sound = np.asarray(scene.sound(), np.float32)
    for begin in range(0, len(sound), _CHUNK):
        chunk = sound[begin : begin + _CHUNK]
        stamp_ns = start_ns + round(begin * _NS / SOUND_RATE)
        log_ns = start_ns + round((begin + len(chunk)) * _NS / SOUND_RATE) + _AUDIO_LAG_NS
        write = partial(BagWriter.audio, topic=AUDIO, stamp_ns=stamp_ns, samples=chunk, rate=SOUND_RATE, log_ns=log_ns)
        yield log_ns, 2, write


def plan_session(seed: int, takes: int, minutes: float) -> list[Job]:
    """The recordings of a session: takes of one scene, the same things on the same table and other actions.

    :param minutes: length of each take.
    """
    return [Job(f"take-{take:02d}", "sequence", "train", seed, minutes * 60, take) for take in range(takes)]


def render_take(job: Job, folder: Path) -> list[Row]:
    """Renders a take into the bag `folder/NAME`; gives its labelled intervals.

    :raises OSError: it cannot be written.
    """
    cv2.setNumThreads(1)  # one process a core already
    scene = make_sequence(job.seed, job.split, duration_s=job.seconds, size=SIZE, fps=FPS, take=job.take)
    record_scene(folder / job.name, scene)
    return [
        Row(job.name, job.split, job.name, round(i.start_s, 6), round(i.stop_s, 6), i.verb, i.noun)
        for i in scene.intervals
    ]


def write_intervals(path: Path, rows: Sequence[Row]) -> None:
    """Writes the intervals of some bags as `--truth` and `--labels` take them.

    :raises OSError: it cannot be written.
    """
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("bag", "start_s", "stop_s", "verb", "noun"))
        writer.writerows((row.name, row.start_s, row.stop_s, row.verb, row.noun) for row in rows)
