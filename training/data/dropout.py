# SPDX-License-Identifier: Apache-2.0
"""What training hides: whole modalities (the paper's modality dropout) and runs of tokens inside the window (ours).

Drawn with NumPy before samples are gathered, so that nothing hidden is loaded or encoded, and so that one draw feeds
every network that sees the batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ModalityDropout", "SlotSubset", "TokenRunDropout"]

Bools = npt.NDArray[np.bool_]


class ModalityDropout:
    """Drops each modality whole with probability p; of those recorded, at least one stays.

    :raises ValueError: p outside [0, 1).
    """

    def __init__(self, p: float) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"modality dropout probability must be in [0, 1), not {p}")
        self.p = p

    def draw(self, recorded: Bools, rng: np.random.Generator) -> Bools:
        """Which modalities are kept.

        :param recorded: (B, M) which modalities the windows have at all.
        :return: (B, M), a subset of `recorded`, with at least one per row that has any.
        """
        kept = recorded & (rng.random(recorded.shape) >= self.p)
        lost = ~kept.any(1) & recorded.any(1)
        # where all went, one of the recorded ones stays, each equally likely
        lottery = np.where(recorded, rng.random(recorded.shape), -1.0).argmax(1)
        kept[lost, lottery[lost]] = True
        return kept


class TokenRunDropout:
    """Hides a run of slots, as sensors do: died (the newest slots), started late (the oldest) or an interior loss."""

    def __init__(self, p: float) -> None:
        self.p = p

    def draw(self, slots: int, rng: np.random.Generator) -> Bools:
        """Which slots stay, at least one.  -> (slots,), slot 0 the newest"""
        keep = np.ones(slots, bool)
        if slots > 1 and rng.random() < self.p:
            length = int(rng.integers(1, slots))
            first = (0, slots - length, int(rng.integers(0, slots - length + 1)))[int(rng.integers(3))]
            keep[first : first + length] = False
        return keep


class SlotSubset:
    """Encodes only some of the slots in most windows: token dropout that also saves the extractors' time.

    :param full: share of draws that keep every slot; the others keep a share uniform in [low, high].
    """

    def __init__(self, full: float, low: float, high: float) -> None:
        self.full, self.low, self.high = full, low, high

    def draw(self, present: Bools, rng: np.random.Generator) -> Bools:
        """A random part of the present slots, at least one if there is any.  (slots,) -> (slots,)"""
        if rng.random() < self.full:
            return present
        filled = np.flatnonzero(present)
        count = max(1, round(len(filled) * rng.uniform(self.low, self.high)))
        keep = np.zeros_like(present)
        keep[rng.permutation(filled)[:count]] = True
        return keep
