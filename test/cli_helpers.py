# SPDX-License-Identifier: Apache-2.0
"""Videos of every kind, for the tests of the command line and the demo, and what the commands leave."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from karmma_ros.records import PredictionRecord, read_records

SOUND_RATE = 44100


class Outcome:
    """The files that `karmma video` or `karmma replay` left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = list(read_records(folder / "predictions.jsonl"))
        self.summary = json.loads((folder / "summary.json").read_text())

    def coverages(self, modality: str) -> list[float]:
        return [record.sensors[modality].coverage for record in self.records]

    def states(self, modality: str) -> list[str]:
        return [record.sensors[modality].state for record in self.records]

    def stamps(self) -> list[int]:
        return [record.stamp_ns for record in self.records]


def said(record: PredictionRecord) -> list[tuple[int, float]]:
    """The actions with their scores, best first."""
    return [(label.id, label.score) for label in record.actions]


def make_video(
    path: Path,
    *,
    seconds: float = 1.0,
    rate: Fraction = Fraction(25),
    size: tuple[int, int] = (160, 120),
    stamps_s: list[float] | None = None,
    sound: np.ndarray | None = None,
    turn: int = 0,
) -> Path:
    """Encodes H.264 (a square that moves over a board) and, if `sound` (n, channels) is given, AAC at 44.1 kHz."""
    width, height = size
    board = (np.arange(height)[:, np.newaxis] * 12 // height + np.arange(width) * 16 // width) % 2
    times = stamps_s if stamps_s is not None else [float(i / rate) for i in range(round(seconds * rate))]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90000)
        if turn:
            video.set_display_rotation(turn)
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=SOUND_RATE)
            audio.layout = "stereo" if sound.shape[1] == 2 else "mono"
        for number, t_s in enumerate(times):
            rgb = np.repeat(np.where(board, 60, 120).astype(np.uint8)[..., np.newaxis], 3, axis=2)
            x = number * width // len(times) // 2
            rgb[height // 3 : height // 2, x : x + width // 4] = (220, 60, 40)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = round(t_s * 90000), Fraction(1, 90000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound, np.float32).reshape(1, -1), format="flt", layout=audio.layout.name
            )
            block.sample_rate, block.pts = SOUND_RATE, 0
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Waits for something that another process does; fails if it does not do it in time."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.02)


def session_members(session: int) -> list[str]:
    """Command lines of the living processes of a session, whoever their parents are."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, owner = stat.read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                members.append((stat.parent / "cmdline").read_text().replace("\0", " "))
    return members


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    """float32 (n, channels) at 44.1 kHz."""
    return np.random.default_rng(0).normal(0, 0.1, (round(seconds * SOUND_RATE), channels)).astype(np.float32)
