# SPDX-License-Identifier: Apache-2.0
"""Single frames of a video file, found by seeking: only what a window needs is decoded.

A file is indexed once, from its packets, without decoding them. To read frames, the decoder starts at the key frame
before each, and packets on the way that no other frame refers to are not decoded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.errors import MediaError
from karmma_ros.media import open_container, origin_s, upright

__all__ = ["VideoIndex", "index_video", "read_frames"]

Ints = npt.NDArray[np.int64]
Images = dict[int, npt.NDArray[np.uint8]]
Convert = Callable[[Any], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video file.

    pts: (n,) presentation times in the stream's own ticks, ascending; stamps_ns: (n,) the same from the file's start;
    keys: (k,) pts of the frames that decoding may begin at, ascending; size: (2,) height and width in pixels.
    """

    pts: Ints
    stamps_ns: Ints
    keys: Ints
    size: Ints


def index_video(path: Path) -> VideoIndex:
    """Find the frames of a file by its packets.

    :raises MediaError: unreadable, or without video.
    """
    with open_container(path) as container:
        if not container.streams.video:
            raise MediaError(f"{path}: no video in this file")
        stream = container.streams.video[0]
        rows = [(p.pts, p.is_keyframe) for p in _packets(container, stream) if p.pts is not None and not p.is_discard]
        size = np.array([stream.codec_context.height, stream.codec_context.width], np.int64)
        base, origin = Fraction(stream.time_base or 1), origin_s(container)
    if not rows:
        raise MediaError(f"{path}: not a single frame in this file")
    pts = np.unique(np.asarray([pts for pts, _ in rows], np.int64))
    stamps = np.asarray([round((int(p) * base - origin) * 1_000_000_000) for p in pts], np.int64)
    keys = [pts for pts, key in rows if key] or [rows[0][0]]
    return VideoIndex(pts, stamps, np.unique(np.asarray(keys, np.int64)), size)


def read_frames(path: Path, index: VideoIndex, which: Ints, convert: Convert | None = None) -> Images:
    """Decode some frames.

    :param which: (n,) positions in the index, in any order.
    :param convert: what a decoded frame (av.VideoFrame) becomes; None: RGB (h, w, 3).
    :return: {position: image}; a frame that cannot be decoded is not in it.
    :raises MediaError: the file cannot be opened.
    """
    convert = convert or partial(upright, reformatter=VideoReformatter())
    found: Images = {}
    with open_container(path) as container:
        stream = container.streams.video[0]
        # windows are made in parallel: a decoder with threads of its own would only take turns with the others
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for run in _runs(index, np.unique(which)):
            key = int(np.searchsorted(index.keys, index.pts[run[0]], side="right")) - 1
            for back in (0, 1):  # where frames of one group refer to the group before
                missing = np.asarray([k for k in run if int(k) not in found], np.int64)
                if len(missing) and key - back >= 0:
                    start = int(index.keys[key - back])
                    found |= _read_run(container, stream, index, missing, start, convert)
    return found


def _runs(index: VideoIndex, wanted: Ints) -> list[Ints]:
    """Frames to decode in one go: decoding on is cheaper than seeking while there is no whole group to skip."""
    group = np.searchsorted(index.keys, index.pts[wanted], side="right")
    return np.split(wanted, np.flatnonzero(np.diff(group) > 1) + 1)


def _read_run(container: Any, stream: Any, index: VideoIndex, run: Ints, start: int, convert: Convert) -> Images:
    """Decode from the key frame at `start` until the last frame of a run."""
    found: Images = {}
    pending = {int(index.pts[k]): int(k) for k in run}
    last = max(pending)
    container.seek(start, stream=stream)
    for packet in chain(_packets(container, stream), (None,)):  # None: what the decoder still holds
        if packet is not None:
            wanted = packet.pts in pending
            if packet.is_disposable and not wanted:
                continue
            # Most containers do not say which packets are; the decoder sees it, and passes over them.
            stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
        for frame in _decoded(packet, stream):
            position = pending.pop(frame.pts, None)
            if position is not None:
                found[position] = convert(frame)
            if not pending or (frame.pts is not None and frame.pts > last):
                return found
    return found


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets until the end, or until the file breaks off."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except av.error.FFmpegError:
        return


def _decoded(packet: Any, stream: Any = None) -> list[Any]:
    """Frames that a packet completes, or those left at the end of a stream; none where it is damaged."""
    try:
        return list(packet.decode() if packet is not None else stream.decode(None))
    except av.error.FFmpegError:
        return []
