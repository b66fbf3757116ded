# SPDX-License-Identifier: Apache-2.0
"""Changes the sample rate of audio that comes in chunks, without a trace of where the chunks were cut.

A windowed-sinc polyphase filter (Kaiser window; see Smith and Gossett, "A flexible sampling-rate conversion method",
ICASSP 1984). Output sample m stands at input position m * source / target, so the first output sample has the stamp of
the first input sample: the filter's delay is removed. It is paid in waiting instead: a filter that is symmetric in time
needs input past that position, so the output lags by `lookahead` input samples (3 ms at 44.1 -> 16 kHz) until more
input or `flush()` comes.

Rates with a large common divisor meet at few positions between two input samples, and each has a filter of its own.
Others (16001 -> 16000 Hz has 16000 positions) share the filters of a fixed number of positions, with straight lines
between them: so whatever rates a device or a hostile message names, a filter is designed in a few milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError

__all__ = ["Resampler"]

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_ZEROS = 48  # zero crossings of the sinc to each side
_STOPBAND_DB = 80.0
_BETA = 0.1102 * (_STOPBAND_DB - 8.7)  # Kaiser's formula for the window's shape
_BLOCK = 1 << 17  # products at a time: bounds memory, however long the chunk, and stays within a processor's cache
_MAX_TABLE = 1 << 17  # taps over all positions; with more than that, lines between `_LINES` positions take their place
_LINES = 256  # positions per sample of the lower rate: lines between them are off by an eighth of a bend, by -100 dB
_MAX_RATIO = 1000.0  # of the rates: bounds the length of a filter, and what comes out of a chunk
_KEPT = 8  # filters kept for streams to come, of 1.5 MB at most each: a source may alternate between rates


class Resampler:
    """Stateful converter from `source_rate` to `target_rate` [Hz]; equal rates pass through."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """:raises SampleError: a rate that is not positive, or rates that are more than a factor of 1000 apart."""
        if source_rate <= 0 or target_rate <= 0:
            raise SampleError("sample rate is not positive", f"{source_rate} -> {target_rate} Hz")
        if not 1 / _MAX_RATIO <= target_rate / source_rate <= _MAX_RATIO:
            raise SampleError("sample rate cannot be converted", f"{source_rate} -> {target_rate} Hz")
        self.source_rate = source_rate
        self.target_rate = target_rate
        divisor = gcd(source_rate, target_rate)
        self._up, self._down = target_rate // divisor, source_rate // divisor
        narrow = min(1.0, target_rate / source_rate)  # lower rate over source rate
        self.lookahead = 0 if self._up == self._down else ceil(_ZEROS / narrow)
        exact = self._up * 2 * self.lookahead <= _MAX_TABLE
        self._rows = self._up if exact else ceil(_LINES * narrow)  # positions with a filter of their own
        self._filters = _design(self._rows, narrow)
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next chunk starts a new stream."""
        self._taken = 0  # input samples since the start
        self._given = 0  # output samples since the start
        # Silence stands before the first sample, as far as the filter looks back.
        self._tail: Float64Array = np.zeros(max(0, self.lookahead - 1), dtype=np.float64)

    @property
    def given(self) -> int:
        """Output samples since the start or the last reset."""
        return self._given

    def process(self, chunk: Float32Array) -> Float32Array:
        """Takes the next chunk (n,), returns the output samples (m,) that are complete with it; both float32."""
        if self._up == self._down:
            self._taken += len(chunk)
            self._given += len(chunk)
            return np.asarray(chunk, dtype=np.float32)
        self._taken += len(chunk)
        ready = max(0, self._taken - self.lookahead)  # positions below it have their whole filter
        return self._produce(chunk, -(-ready * self._up // self._down))

    def flush(self) -> Float32Array:
        """The output still owed, as if silence followed; then resets. In all, ceil(n * target / source) samples."""
        if self._up == self._down:
            self.reset()
            return np.zeros(0, dtype=np.float32)
        silence = np.zeros(self.lookahead, dtype=np.float32)
        result = self._produce(silence, -(-self._taken * self._up // self._down))
        self.reset()
        return result

    def _produce(self, chunk: Float32Array, until: int) -> Float32Array:
        """Output samples up to index `until`, once `chunk` is appended to the tail."""
        data = np.concatenate([self._tail, chunk])
        taps = 2 * self.lookahead
        # data[i] is input sample origin + i; output m needs the inputs from position - lookahead + 1 on.
        origin = self._given * self._down // self._up - self.lookahead + 1
        result = np.empty(max(0, until - self._given), dtype=np.float32)
        block = max(1, _BLOCK // taps)
        for start in range(0, len(result), block):
            stop = min(start + block, len(result))
            index = np.arange(self._given + start, self._given + stop, dtype=np.int64) * self._down
            windows = np.lib.stride_tricks.sliding_window_view(data, taps)
            inputs = windows[index // self._up - self.lookahead + 1 - origin]
            # Row by row in float64, so that the same row gives the same sample in whatever block it comes.
            result[start:stop] = (inputs * self._filters_at(index % self._up)).sum(axis=1)
        self._given += len(result)
        drop = self._given * self._down // self._up - self.lookahead + 1 - origin
        self._tail = data[drop:].copy()
        return result

    def _filters_at(self, position: npt.NDArray[np.int64]) -> Float64Array:
        """(n, 2 * lookahead) filters for positions (n,) between two input samples, in `_up` parts of their distance."""
        if self._rows == self._up:
            return self._filters[position]
        row, rest = np.divmod(position * self._rows, self._up)
        share = (rest / self._up)[:, np.newaxis]
        return (1 - share) * self._filters[row] + share * self._filters[row + 1]


@lru_cache(_KEPT)
def _design(rows: int, narrow: float) -> Float64Array:
    """(rows + 1, 2 * lookahead) filters with unit gain at zero frequency, read-only.

    Row i is for i / rows of the way from one input sample to the next; the last belongs to the next one.

    :param narrow: lower rate over source rate.
    """
    half = _ZEROS / narrow  # [input samples] half-length of the filter
    # The stopband starts at the lower Nyquist frequency; half a transition band below it lies the cutoff.
    transition = (_STOPBAND_DB - 8.0) / (2 * 2.285 * np.pi * 2 * half)  # [cycles per input sample]
    cutoff = 0.5 * narrow - transition / 2
    fraction = np.arange(rows + 1)[:, np.newaxis] / rows
    distance = np.arange(-ceil(half) + 1, ceil(half) + 1) - fraction  # [input samples] from the output's position
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) / np.i0(_BETA)
    window[np.abs(distance) > half] = 0
    table: Float64Array = 2 * cutoff * np.sinc(2 * cutoff * distance) * window
    table /= table.sum(axis=1, keepdims=True)
    table.flags.writeable = False
    return table
