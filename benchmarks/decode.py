# SPDX-License-Identifier: Apache-2.0
"""How many clips a core reads out of a data set's files: ours against a plain OpenCV loop, one thread each; and ours
with a thread per core, as the loader of training has them.

A clip is what the paper's student sees: 32 frames, 1/15 s apart, at 224 x 224. Files are like those of
EPIC-KITCHENS-100 (pictures in a folder and in a tar, the movie) and of Something-Something v2 (WebM), their content is
rendered.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from karmma_benchmarks.settings import Report, Settings, Table, take_turns
from karmma_ros.clips import clip_positions
from karmma_ros.soak.watch import usage_of
from karmma_ros.tabletop.sequence import make_sequence
from karmma_training.data.pictures import FolderPictures, TarPictures, index_tar
from karmma_training.data.prefetch import prefetch
from karmma_training.data.tracks import ImageTrack, PictureTrack, VideoTrack
from karmma_training.data.video_frames import index_video

__all__ = ["run"]

Image = npt.NDArray[np.uint8]

FRAMES, STEP_NS, SIZE = 32, round(1e9 / 15), (224, 224)
FPS = 60  # of the pictures and the movie; the WebM has 12
OURS, PLAIN = "ours", "plain OpenCV loop"
CORES = os.cpu_count() or 1
TOGETHER = f"ours, {CORES} threads"
FOLDER, TAR, MOVIE, WEBM = "pictures 456x256", "tar of them", "movie 1920x1080, 60 fps", "WebM 427x240, 12 fps"


def run(settings: Settings) -> Report:
    """Measures."""
    seconds, rounds, clips = (3.0, 1, 1) if settings.quick else (12.0, 7, 6)
    rng = np.random.default_rng(0)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, Progress(console=settings.console, transient=True) as progress:
            ways = _ways(Path(folder), seconds, progress)
            rows, grown = {}, 0.0
            for name, (track, plain) in ways.items():
                asked = [_clips(track, clips, rng) for _ in range(rounds)]
                steps = {
                    OURS: partial(_read, track, asked),
                    PLAIN: partial(_read_plainly, plain, asked),
                    TOGETHER: partial(_read_together, track, asked),
                }
                steps[OURS](0)  # opens what is opened once
                held = usage_of(os.getpid(), 0.0).resident_mb
                milliseconds = take_turns(steps, rounds, 1, progress, name)
                grown = max(grown, usage_of(os.getpid(), 0.0).resident_mb - held)
                rows[name] = {way: round(1e3 * clips / ms, 3) for way, ms in milliseconds.items()}
    finally:
        cv2.setNumThreads(before)
    table = [
        [n, f"{r[OURS]:.1f}", f"{r[PLAIN]:.1f}", f"{r[OURS] / r[PLAIN]:.1f}", f"{r[TOGETHER]:.1f}"]
        for n, r in rows.items()
    ]
    headings = ["files", f"{OURS} [clips/s]", f"{PLAIN} [clips/s]", "times", f"{TOGETHER} [clips/s]"]
    return Report(
        {"clips_per_s": rows, "grown_mb": round(grown, 1)},
        [Table(f"clips of {FRAMES} frames at {SIZE[1]}x{SIZE[0]} a second", headings, table)],
    )


def _clips(track: ImageTrack, count: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Frames of clips that end anywhere."""
    first = min(len(track.stamps) - 1, int(np.searchsorted(track.stamps, (FRAMES - 1) * STEP_NS)))
    newest = rng.integers(first, len(track.stamps), count)
    return list(clip_positions(track.stamps, newest, FRAMES, STEP_NS))


Clips = Sequence[Sequence[npt.NDArray[np.int64]]]  # of each round


def _read(track: ImageTrack, clips: Clips, turn: int) -> None:
    for clip in clips[turn]:
        track.read(clip)


def _read_plainly(read: Callable[[Sequence[int]], list[Image]], clips: Clips, turn: int) -> None:
    for clip in clips[turn]:
        np.stack([_small(frame) for frame in read(clip.tolist())])


def _read_together(track: ImageTrack, clips: Clips, turn: int) -> None:
    for _ in prefetch(lambda k: track.read(clips[turn][k]), 0, len(clips[turn]), threads=CORES):
        pass


def _small(bgr: Image) -> Image:
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(rgb, SIZE[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _pictures_plainly(folder: Path, which: Sequence[int]) -> list[Image]:
    return [np.asarray(cv2.imread(str(folder / f"frame_{k + 1:010d}.jpg")), np.uint8) for k in which]


def _tar_plainly(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], which: Sequence[int]) -> list[Image]:
    """The archive stays open, and its members are listed once."""
    found = []
    for k in which:
        file = archive.extractfile(members[f"./frame_{k + 1:010d}.jpg"])
        assert file is not None
        found.append(np.asarray(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR), np.uint8))
    return found


def _movie_plainly(path: Path, which: Sequence[int]) -> list[Image]:
    """Set the position, read every frame, keep those of the clip."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_POS_FRAMES, which[0])
    frames = {}
    for k in range(which[0], which[-1] + 1):
        there, bgr = capture.read()
        if there and k in which:
            frames[k] = np.asarray(bgr, np.uint8)
    capture.release()
    return [frames[k] for k in which if k in frames]


def _ways(
    folder: Path, seconds: float, progress: Progress
) -> Mapping[str, tuple[ImageTrack, Callable[[Sequence[int]], list[Image]]]]:
    sequence = make_sequence(0, "test", duration_s=seconds, size=(640, 360), fps=12)
    scene = [
        np.asarray(f, np.uint8)
        for f in progress.track(sequence.frames(), total=int(seconds * 12), description="rendering")
    ]
    pictures, tar = folder / "pictures", folder / "pictures.tar"
    pictures.mkdir()
    with tarfile.open(tar, "w") as archive:
        for i in range(int(seconds * FPS)):
            image = cv2.resize(scene[i * 12 // FPS], (456, 256), interpolation=cv2.INTER_AREA)
            data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
            (pictures / f"frame_{i + 1:010d}.jpg").write_bytes(data)
            member = tarfile.TarInfo(f"./frame_{i + 1:010d}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    movie, webm = folder / "movie.mp4", folder / "clip.webm"
    options = {"preset": "veryfast", "g": "30", "bf": "2"}
    _encode(movie, "libx264", FPS, (1920, 1080), scene, options, progress)
    options = {"deadline": "realtime", "cpu-used": "8", "g": "128"}
    _encode(webm, "libvpx-vp9", 12, (427, 240), scene[:48], options, progress)
    index, _ = index_tar(tar, [""])
    stamps = np.arange(int(seconds * FPS), dtype=np.int64) * 10**9 // FPS
    opened = tarfile.open(tar)  # noqa: SIM115  # for as long as it is read from
    members = {member.name: member for member in opened}
    return {
        FOLDER: (PictureTrack(FolderPictures(pictures), stamps, SIZE), partial(_pictures_plainly, pictures)),
        TAR: (PictureTrack(TarPictures(tar, index[""]), stamps, SIZE), partial(_tar_plainly, opened, members)),
        MOVIE: (VideoTrack(movie, index_video(movie), SIZE), partial(_movie_plainly, movie)),
        WEBM: (VideoTrack(webm, index_video(webm), SIZE), partial(_movie_plainly, webm)),
    }


def _encode(
    path: Path,
    codec: str,
    fps: int,
    size: tuple[int, int],
    scene: Sequence[Image],
    options: dict[str, str],
    progress: Progress,
) -> None:
    """A scene of 12 frames a second, moved a little in every frame between: no two are the same."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = size[0] // 2 * 2, size[1] // 2 * 2, "yuv420p"
        for i in progress.track(range(len(scene) * fps // 12), description=f"writing {path.name}"):
            image = np.roll(cv2.resize(scene[i * 12 // fps], (stream.width, stream.height)), i % (fps // 12), 1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
