# SPDX-License-Identifier: Apache-2.0
"""From logits to probabilities of actions, the same online and in evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

__all__ = ["joint_probabilities", "probabilities"]

FloatArray = npt.NDArray[np.floating]
Float64Array = npt.NDArray[np.float64]


def probabilities(logits: FloatArray, temperature: float = 1.0) -> Float64Array:
    """Softmax of logits / temperature over the last axis, in float64."""
    return np.exp(_log_softmax(logits, temperature))


def joint_probabilities(
    verb_logits: FloatArray,
    noun_logits: FloatArray,
    actions: npt.ArrayLike,
    temperature: Mapping[str, float] | None = None,
) -> Float64Array:
    """p(action) = p(verb) p(noun), renormalised over the valid pairs.

    Computed from logarithms, so that a confident head cannot underflow every valid pair to zero.

    :param verb_logits: (B, V).
    :param noun_logits: (B, N).
    :param actions: (A, 2) integers, the valid (verb, noun) pairs.
    :param temperature: {"verb": T, "noun": T}; 1 where missing.
    :return: float64 (B, A), rows sum to 1.
    """
    temperature = temperature or {}
    pairs = np.asarray(actions, dtype=np.int64).reshape(-1, 2)
    verb = _log_softmax(verb_logits, temperature.get("verb", 1.0))
    noun = _log_softmax(noun_logits, temperature.get("noun", 1.0))
    return np.exp(_log_softmax(verb[..., pairs[:, 0]] + noun[..., pairs[:, 1]], 1.0))


def _log_softmax(logits: FloatArray, temperature: float) -> Float64Array:
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
