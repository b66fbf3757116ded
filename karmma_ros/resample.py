# SPDX-License-Identifier: Apache-2.0
"""Changes the sample rate of audio that comes in chunks, without a trace of where the chunks were cut.

A windowed-sinc polyphase filter (Kaiser window; see Smith and Gossett, "A flexible sampling-rate conversion method",
ICASSP 1984). Output sample m stands at input position m * source / target, so the first output sample has the stamp of
the first input sample: the filter's delay is removed. It is paid in waiting instead: a filter that is symmetric in time
needs input past that position, so the output lags by `lookahead` input samples (3 ms at 44.1 -> 16 kHz) until more
input or `flush()` comes.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError

__all__ = ["Resampler"]

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_ZEROS = 48  # zero crossings of the sinc to each side
_STOPBAND_DB = 80.0
_BETA = 0.1102 * (_STOPBAND_DB - 8.7)  # Kaiser's formula for the window's shape
_BLOCK = 2048  # output samples at a time: bounds memory, however long the chunk
_MAX_TABLE = 2_000_000  # filter taps over all phases: rates that share no large divisor would need enormously many
_ROWS = 1024  # phases designed at a time: bounds the memory of the way there


class Resampler:
    """Stateful converter from `source_rate` to `target_rate` [Hz]; equal rates pass through."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """:raises SampleError: a rate that is not positive, or a pair with an unreasonably fine ratio."""
        if source_rate <= 0 or target_rate <= 0:
            raise SampleError("sample rate is not positive", f"{source_rate} -> {target_rate} Hz")
        self.source_rate = source_rate
        self.target_rate = target_rate
        divisor = gcd(source_rate, target_rate)
        self._up, self._down = target_rate // divisor, source_rate // divisor
        # The stopband starts at the lower Nyquist frequency; half a transition band below it lies the cutoff.
        narrow = min(1.0, target_rate / source_rate)  # lower rate over source rate
        half = _ZEROS / narrow  # [input samples] half-length of the filter
        transition = (_STOPBAND_DB - 8.0) / (2 * 2.285 * np.pi * 2 * half)  # [cycles per input sample]
        cutoff = 0.5 * narrow - transition / 2
        self.lookahead = 0 if self._up == self._down else int(np.ceil(half))
        if self._up * 2 * self.lookahead > _MAX_TABLE:
            raise SampleError("sample rate cannot be converted", f"{source_rate} -> {target_rate} Hz")
        self._filters = _design(self._up, self.lookahead, half, cutoff)
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
        for start in range(0, len(result), _BLOCK):
            stop = min(start + _BLOCK, len(result))
            index = np.arange(self._given + start, self._given + stop, dtype=np.int64) * self._down
            windows = np.lib.stride_tricks.sliding_window_view(data, taps)
            rows = windows[index // self._up - self.lookahead + 1 - origin]
            # Row by row in float64, so that the same row gives the same sample in whatever block it comes.
            result[start:stop] = (rows * self._filters[index % self._up]).sum(axis=1)
        self._given += len(result)
        drop = self._given * self._down // self._up - self.lookahead + 1 - origin
        self._tail = data[drop:].copy()
        return result


def _design(phases: int, lookahead: int, half: float, cutoff: float) -> Float64Array:
    """(phases, 2 * lookahead) filter for each position between two input samples, with unit gain at zero frequency."""
    if lookahead == 0:
        return np.ones((1, 1))
    table = np.empty((phases, 2 * lookahead))
    for first in range(0, phases, _ROWS):
        rows = table[first : first + _ROWS]
        fraction = np.arange(first, first + len(rows))[:, np.newaxis] / phases
        distance = np.arange(-lookahead + 1, lookahead + 1) - fraction  # [input samples] from the output's position
        window = np.i0(_BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) / np.i0(_BETA)
        window[np.abs(distance) > half] = 0
        np.multiply(2 * cutoff * np.sinc(2 * cutoff * distance), window, out=rows)
        rows /= rows.sum(axis=1, keepdims=True)
    return table
