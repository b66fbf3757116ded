# SPDX-License-Identifier: Apache-2.0
"""Files that end early: a download that broke off still has the header of the whole, and nothing else complains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av.error

from karmma_ros.media import open_container, origin_s

__all__ = ["Length", "media_length"]

SLACK_S = 0.5  # that headers may claim too much: they round, and count what the encoder added
STEP_S = 0.5  # the end is looked for to within this, then read
STREAMED = 0x7FFF_0000  # bytes: a WAV that was written into a pipe claims as many, or more


@dataclass(frozen=True)
class Length:
    """How long a file's picture or sound is, in seconds: what is there, and what its header claims."""

    there_s: float
    claimed_s: float

    @property
    def early(self) -> str:
        """Where it breaks off, as in "ends early, at 12.3 s of 24.6 s"; "" where it does not."""
        if self.there_s + SLACK_S >= self.claimed_s:
            return ""
        return f"ends early, at {self.there_s:.1f} s of {self.claimed_s:.1f} s"


def media_length(path: Path, kind: Literal["video", "audio"]) -> Length | None:
    """The length of a file's first stream of a kind, None without any; little of it is read, nothing decoded.

    :raises MediaError: unreadable.
    """
    with open_container(path) as container:
        streams = getattr(container.streams, kind)
        if not streams:
            return None
        stream, origin = streams[0], origin_s(container)
        base, start = Fraction(stream.time_base), stream.start_time or 0
        stop = start + (stream.duration or int(Fraction(container.duration or 0, 1_000_000) / base))
        there_s = float(_end(container, stream, start, stop) * base - origin)
    return Length(there_s, max(float(stop * base - origin), there_s * _cut(path)))


def _end(container: Any, stream: Any, start: int, stop: int) -> int:
    """Where the last packet of a stream ends, in its ticks: found by seeking, for a movie has gigabytes."""
    low, high, step = start, stop, max(1, round(STEP_S / stream.time_base))
    if next(_ends(container, stream, stop), None) is not None:
        low = stop
    while high - low > step:
        middle = (low + high) // 2
        if next(_ends(container, stream, middle), None) is None:
            high = middle
        else:
            low = middle
    return max(_ends(container, stream, low), default=start)


def _ends(container: Any, stream: Any, at: int) -> Iterator[int]:
    """Where the packets from the key frame before a time on end, as many as there are."""
    try:
        container.seek(at, stream=stream)
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                yield packet.pts + (packet.duration or 0)
    except av.error.FFmpegError:
        return  # here the file breaks off


def _cut(path: Path) -> float:
    """How many times as large a WAV says that it is: of what was cut off the decoder says nothing. Else 1."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:], "little") + len(head)
    return size / path.stat().st_size if head.startswith(b"RIFF") and size < STREAMED else 1.0
