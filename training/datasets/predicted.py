# SPDX-License-Identifier: Apache-2.0
"""Whether everything has a prediction that a data set's own evaluation asks one for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import UsageError

__all__ = ["check_predicted", "predicted_rows"]


def check_predicted(wanted: Sequence[str], ids: Collection[str], kind: str, suffix: str = "") -> None:
    """Makes sure that nothing is left out.

    :param wanted: all of the split; ids: of those that have, or can have, a prediction.
    :param kind: what they are, for the message; suffix: of a name in it.
    :raises UsageError: some are not among them.
    """
    there = set(ids)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(wanted)} {kind} have no prediction, {missing[0]}{suffix} for one, and the "
            "challenge wants all: `karmma data check` says what is not on disk"
        )


def predicted_rows(ids: Sequence[str], logits: Mapping[str, npt.NDArray[np.floating[Any]]]) -> dict[str, int]:
    """{id: its row} of those with a prediction.

    :param logits: {head: (n, C)} in the order of `ids`, a row of NaN being none.
    """
    return {name: i for i, name in enumerate(ids) if all(np.isfinite(values[i]).all() for values in logits.values())}
