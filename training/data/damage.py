# SPDX-License-Identifier: Apache-2.0
"""Recordings with damaged stretches: what can be read of them is used, and the rest is told."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import MediaError
from karmma_training.data.recording import Context, Recording

__all__ = ["DamageLog", "readable_samples", "warn_of_damage"]


def warn_of_damage(error: MediaError, consequence: str) -> None:
    """Tell what is done about samples that cannot be read."""
    logging.getLogger("karmma").warning("%s: %s", error, consequence)


class DamageLog:
    """Tells of recordings with damage, once each.

    :param consequence: what is done about it.
    """

    def __init__(self, consequence: str) -> None:
        self._consequence = consequence
        self._told: set[Hashable] = set()

    def tell(self, recording: Hashable, error: MediaError) -> None:
        """:param recording: its name, or its number."""
        if recording not in self._told:
            self._told.add(recording)
            warn_of_damage(error, self._consequence)


def readable_samples(
    recording: Recording, modality: str, which: npt.NDArray[np.int64], context: Context
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[np.bool_]]:
    """See `Recording.samples`, without those that are damaged.

    :return: (k, ...) samples, None where none can be read; (n,) which of the n asked for they are.
    """
    try:
        return recording.samples(modality, which, context), np.ones(len(which), np.bool_)
    except MediaError as error:
        warn_of_damage(error, "left out")
    parts, readable = [], np.zeros(len(which), np.bool_)
    for i in range(len(which)):
        try:
            parts.append(recording.samples(modality, which[i : i + 1], context))
        except MediaError:
            continue
        readable[i] = True
    return (np.concatenate(parts) if parts else None), readable
