# SPDX-License-Identifier: Apache-2.0
"""The time-slotted token window: which token stands for which moment, online, in replay and in training alike.

There is no synchroniser: every modality fills its own slots, and an empty slot is a missing token. Slot k of a modality
covers the time around its centre, `t - delay - k * spacing`, half a spacing either side; a sample belongs to it when

    centre - spacing / 2 < stamp <= centre + spacing / 2

so the newer edge is closed, the older one open, and neighbouring slots share no stamp and leave none out. Of several
samples in a slot the nearest to the centre is taken; of two equally near, the newer; of several with the same stamp,
the last in order. A sample newer than t is never used, although slot 0 reaches past t when the delay is less than half
a spacing: at time t the robot cannot have it, so training must not see it either.

Everything is integer nanoseconds: seconds are converted once (rounded), so no result depends on floating-point luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["SlotSpec", "TokenWindow", "WindowView", "assign_slots", "to_ns"]

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def to_ns(seconds: float) -> int:
    """Seconds to integer nanoseconds, rounded to the nearest."""
    return round(seconds * 1e9)


@dataclass(frozen=True)
class SlotSpec:
    """Where one modality's slots lie in time and what a slot holds."""

    slots: int  # number of slots in the window
    spacing_s: float  # [s] between the centres of neighbouring slots
    delay_s: float  # [s] from t back to the centre of slot 0
    tokens: int  # tokens per slot (N)
    dim: int  # length of a token (D)

    def __post_init__(self) -> None:
        if self.slots < 1 or self.tokens < 1 or self.dim < 1:
            raise ValueError("slots, tokens and dim must be at least 1")
        if to_ns(self.spacing_s) < 1 or self.delay_s < 0:
            raise ValueError("spacing_s must be positive and delay_s at least 0")

    @cached_property
    def spacing_ns(self) -> int:
        """Spacing in nanoseconds, rounded."""
        return to_ns(self.spacing_s)

    @cached_property
    def delay_ns(self) -> int:
        """Delay in nanoseconds, rounded."""
        return to_ns(self.delay_s)

    @cached_property
    def offsets_ns(self) -> Int64Array:
        """(slots,) from t back to each slot's centre."""
        offsets = self.delay_ns + np.arange(self.slots, dtype=np.int64) * self.spacing_ns
        offsets.flags.writeable = False
        return offsets


def assign_slots(stamps_ns: Int64Array, t_ns: int | Int64Array, spec: SlotSpec) -> Int64Array:
    """Index of the sample in each slot, -1 where there is none; slot 0 is the newest.

    :param stamps_ns: (n,) int64, ascending (equal stamps allowed: the last one counts); whole recordings are fine.
    :param t_ns: the time the window is read for, or an int64 array (...,) of such times.
    :return: int64 (..., slots), indices into `stamps_ns`.
    """
    times = np.asarray(t_ns, dtype=np.int64)[..., np.newaxis]
    centres = times - spec.offsets_ns  # (..., slots)
    count = len(stamps_ns)
    if count == 0:
        return np.full(centres.shape, -1, dtype=np.int64)
    spacing = spec.spacing_ns

    split = np.searchsorted(stamps_ns, centres, side="right")  # samples before it are at the centre or older
    older = split - 1
    older_stamp = stamps_ns[np.maximum(older, 0)]
    older_distance = centres - older_stamp
    older_fits = (older >= 0) & (2 * older_distance < spacing)

    newer_stamp = stamps_ns[np.minimum(split, count - 1)]
    newer_distance = newer_stamp - centres
    newer_fits = (split < count) & (2 * newer_distance <= spacing) & (newer_stamp <= times)
    newer = np.searchsorted(stamps_ns, newer_stamp, side="right") - 1  # the last of equal stamps

    # Where both fit, both distances are real, so the clipped ends of the recording cannot fool the comparison.
    take_newer = newer_fits & (~older_fits | (newer_distance <= older_distance))
    return np.where(take_newer, newer, np.where(older_fits, older, -1)).astype(np.int64, copy=False)


@dataclass(frozen=True)
class WindowView:
    """What the window holds for one moment; absent tokens are zeros. Token position = slot * N + n."""

    tokens: dict[str, Float32Array]  # modality -> (slots * N, D)
    present: dict[str, BoolArray]  # modality -> (slots * N,)
    coverages: dict[str, float]  # modality -> present slots / slots
    coverage: float  # present slots / slots, over all modalities

    @property
    def empty(self) -> bool:
        """True when no slot of any modality is present."""
        return self.coverage == 0.0


class TokenWindow:
    """The recent tokens of every modality, in preallocated memory.

    Tokens are kept per modality in order of their stamps, whatever order they arrive in. The oldest are dropped when
    they lie further before the newest of their modality than the window reaches plus `slack_s` (so that a late
    prediction, or a modality that runs ahead of the camera, still finds its window), and when there are more than
    `oversampling` to a slot (8: a camera at 240 Hz over slots at 30 Hz).

    Not thread-safe; the recogniser guards it.
    """

    def __init__(self, specs: Mapping[str, SlotSpec], *, slack_s: float = 1.0, oversampling: int = 8) -> None:
        self._series = {name: _Series(spec, to_ns(slack_s), oversampling) for name, spec in specs.items()}
        self.specs = dict(specs)

    def push(self, modality: str, stamp_ns: int, tokens: Float32Array) -> bool:
        """Stores one sample's tokens (N, D); a token with the same stamp is replaced.

        :return: False when the stamp is too old to matter and nothing was stored.
        :raises KeyError: unknown modality.
        :raises ValueError: wrong shape.
        """
        return self._series[modality].push(stamp_ns, tokens)

    def evict(self, modality: str, since_ns: int) -> int:
        """Erases the tokens with stamp >= `since_ns`; returns how many there were."""
        return self._series[modality].evict(since_ns)

    def clear(self, modality: str | None = None) -> None:
        """Forgets one modality, or all, and overwrites the memory with zeros."""
        for series in self._series.values() if modality is None else (self._series[modality],):
            series.clear()

    def stamps(self, modality: str) -> Int64Array:
        """(n,) stamps held for a modality, ascending; a copy."""
        return self._series[modality].stamps.copy()

    def read(self, t_ns: int) -> WindowView:
        """The window at `t_ns`, in arrays of its own."""
        tokens: dict[str, Float32Array] = {}
        present: dict[str, BoolArray] = {}
        coverages: dict[str, float] = {}
        filled = total = 0
        for name, series in self._series.items():
            tokens[name], present[name], count = series.read(t_ns)
            coverages[name] = count / series.spec.slots
            filled += count
            total += series.spec.slots
        return WindowView(tokens, present, coverages, filled / total if total else 0.0)


class _Series:
    """One modality's tokens: the live ones are rows [first, last) of buffers with room to append without moving."""

    def __init__(self, spec: SlotSpec, slack_ns: int, oversampling: int) -> None:
        self.spec = spec
        self._keep_ns = spec.delay_ns + spec.slots * spec.spacing_ns + slack_ns
        self._most = oversampling * -(-self._keep_ns // spec.spacing_ns)  # tokens kept at most
        rows = 2 * self._most
        self._stamps = np.zeros(rows, dtype=np.int64)
        self._tokens = np.zeros((rows, spec.tokens, spec.dim), dtype=np.float32)
        self._first = self._last = 0

    @property
    def stamps(self) -> Int64Array:
        return self._stamps[self._first : self._last]

    def push(self, stamp_ns: int, tokens: Float32Array) -> bool:
        shape = (self.spec.tokens, self.spec.dim)
        if tokens.shape != shape:
            raise ValueError(f"tokens have shape {tokens.shape}, expected {shape}")
        stamps = self.stamps
        if len(stamps) and stamp_ns <= stamps[-1]:
            return self._insert(stamp_ns, tokens)
        if self._last == len(self._stamps):
            self._compact()
        self._stamps[self._last] = stamp_ns
        self._tokens[self._last] = tokens
        self._last += 1
        self._prune()
        return True

    def _insert(self, stamp_ns: int, tokens: Float32Array) -> bool:
        """Stores a token that is not the newest, in its place."""
        if stamp_ns <= self._stamps[self._last - 1] - self._keep_ns:
            return False
        row = self._first + int(np.searchsorted(self.stamps, stamp_ns))
        if self._stamps[row] != stamp_ns:
            if self._last == len(self._stamps):
                row -= self._compact()
            # NumPy buffers overlapping slices, so the shift is safe.
            self._stamps[row + 1 : self._last + 1] = self._stamps[row : self._last]
            self._tokens[row + 1 : self._last + 1] = self._tokens[row : self._last]
            self._last += 1
            self._stamps[row] = stamp_ns
        self._tokens[row] = tokens
        self._prune()
        return True

    def _prune(self) -> None:
        limit = self._stamps[self._last - 1] - self._keep_ns
        old = int(np.searchsorted(self.stamps, limit, side="right"))
        self._first = max(self._first + old, self._last - self._most)

    def _compact(self) -> int:
        """Moves the live rows to the front; returns by how many rows. At most half the rows are live, so it is rare."""
        moved = self._first
        count = self._last - self._first
        self._stamps[:count] = self._stamps[self._first : self._last]
        self._tokens[:count] = self._tokens[self._first : self._last]
        self._first, self._last = 0, count
        return moved

    def evict(self, since_ns: int) -> int:
        row = self._first + int(np.searchsorted(self.stamps, since_ns))
        count = self._last - row
        self._stamps[row : self._last] = 0
        self._tokens[row : self._last] = 0.0
        self._last = row
        return count

    def clear(self) -> None:
        self._stamps.fill(0)
        self._tokens.fill(0.0)
        self._first = self._last = 0

    def read(self, t_ns: int) -> tuple[Float32Array, BoolArray, int]:
        spec = self.spec
        rows = assign_slots(self.stamps, t_ns, spec)
        filled = rows >= 0
        tokens = np.zeros((spec.slots, spec.tokens, spec.dim), dtype=np.float32)
        tokens[filled] = self._tokens[self._first + rows[filled]]
        present = np.repeat(filled, spec.tokens)
        return tokens.reshape(spec.slots * spec.tokens, spec.dim), present, int(np.count_nonzero(filled))
