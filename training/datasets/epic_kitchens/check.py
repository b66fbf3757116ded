# SPDX-License-Identifier: Apache-2.0
"""What of a video's annotated actions is on disk, without decoding it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError, MediaError
from karmma_training.data.pictures import FolderPictures, Pictures, TarPictures, decode_picture, index_tar
from karmma_training.datasets.check import VideoCheck, damaged_frames
from karmma_training.datasets.epic_kitchens.annotations import Segment
from karmma_training.datasets.epic_kitchens.hdf5_sound import hdf5_length
from karmma_training.datasets.epic_kitchens.index import FLOW_PARTS
from karmma_training.datasets.epic_kitchens.layout import VideoFiles, flow_timing, frame_rate
from karmma_training.datasets.lengths import Length, media_length

__all__ = ["check_video"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TOLERANCE_S, FEW = 0.2, 12  # at the end sound may be so much shorter than the annotations say, so many pictures fewer


def check_video(video: str, files: VideoFiles, segments: Sequence[Segment], tries: int) -> VideoCheck:
    """Look for everything that some annotated actions of a video need.

    :param tries: pictures to decode, spread over the video.
    """
    findings: list[str] = []
    has: list[str] = []
    covered = np.zeros(len(segments), bool)
    rgb = _pictures("rgb", files.rgb, ("",), findings)
    if rgb:
        has.append("video")
        covered |= _within(segments, rgb[0].numbers, frame_rate(video))
        findings += _gaps("rgb", rgb[0].numbers, _frames(video, segments))
        findings += _damaged(rgb[0], tries, grey=False)
    elif files.video:
        findings += ["no rgb frames: the movie is read instead"] if files.rgb is None else []
        if movie := _movie(files.video, segments, findings):
            has.append("video")
            covered |= _begun(segments, movie)
            findings += damaged_frames(files.video, tries)
    else:
        findings.append("no rgb frames and no movie")
    flow = _pictures("flow", files.flow, FLOW_PARTS, findings)
    if flow:
        has.append("flow")
        newest = flow_timing(video).newest_frame(np.intersect1d(flow[0].numbers, flow[1].numbers))
        covered |= _within(segments, newest, frame_rate(video))
        wanted = _flow_numbers(video, segments)
        for part, pictures in zip(FLOW_PARTS, flow, strict=True):
            findings += _gaps(f"flow {part}", pictures.numbers, wanted)
            findings += _damaged(pictures, tries, grey=True)
    elif "video" in has:
        has.append("flow")
        findings.append("no flow: computed while training")
    else:
        findings.append("no flow")
    if sound := _sound(video, files, segments, findings):
        has.append("audio")
        covered |= _begun(segments, sound)
    return VideoCheck(video, len(segments), int(covered.sum()), tuple(has), tuple(findings))


def _within(segments: Sequence[Segment], frames: Ints, rate: int) -> Bools:
    """Which actions some RGB frames, by their numbers, lie within."""
    starts, stops = np.array([(s.start_s, s.stop_s) for s in segments]).T
    times_s = (frames - 1) / rate
    return np.asarray(np.searchsorted(times_s, starts) < np.searchsorted(times_s, stops, side="right"))


def _begun(segments: Sequence[Segment], length: Length) -> Bools:
    """Which actions begin before a movie or its sound ends."""
    return np.array([s.start_s < length.there_s for s in segments])


def _pictures(kind: str, path: Path | None, parts: Sequence[str], findings: list[str]) -> list[Pictures]:
    """The pictures of all parts, none where one is missing."""
    if path is None:
        return []
    try:
        if path.is_dir():
            found: list[Pictures] = [FolderPictures(path / part) for part in parts]
        else:
            index, fault = index_tar(path, parts)
            findings += [fault] if fault else []
            found = [TarPictures(path, index[part]) for part in parts]
    except MediaError as error:
        findings.append(str(error))
        return []
    empty = [part or kind for part, pictures in zip(parts, found, strict=True) if not len(pictures.numbers)]
    if empty:
        findings.append(f"{path}: no pictures of {', '.join(empty)}")
    return [] if empty else found


def _frames(video: str, segments: Sequence[Segment]) -> Ints:
    """Numbers of the RGB frames of all actions."""
    rate = frame_rate(video)
    spans = [np.arange(max(1, int(s.start_s * rate)), max(1, int(s.stop_s * rate)) + 1) for s in segments]
    return np.unique(np.concatenate(spans))


def _flow_numbers(video: str, segments: Sequence[Segment]) -> Ints:
    """Numbers of the flow pictures of all actions."""
    return np.unique((_frames(video, segments) - 1) // flow_timing(video).stride + 1)


def _gaps(kind: str, numbers: Ints, wanted: Ints) -> list[str]:
    """What is missing of the pictures that are wanted; the last few may be."""
    missing = np.setdiff1d(wanted, numbers)
    if wanted[-1] - numbers[-1] <= FEW:
        missing = missing[missing <= numbers[-1]]
    if not len(missing):
        return []
    return [f"{kind}: {len(missing)} of {len(wanted)} pictures of the actions are missing, {missing[0]} is the first"]


def _damaged(pictures: Pictures, tries: int, *, grey: bool) -> list[str]:
    count = len(pictures.numbers)
    faults = []
    for k in np.unique(np.linspace(0, count - 1, min(tries, count)).astype(int)) if tries else ():
        try:
            decode_picture(pictures.load(int(k)), pictures.name(int(k)), grey=grey, at_least=(1, 1))
        except MediaError as error:
            faults.append(str(error))
    return [f"{len(faults)} of {min(tries, count)} pictures tried are damaged: {faults[0]}"] if faults else []


def _movie(path: Path, segments: Sequence[Segment], findings: list[str]) -> Length | None:
    """How long a movie is; None where it does not open."""
    try:
        length = media_length(path, "video")
        if length is None or length.there_s <= 0:
            raise MediaError(f"{path}: no video in this file")
    except MediaError as error:
        findings.append(str(error))
        return None
    _ends(path.name, length, segments, findings)
    return length


def _ends(what: str, length: Length, segments: Sequence[Segment], findings: list[str]) -> None:
    last = max(s.stop_s for s in segments)
    if length.early or length.there_s + TOLERANCE_S < last:
        lost = len(segments) - int(_begun(segments, length).sum())
        ends = length.early or f"ends at {length.there_s:.1f} s"
        findings.append(f"{what} {ends}: {lost} of {len(segments)} actions come later")


def _sound(video: str, files: VideoFiles, segments: Sequence[Segment], findings: list[str]) -> Length | None:
    """How long a video's sound is; None without any."""
    for path in (*files.sounds, files.video):
        if path is None:
            continue
        try:
            length = hdf5_length(path, video) if path.suffix == ".hdf5" else media_length(path, "audio")
        except KarmmaError as error:
            findings.append(str(error))
            continue
        if length is not None:
            _ends(f"sound of {path.name}", length, segments, findings)
            return length
    findings.append("no sound")
    return None
