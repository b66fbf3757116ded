# SPDX-License-Identifier: Apache-2.0
"""Tokens of frozen extractors, kept on disk: what a teacher's extractors make of a recording never changes.

Beside the sample store there is one folder per set of weights, `features-<digest>/<recording>/<modality>.npy`
(n, N, D) float16, memory-mapped. The digest covers the weights, the code of the extractors and the slot layout; the
recording's own folder name covers how its samples were prepared. Sound is encoded at every phase of the audio grid
that training draws from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_folder
from karmma_ros.window import SlotSpec
from karmma_training.data.damage import readable_samples
from karmma_training.data.grid import audio_stamps, phases_ns
from karmma_training.data.open_files import map_array
from karmma_training.data.recording import Context, Recording
from karmma_training.progress import progress_bar

__all__ = ["Encode", "FeatureCache", "encode_samples", "make_features"]

Ints = npt.NDArray[np.int64]
Encode = Callable[[str, npt.NDArray[Any]], npt.NDArray[np.float32]]  # (modality, graph input) -> tokens (n, N, D)

BATCH = 128  # pictures, fields or chunks of sound that an extractor run sees


class FeatureCache:
    """The cached tokens of some recordings.

    :param root: the folder that `make_features` filled.
    """

    def __init__(
        self, root: Path, recordings: Sequence[Recording], specs: Mapping[str, SlotSpec], seen: Mapping[str, Context]
    ):
        self._arrays = [_open(_folder(root, r), r, specs) for r in recordings]
        self._sound = [
            _sound_stamps(r, specs["audio"], seen["audio"]) if "audio" in specs else None for r in recordings
        ]

    def tokens(self, number: int, modality: str, which: Ints) -> npt.NDArray[np.float16]:
        """Tokens of some samples of recording `number`.

        :param which: (n,) index of each sample; of sound: the stamp of each chunk.
        :return: (n, N, D)
        """
        index = which
        if modality == "audio":
            stamps = self._sound[number]
            assert stamps is not None
            index = np.searchsorted(stamps, which)
            if not (stamps[np.minimum(index, len(stamps) - 1)] == which).all():
                raise ValueError("a chunk of sound off the cached phases of the grid")
        return np.asarray(self._arrays[number][modality][index])


def make_features(
    root: Path,
    recordings: Sequence[Recording],
    encode: Encode,
    specs: Mapping[str, SlotSpec],
    seen: Mapping[str, Context],
    console: Console,
) -> None:
    """Encode every recording that `root` lacks; an interrupted call goes on where it stopped.

    :raises KarmmaError: of a recording's modality, nothing can be read.
    """
    # recordings of the same samples (actions that overlap) share a folder
    missing = list({r.key: r for r in recordings if not _folder(root, r).is_dir()}.values())
    if not missing:
        return
    with progress_bar(console) as bar:
        task = bar.add_task("encoding with the frozen extractors", total=len(missing), note="")
        for recording in missing:
            with whole_folder(_folder(root, recording), shared=True) as folder:
                for m, spec in specs.items():
                    if m not in recording.modalities:
                        continue
                    count = len(recording.stamps[m]) if m != "audio" else 0
                    which = _sound_stamps(recording, spec, seen[m]) if m == "audio" else np.arange(count)
                    tokens, readable = encode_samples(encode, recording, m, which, spec, seen[m])
                    if len(which) and not readable.any():
                        raise KarmmaError(
                            f"nothing of {m} in {recording.name} can be read: leave it out of the data set"
                        )
                    np.save(folder / f"{m}.npy", _stand_ins(tokens, readable).astype(np.float16))
            bar.advance(task)


def encode_samples(
    encode: Encode, recording: Recording, modality: str, which: Ints, spec: SlotSpec, context: Context
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Tokens of some samples of a recording, a few at a time.

    :param which: see `Recording.samples`; spec: of the tokens; context: what a run sees.
    :return: (k, N, D) of those that can be read; (n,) which they are.
    """
    size = BATCH if modality == "audio" else max(1, BATCH // context.count)
    tokens = [np.zeros((0, spec.tokens, spec.dim), np.float32)]
    readable = [np.zeros(0, np.bool_)]
    for low in range(0, len(which), size):
        samples, found = readable_samples(recording, modality, which[low : low + size], context)
        readable.append(found)
        if samples is not None:
            tokens.append(encode(modality, samples))
    return np.concatenate(tokens), np.concatenate(readable)


def _stand_ins(tokens: npt.NDArray[np.float32], readable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """For every sample its tokens, or those of the one before it (or after it) that can be read.

    :param tokens: (k, N, D) of the readable.  -> (n, N, D)
    """
    return tokens[np.maximum(np.cumsum(readable) - 1, 0)]


def _folder(root: Path, recording: Recording) -> Path:
    return root / recording.key


def _open(folder: Path, recording: Recording, specs: Mapping[str, SlotSpec]) -> dict[str, npt.NDArray[np.float16]]:
    try:
        return {m: map_array(folder / f"{m}.npy") for m in specs if m in recording.modalities}
    except (OSError, ValueError) as error:
        raise KarmmaError(f"feature cache damaged at {folder}: delete that folder ({error})") from error


def _sound_stamps(recording: Recording, spec: SlotSpec, context: Context) -> Ints:
    """Stamps of all chunks of sound that training may draw, ascending.  -> (n,)"""
    stamps = [audio_stamps(recording, spec, context, phase_ns=int(phase)) for phase in phases_ns(spec)]
    return np.unique(np.concatenate(stamps))
