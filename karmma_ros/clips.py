# SPDX-License-Identifier: Apache-2.0
"""Clips: what an extractor sees that takes several frames, or flow fields, at once; the same in training and online.

Frame i of a clip of n is the one nearest to `newest - (n - 1 - i) * step`, none newer than the newest. Frames that are
`n * step` or more older than it are another time: where there is nothing between, after a start or a pause, the oldest
of this time stands for what lies before.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ClipBuffer", "clip_positions"]

Int64Array = npt.NDArray[np.int64]

OVERSAMPLING = 8  # frames kept to a step: a camera at 120 Hz and steps of 1/15 s


def clip_positions(stamps_ns: Int64Array, which: Int64Array, count: int, step_ns: int) -> Int64Array:
    """Positions of the frames of some clips.

    :param stamps_ns: (k,) ascending; which: (n,) positions of the newest of each clip.
    :return: (n, count), the newest last.
    """
    if count == 1:
        return which[:, None]
    newest = stamps_ns[which][:, None]
    first = np.searchsorted(stamps_ns, newest[:, 0] - count * step_ns, side="right")[:, None]
    wanted = newest - step_ns * np.arange(count - 1, -1, -1)
    after = np.clip(np.searchsorted(stamps_ns, wanted), first, which[:, None])
    before = np.maximum(after - 1, first)
    nearer = wanted - stamps_ns[before] < stamps_ns[after] - wanted
    positions = np.where(nearer, before, after).astype(np.int64)
    positions[:, -1] = which  # of several with one stamp, the one asked for
    return positions


class ClipBuffer:
    """The recent samples of one modality, as the network takes them. Not thread-safe; the recogniser guards it.

    :param count: samples of a clip; step_ns: from one to the next.
    """

    def __init__(self, count: int, step_ns: int) -> None:
        self._count, self._step_ns = count, step_ns
        self._most = OVERSAMPLING * count
        self._stamps: list[int] = []
        self._samples: list[npt.NDArray[Any]] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def push(self, stamp_ns: int, sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Keeps a sample; see `keep`.

        :return: (count, ...) the clip that ends with it, a copy.
        """
        row = self._put(stamp_ns, sample)
        stamps = np.asarray(self._stamps, np.int64)
        (rows,) = clip_positions(stamps, np.array([row]), self._count, self._step_ns)
        clip = np.stack([self._samples[k] for k in rows])
        self._forget_old()
        return clip

    def keep(self, stamp_ns: int, sample: npt.NDArray[Any]) -> None:
        """Keeps a sample, in its place by its stamp, instead of one with the same; the caller gives it away."""
        self._put(stamp_ns, sample)
        self._forget_old()

    def _put(self, stamp_ns: int, sample: npt.NDArray[Any]) -> int:
        row = bisect_left(self._stamps, stamp_ns)
        if row < len(self._stamps) and self._stamps[row] == stamp_ns:
            self._samples[row] = sample
        else:
            self._stamps.insert(row, stamp_ns)
            self._samples.insert(row, sample)
        return row

    def _forget_old(self) -> None:
        oldest = bisect_left(self._stamps, self._stamps[-1] - self._count * self._step_ns + 1)
        self._forget(0, max(oldest, len(self._stamps) - self._most))

    def evict(self, since_ns: int) -> int:
        """Erases the samples with stamp >= `since_ns`; returns how many there were."""
        row = bisect_left(self._stamps, since_ns)
        count = len(self._stamps) - row
        self._forget(row, len(self._stamps))
        return count

    def clear(self) -> None:
        """Erases everything."""
        self._forget(0, len(self._stamps))

    def _forget(self, first: int, last: int) -> None:
        for sample in self._samples[first:last]:
            sample.fill(0)
        del self._samples[first:last], self._stamps[first:last]
