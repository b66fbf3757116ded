# SPDX-License-Identifier: Apache-2.0
"""A miniature EPIC-KITCHENS-100 in the official layout: what the tests of that data set read."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.media import VideoWriter, write_wav

COLUMNS = ["narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"]
COLUMNS += ["start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns"]
COLUMNS += ["all_noun_classes"]
TEST_COLUMNS = COLUMNS[:8]
VERBS, NOUNS = ("take", "put", "wash"), ("tap", "plate")
SOUND_RATE = 24_000
WIDTH, HEIGHT = 456, 256  # of the official frames


@dataclass(frozen=True)
class Action:
    """One annotated action of a video."""

    video: str
    start_s: float
    stop_s: float
    verb: int
    noun: int


def write_annotations(folder: Path, **splits: Sequence[Action]) -> None:
    """The official CSVs with these actions: train, validation, test."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, classes in (("verb", VERBS), ("noun", NOUNS)):
        rows = [[i, key, f"['{key}']", "none"] for i, key in enumerate(classes)]
        _write(folder / f"EPIC_100_{name}_classes.csv", ["id", "key", "instances", "category"], rows)
    _write(folder / "EPIC_100_tail_verbs.csv", ["verb"], [[2]])
    _write(folder / "EPIC_100_tail_nouns.csv", ["noun"], [[1]])
    _write(folder / "EPIC_100_unseen_participant_ids_validation.csv", ["participant_id"], [["P02"]])
    files = {"train": "EPIC_100_train", "validation": "EPIC_100_validation", "test": "EPIC_100_test_timestamps"}
    for split, actions in splits.items():
        columns = TEST_COLUMNS if split == "test" else COLUMNS
        _write(folder / f"{files[split]}.csv", columns, [_row(i, a)[: len(columns)] for i, a in enumerate(actions)])


def _row(number: int, action: Action) -> list[object]:
    rate = 50 if len(action.video) > 6 else 60
    verb, noun = VERBS[action.verb], NOUNS[action.noun]
    times = [f"00:00:{t:05.2f}" for t in (action.start_s, action.stop_s)]
    frames = [max(1, int(t * rate)) for t in (action.start_s, action.stop_s)]
    words = [f"{verb} {noun}", verb, action.verb, noun, action.noun, [noun], [action.noun]]
    return [f"{action.video}_{number}", action.video[:3], action.video, times[0] + "0", *times, *frames, *words]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """A picture as the data set has them."""
    if image.ndim == 3:
        image = image[..., ::-1]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write_folder(folder: Path, pictures: Sequence[bytes], name: str = "frame_{:010d}.jpg") -> None:
    """Pictures as files, from number 1."""
    folder.mkdir(parents=True)
    for number, data in enumerate(pictures, 1):
        (folder / name.format(number)).write_bytes(data)


def write_tar(path: Path, parts: dict[str, Sequence[bytes]], prefix: str = "./") -> None:
    """Pictures in a tar, as the official ones are: names begin with `./`, folders are members too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for part, pictures in parts.items():
            if part:
                member = tarfile.TarInfo(f"{prefix}{part}")
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            for number, data in enumerate(pictures, 1):
                member = tarfile.TarInfo(f"{prefix}{part}{'/' if part else ''}frame_{number:010d}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def grey_flow(pixels: float, bound: float, size: tuple[int, int] = (HEIGHT, WIDTH)) -> bytes:
    """One component of flow, the same everywhere, as the data set's tool writes it."""
    value = round(255 * (pixels + bound) / (2 * bound))
    return jpeg(np.full(size, value, np.uint8))


def write_movie(
    path: Path, frames: Sequence[npt.NDArray[np.uint8]], fps: float, sound: npt.NDArray[np.float32] | None
) -> None:
    """An H.264 file with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".mp4")  # which says what it becomes
    height, width = frames[0].shape[:2]
    with VideoWriter(temporary, (width, height), fps, sound=None if sound is None else (SOUND_RATE, 1)) as writer:
        for i, frame in enumerate(frames):
            writer.write(frame, round(i * 1e9 / fps))
        if sound is not None:
            writer.write_sound(sound)
    temporary.rename(path)


def cut(path: Path, share: float) -> None:
    """Leave the first part of a file, as a download does that breaks off."""
    os.truncate(path, int(path.stat().st_size * share))


def noise(count: int) -> list[npt.NDArray[np.uint8]]:
    """Images that take as much of a movie each."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(count)]


def tone_of(hertz: float, seconds: float, rate: int = SOUND_RATE) -> npt.NDArray[np.float32]:
    """(n,)"""
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write_sound(path: Path, samples: npt.NDArray[np.float32]) -> None:
    """A WAV as the field extracts it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, samples, SOUND_RATE)
