# SPDX-License-Identifier: Apache-2.0
"""Sound in an HDF5 file, a data set per video: what ekazakos/auditory-slow-fast writes, 24 kHz mono, or stereo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError, MediaError
from karmma_training.datasets.lengths import Length

__all__ = ["HDF5_RATE", "hdf5_length", "read_hdf5"]

HDF5_RATE = 24_000  # Hz, which the file does not say


def hdf5_length(path: Path, video: str) -> Length | None:
    """How long a video's sound is, without reading it; None where it has none.

    :raises KarmmaError, MediaError: see `read_hdf5`.
    """
    with _samples(path, video) as samples:
        if samples is None:
            return None
        length_s = len(samples) / HDF5_RATE
    return Length(length_s, length_s)


def read_hdf5(path: Path, video: str) -> npt.NDArray[np.float32] | None:
    """The sound of one video, (n,) at HDF5_RATE, the mean of its channels; None where it has none.

    :raises KarmmaError: h5py is missing; MediaError: unreadable, or no sound.
    """
    with _samples(path, video) as samples:
        if samples is None:
            return None
        values = np.asarray(samples[()])
    scale = 1.0 if values.dtype.kind == "f" else 1.0 / (np.iinfo(values.dtype).max + 1)
    sound = values.astype(np.float32) * np.float32(scale)
    return sound if sound.ndim == 1 else sound.mean(1, dtype=np.float32)


@contextmanager
def _samples(path: Path, video: str) -> Iterator[Any]:
    """The data set (n,) or (n, channels) of a video in the open file; None without any."""
    try:
        import h5py
    except ImportError as error:
        raise KarmmaError(f"{path} needs h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            if video not in file:
                yield None
                return
            found = file[video]
            is_data_set = isinstance(found, h5py.Dataset)
            if not (is_data_set and _is_sound(found.shape or (), found.dtype.kind)):
                what = f"{found.dtype} {found.shape}" if is_data_set else f"a {type(found).__name__.lower()}"
                raise MediaError(f"{path}: {video} is {what}, expected a data set of samples (n,) or (n, channels)")
            yield found
    except (OSError, KeyError) as error:
        raise MediaError(f"cannot read {video} of {path}: {error}") from error


def _is_sound(shape: tuple[int, ...], kind: str) -> bool:
    """Samples come first, as in a WAV: what has more channels than samples is something else."""
    fits = len(shape) == 1 or (len(shape) == 2 and 0 < shape[1] < shape[0])
    return fits and shape[0] > 0 and kind in "fi"
