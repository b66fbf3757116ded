# SPDX-License-Identifier: Apache-2.0
"""Stamps for the chunks of a recording, on the sample clock: counted samples, slewed toward the measured times.

What a driver says about when a sample was taken jitters, and is now and then far off; the samples are evenly spaced.
"""

from __future__ import annotations

from karmma_ros.audio import JOIN_S, SampleClock

__all__ = ["ChunkClock"]

_SETTLING_S = 2.0  # [s] of sound over which the first stamps are averaged
_BELIEVED_AFTER = 5  # chunks in a row that have to be off before a jump that nobody reported is believed


class ChunkClock:
    """Stamps the chunks of one recording.

    Public attribute: `jumps`, how often the measured times went elsewhere although no samples were reported lost: the
    system's clock was set, or the driver keeps its losses to itself.
    """

    def __init__(self, rate: int) -> None:
        """:param rate: [Hz]."""
        self.jumps = 0
        self._clock = SampleClock(rate)
        self._samples = 0  # given so far
        self._settled = 0  # chunks averaged
        self._off = 0  # chunks in a row that are off by more than can be slewed

    def stamp(self, measured_ns: int, samples: int, *, hurried: bool = False, lost: bool = False) -> int:
        """The stamp of the next chunk's first sample.

        :param measured_ns: when the driver says that it was taken.
        :param samples: length of the chunk, per channel.
        :param hurried: the driver catches up after a delay: what it says about the time of this chunk is not used.
        :param lost: samples before it are missing: what is measured is believed, unless it overlaps the chunk before.
        :return: [ns].
        """
        if not self._samples:
            self._clock.start(measured_ns)
        error_ns = measured_ns - self._clock.time_ns(self._samples)
        if lost:
            self._move(max(0, error_ns))
        elif hurried:
            pass
        elif abs(error_ns) < JOIN_S * 1e9:
            self._off = 0
            self._settled += 1
            share = samples / (self._clock.rate * _SETTLING_S)
            self._clock.shift(error_ns * min(1.0, max(share, 1.0 / self._settled)))
        else:
            self._off += 1
            if self._off >= _BELIEVED_AFTER:
                self.jumps += 1
                self._move(error_ns)
        stamp_ns = self._clock.time_ns(self._samples)
        self._samples += samples
        return stamp_ns

    def _move(self, error_ns: int) -> None:
        self._clock.shift(error_ns)
        self._settled = self._off = 0
