# SPDX-License-Identifier: Apache-2.0
"""The sound of a file as the sample store keeps it: mono, at one rate, without gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from karmma_ros.audio import JOIN_S
from karmma_ros.media import read_audio
from karmma_ros.resample import Resampler
from karmma_ros.samples import to_mono
from karmma_ros.window import to_ns

__all__ = ["read_sound"]

_JOIN_NS = to_ns(JOIN_S)  # chunks this close to their expected time follow seamlessly, as on the robot


def read_sound(path: Path, rate: int) -> tuple[npt.NDArray[np.float32], int] | None:
    """Mono sound at `rate` Hz (n,), gaps filled with silence, and the stamp of its first sample [ns]; None without any.

    :raises MediaError: unreadable.
    """
    reader = read_audio(path)
    if reader is None:
        return None
    with reader:
        resampler = Resampler(reader.rate, rate)
        parts: list[npt.NDArray[np.float32]] = []
        start_ns = held = 0  # stamp of the first sample, samples so far
        for chunk in reader:
            samples = to_mono(chunk.samples)
            if not held:
                start_ns = chunk.stamp_ns
            late_ns = chunk.stamp_ns - start_ns - round(held * 1e9 / reader.rate)
            if late_ns > _JOIN_NS:
                samples = np.concatenate([np.zeros(round(late_ns * reader.rate / 1e9), np.float32), samples])
            elif late_ns < -_JOIN_NS:
                samples = samples[round(-late_ns * reader.rate / 1e9) :]
            parts.append(resampler.process(samples))
            held += len(samples)
    return (np.concatenate([*parts, resampler.flush()]), start_ns) if held else None
