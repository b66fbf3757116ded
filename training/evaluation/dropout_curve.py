# SPDX-License-Identifier: Apache-2.0
"""The paper's curve: accuracy when every modality fails with probability p, at least one of those recorded staying.

A window in which some modalities failed is the window of a modality subset, and every subset has been answered: the
curve is drawn from those answers, with a draw of its own for every window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_training.data.dropout import ModalityDropout
from karmma_training.data.recording import Recording

__all__ = ["LEVELS", "by_key", "dropout_curve"]

LEVELS = tuple(round(0.1 * i, 1) for i in range(10))
DRAWS = 200

Bools = npt.NDArray[np.bool_]


def by_key(recordings: Sequence[Recording]) -> npt.NDArray[np.int64]:
    """A number for each, the same for those of the same samples: overlapping actions make several of one video."""
    keys = {key: number for number, key in enumerate(dict.fromkeys(recording.key for recording in recordings))}
    return np.array([keys[recording.key] for recording in recordings], np.int64)


def dropout_curve(
    right: Mapping[str, Bools],
    recorded: Bools,
    recordings: npt.NDArray[np.int64],
    modalities: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Accuracy against p.

    :param right: {"video+flow": (n,)} whether each window was named rightly, per modality subset.
    :param recorded: (n, M) which modalities each window has at all; recordings: (n,) where it is from.
    :return: p; mean over draws; low, high: 95 % band over draws of failures and of recordings (bootstrap); area: mean
        over p.
    """
    table = np.zeros((2 ** len(modalities), len(recorded)), bool)  # subset as a binary number -> right
    for name, values in right.items():
        table[sum(2 ** list(modalities).index(m) for m in name.split("+"))] = values
    digits = 2 ** np.arange(len(modalities))
    rng = np.random.default_rng(seed)
    number = int(recordings.max()) + 1
    columns = np.arange(len(recorded))
    sizes = np.bincount(recordings, minlength=number)
    means, lows, highs = [], [], []
    for p in LEVELS:
        plain, resampled = [], []
        for _ in range(DRAWS):
            hits = table[ModalityDropout(p).draw(recorded, rng) @ digits, columns]
            plain.append(hits.mean())
            times = rng.multinomial(number, np.full(number, 1 / number))
            resampled.append(float(np.bincount(recordings, hits, number) @ times) / max(1, int(sizes @ times)))
        means.append(float(np.mean(plain)))
        low, high = np.percentile(resampled, [2.5, 97.5])
        lows.append(float(low))
        highs.append(float(high))
    return {"p": list(LEVELS), "mean": means, "low": lows, "high": highs, "area": float(np.mean(means))}
