# SPDX-License-Identifier: Apache-2.0
"""Recent audio on the sample clock: which samples make up the sound that ended at a given moment.

Chunks are stamped by a clock that jitters, while the samples in them are evenly spaced. So the samples are counted, and
the count is slewed slowly toward the stamps; only a stamp that is 20 ms or more away from where the chunk should begin
is believed at once: later means that samples are missing (a gap), earlier that they came before (an overlap).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError
from karmma_ros.resample import Resampler
from karmma_ros.samples import to_mono

__all__ = ["JOIN_S", "AudioInput", "AudioRing", "SampleClock"]

Float32Array = npt.NDArray[np.float32]

JOIN_S = 0.020  # [s] a chunk that begins less than this from the expected time follows seamlessly
_SLEW_S = 2.0  # [s] of audio in which the sample clock follows the stamps; a crystal that is 100 ppm off costs 0.2 ms


class SampleClock:
    """Tells the time of sample n of a stream: start + n / rate, plus what was slewed."""

    def __init__(self, rate: int) -> None:
        """:param rate: [Hz]."""
        if rate <= 0:
            raise ValueError("rate must be positive")
        self.rate = rate
        self.start(0)

    def start(self, stamp_ns: int) -> None:
        """Makes `stamp_ns` the time of sample 0."""
        self._origin_ns = stamp_ns
        self._slew_ns = 0.0

    def time_ns(self, index: int, rate: int | None = None) -> int:
        """Time of sample `index`; with `rate`, of that sample of the same stream at another rate."""
        rate = rate or self.rate
        # Whole numbers: nanoseconds since the epoch do not fit a float.
        return self._origin_ns + (index * 10**9 + rate // 2) // rate + round(self._slew_ns)

    def index(self, stamp_ns: int) -> int:
        """The sample nearest to a time."""
        elapsed = stamp_ns - self._origin_ns - round(self._slew_ns)
        return (2 * elapsed * self.rate + 10**9) // (2 * 10**9)

    def slew(self, error_ns: int, samples: int) -> None:
        """Moves toward the stamps, by as much of the error as `samples` of audio allow."""
        self._slew_ns += error_ns * min(1.0, samples / (self.rate * _SLEW_S))

    def shift(self, error_ns: float) -> None:
        """Moves by the whole error."""
        self._slew_ns += error_ns


class AudioRing:
    """The last `seconds` of mono audio at one rate, in preallocated memory.

    Samples that were never received stay missing, and nothing that spans them can be read. A chunk that arrives late
    fills the samples it has and that are missing; samples that are held already are kept and the duplicates dropped.
    """

    def __init__(self, rate: int, seconds: float) -> None:
        """:param rate: [Hz].
        :param seconds: how much to keep.
        """
        self.rate = rate
        self.capacity = max(1, math.ceil(seconds * rate))
        self._samples = np.zeros(self.capacity, dtype=np.float32)
        self._held = np.zeros(self.capacity, dtype=np.bool_)
        self._clock = SampleClock(rate)
        self._end = 0  # index after the newest sample; the ring holds [end - capacity, end)
        self._started = False
        self.gaps = 0  # times that a chunk began later than the one before it had ended

    @property
    def latest_ns(self) -> int | None:
        """End of the newest sample (its time + 1 / rate); None while empty."""
        return self._clock.time_ns(self._end) if self._started else None

    @property
    def half_sample_ns(self) -> int:
        """[ns] half of a sample: how far `read` rounds."""
        return 10**9 // (2 * self.rate)

    def push(self, stamp_ns: int, mono: Float32Array) -> int:
        """Stores a chunk.

        :param stamp_ns: time of its first sample.
        :param mono: (n,) float32 at the ring's rate.
        :return: how many of its samples are new; 0 when all were held already.
        :raises SampleError: the whole chunk is older than what the ring holds.
        """
        if not len(mono):
            return 0
        if not self._started:
            self._clock.start(stamp_ns)
            self._end = 0
            self._started = True
        error_ns = stamp_ns - self._clock.time_ns(self._end)
        if abs(error_ns) < JOIN_S * 1e9:
            self._clock.slew(error_ns, len(mono))
            begin = self._end
        else:
            begin = self._clock.index(stamp_ns)
            if begin - self._end >= self.capacity:
                gaps = self.gaps + 1
                self.clear()
                self.gaps = gaps
                return self.push(stamp_ns, mono)
            if begin > self._end:
                self.gaps += 1
                self._clock.shift(stamp_ns - self._clock.time_ns(begin))
        if begin + len(mono) <= self._end - self.capacity:
            raise SampleError("audio is too old", f"{(self._end - begin) / self.rate:.1f} s behind the newest")
        return self._store(begin, mono)

    def _store(self, begin: int, mono: Float32Array) -> int:
        """Puts samples at indices from `begin` on where nothing is held; returns how many were."""
        end = begin + len(mono)
        if end > self._end:
            self._forget(self._end, end)
            self._end = end
        oldest = self._end - self.capacity
        if begin < oldest:
            mono = mono[oldest - begin :]
            begin = oldest
        stored = 0
        for target, source in self._spans(begin, begin + len(mono)):
            new = ~self._held[target]
            self._samples[target][new] = mono[source][new]
            self._held[target] = True
            stored += int(np.count_nonzero(new))
        return stored

    def _forget(self, begin: int, end: int) -> None:
        for target, _ in self._spans(max(begin, end - self.capacity), end):
            self._samples[target] = 0.0
            self._held[target] = False

    def _spans(self, begin: int, end: int) -> list[tuple[slice, slice]]:
        """(slice of the memory, slice of [begin, end)) once or, where it wraps, twice."""
        if end <= begin:
            return []
        row, length = begin % self.capacity, end - begin
        first = min(length, self.capacity - row)
        spans = [(slice(row, row + first), slice(0, first))]
        if first < length:
            spans.append((slice(0, length - first), slice(first, length)))
        return spans

    def read(self, end_ns: int, n: int) -> Float32Array | None:
        """The n samples that end at `end_ns`: the last one begins 1 / rate before it, to the nearest sample.

        :return: float32 (n,), a copy; None when any of them is missing, not yet there or no longer there.
        """
        if not self._started or n < 1:
            return None
        end = self._clock.index(end_ns)
        begin = end - n
        if end > self._end or begin < self._end - self.capacity:
            return None
        result = np.empty(n, dtype=np.float32)
        for target, source in self._spans(begin, end):
            if not self._held[target].all():
                return None
            result[source] = self._samples[target]
        return result

    def clear(self) -> None:
        """Forgets everything and overwrites the memory with zeros."""
        self._samples.fill(0.0)
        self._held.fill(False)
        self._started = False
        self._end = self.gaps = 0


class AudioInput:
    """Audio as it comes from a source: any rate and number of channels, in chunks; kept as mono at one rate.

    The resampler runs on across chunks. At a gap, or when the source's rate changes, what it still owes is stored and
    it starts afresh, so the two sides of a gap do not ring into each other.
    """

    def __init__(self, rate: int, seconds: float) -> None:
        """:param rate: [Hz] to keep the audio at.
        :param seconds: how much to keep.
        """
        self.rate = rate
        self.ring = AudioRing(rate, seconds)
        self._resampler: Resampler | None = None  # None until a source with another rate is heard
        self._clock = SampleClock(rate)  # of the source, from the resampler's start on
        self._taken = 0  # source samples since then
        self._given = 0  # resampled samples since then

    @property
    def latest_ns(self) -> int | None:
        """End of the newest sample; None while empty."""
        return self.ring.latest_ns

    @property
    def gaps(self) -> int:
        """Times, since `clear`, that a chunk began later than the one before it had ended."""
        return self.ring.gaps

    def push(self, stamp_ns: int, samples: npt.NDArray[Any], rate: int | None = None) -> int:
        """Stores a chunk.

        :param stamp_ns: time of its first sample.
        :param samples: (n,) or (n, channels), see `samples.to_mono`.
        :param rate: [Hz] of the samples; None: the input's own.
        :return: how many samples at the input's rate are new. While a resampler fills up, 0 is no fault.
        :raises SampleError: not audio, too old, or a rate that cannot be converted.
        """
        mono = to_mono(samples)
        rate = self.rate if rate is None else rate
        if rate == self.rate:
            return self._finish() + self.ring.push(stamp_ns, mono)
        if not len(mono):
            return 0
        stored = 0
        if self._resampler is None or self._resampler.source_rate != rate:
            fresh = Resampler(rate, self.rate)  # raises before anything is changed
            stored += self._finish()
            self._resampler = fresh
            self._clock = SampleClock(rate)
            self._start(stamp_ns)
        error_ns = stamp_ns - self._clock.time_ns(self._taken)
        if error_ns >= JOIN_S * 1e9:
            stored += self._give(self._resampler.flush())
            self._start(stamp_ns)
        elif error_ns <= -JOIN_S * 1e9:
            duplicates = self._taken - self._clock.index(stamp_ns)
            if duplicates >= len(mono):
                return stored + self._late(stamp_ns, mono, rate)
            mono = mono[duplicates:]
        else:
            self._clock.slew(error_ns, len(mono))
        self._taken += len(mono)
        return stored + self._give(self._resampler.process(mono))

    def _start(self, stamp_ns: int) -> None:
        """Begins a resampled stream at `stamp_ns`."""
        self._clock.start(stamp_ns)
        self._taken = self._given = 0

    def _give(self, resampled: Float32Array) -> int:
        """Stores what the resampler has just given, at the time of the source samples it stands for."""
        stamp_ns = self._clock.time_ns(self._given, self.rate)
        self._given += len(resampled)
        return self.ring.push(stamp_ns, resampled)

    def _late(self, stamp_ns: int, mono: Float32Array, rate: int) -> int:
        """Stores a chunk that lies wholly before the newest sample; it may fill a gap."""
        resampler = Resampler(rate, self.rate)
        resampled = np.concatenate([resampler.process(mono), resampler.flush()])
        return self.ring.push(stamp_ns, resampled)

    def _finish(self) -> int:
        """Ends the resampled stream, if there is one."""
        if self._resampler is None:
            return 0
        stored = self._give(self._resampler.flush())
        self._resampler = None
        return stored

    def clear(self) -> None:
        """Forgets everything and overwrites the ring with zeros."""
        self.ring.clear()
        self._resampler = None
