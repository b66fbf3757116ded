# SPDX-License-Identifier: Apache-2.0
"""The sample store: recordings on disk as the network takes them, so that decoding and flow are paid for once.

A recording is one folder: `video.npy` (n, h, w, 3) uint8, `flow.npy` (n, h, w, 2) float16 in image widths per second,
`audio.npy` (n,) float32, `video_ns.npy` and `flow_ns.npy` stamps, and `meta.json` with the labelled intervals. A
modality that was not recorded has no file. Samples pass through the same `samples.prepare_*` and `FlowProducer` as on
the robot. Arrays are memory-mapped: a store larger than memory works.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from karmma_ros import flow as flow_module
from karmma_ros import media, resample
from karmma_ros import samples as samples_module
from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_folder
from karmma_ros.flow import FlowProducer
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_training.config import Config
from karmma_training.data.labels import Labels
from karmma_training.data.open_files import map_array
from karmma_training.data.recording import Interval, Recording

__all__ = ["StoreFormat", "StoredRecording", "default_store", "source_digest", "write_recording"]


def default_store() -> Path:
    """Where stores live unless told otherwise: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "karmma" / "samples"


@dataclass(frozen=True)
class StoreFormat:
    """Everything besides the recording itself that determines the stored arrays."""

    video_height: int
    video_width: int
    flow_height: int
    flow_width: int
    producer_preset: str
    producer_width: int
    producer_height: int
    rate: int  # Hz

    @classmethod
    def of(cls, config: Config) -> StoreFormat:
        """The format a run needs."""
        v, f = config.video, config.flow
        return cls(
            video_height=v.height,
            video_width=v.width,
            flow_height=f.height,
            flow_width=f.width,
            producer_preset=f.producer_preset,
            producer_width=f.producer_width,
            producer_height=f.producer_height,
            rate=config.audio.rate,
        )

    def key(self, *, decoded: bool = False, **source: Any) -> str:
        """Name of the store folder: a digest of this format, of `source` and of the code that prepares samples.

        :param decoded: samples come out of files: the code that decodes and resamples counts too.
        """
        files = [samples_module.__file__, flow_module.__file__]
        if decoded:
            files += [media.__file__, resample.__file__, str(Path(__file__).with_name("sound.py"))]
        code = source_digest(*map(Path, files))
        text = json.dumps({"format": asdict(self), "source": source, "code": code, "version": 1}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_digest(*paths: Path) -> str:
    """Digest of source files: what they make is made anew when they change."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Appender:
    """Grows an .npy file along its first axis without holding it in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)
        self.count = 0

    def append(self, items: npt.NDArray[Any]) -> None:
        """Add (n, ...) items."""
        if self._file is None:
            self._file = self._path.open("wb")
            self._shape, self._dtype = items.shape[1:], items.dtype
            self._header()
        self._file.write(np.ascontiguousarray(items).tobytes())
        self.count += len(items)

    def close(self) -> None:
        """Write the final length into the header; NumPy leaves room for the first axis to grow."""
        if self._file is not None:
            self._file.seek(0)
            self._header()
            self._file.close()
            self._file = None

    def _header(self) -> None:
        assert self._file is not None
        description = np.lib.format.dtype_to_descr(self._dtype)
        fields = {"descr": description, "fortran_order": False, "shape": (self.count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, fields)


@contextmanager
def _appender(path: Path) -> Iterator[_Appender]:
    appender = _Appender(path)
    try:
        yield appender
    finally:
        appender.close()


def write_recording(
    folder: Path,
    form: StoreFormat,
    *,
    frames: Iterable[tuple[int, npt.NDArray[Any]]] | None,
    flows: Iterable[tuple[int, npt.NDArray[np.floating[Any]]]] | None,
    sound: Iterable[npt.NDArray[np.float32]] | None,
    sound_start_ns: int = 0,
    meta: dict[str, Any],
) -> None:
    """Write one recording, whole or not at all.

    :param frames: (stamp, RGB image) in order; None when there is no video.
    :param flows: (stamp of the newer frame, flow field); None computes it from the frames. An empty iterable leaves
        the recording without flow.
    :param sound: mono chunks at `form.rate`, without gaps; None when there is none.
    :param meta: `name`, `intervals` [[start_s, stop_s, label, ...]], and whatever helps a reader.
    """
    with whole_folder(folder, shared=True) as temporary:  # runs that start together need the same recordings
        stamps: dict[str, list[int]] = {"video": [], "flow": []}
        producer = FlowProducer((form.producer_width, form.producer_height), form.producer_preset)
        with _appender(temporary / "video.npy") as video, _appender(temporary / "flow.npy") as flow:

            def add_flow(stamp_ns: int, field: npt.NDArray[np.floating[Any]]) -> None:
                prepared = prepare_flow(np.asarray(field, np.float32), (form.flow_height, form.flow_width))
                flow.append(prepared[None].astype(np.float16))
                stamps["flow"].append(stamp_ns)

            for stamp_ns, rgb in frames or ():
                video.append(prepare_image(rgb, (form.video_height, form.video_width))[None])
                stamps["video"].append(stamp_ns)
                if flows is None and (field := producer.push(stamp_ns, rgb)) is not None:
                    add_flow(stamp_ns, field)
            for stamp_ns, given in flows or ():
                add_flow(stamp_ns, given)
        for modality, values in stamps.items():
            if values:
                np.save(temporary / f"{modality}_ns.npy", np.asarray(values, np.int64))
        if sound is not None:
            with _appender(temporary / "audio.npy") as audio:
                for chunk in sound:
                    audio.append(np.asarray(chunk, np.float32))
        meta = {**meta, "rate": form.rate, "sound_start_ns": sound_start_ns}
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1))


class StoredRecording(Recording):
    """One recording of the store, memory-mapped.

    arrays: video (n, h, w, 3) uint8, flow (n, h, w, 2) float16, audio (n,) float32, those that were recorded.

    :param intervals: instead of those in the folder.
    """

    def __init__(self, folder: Path, labels: Labels, intervals: Sequence[Interval] | None = None) -> None:
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except (OSError, ValueError) as error:
            raise KarmmaError(f"sample store damaged at {folder}: delete that folder ({error})") from error
        self.arrays: dict[str, npt.NDArray[Any]] = {
            m: map_array(path) for m in ("video", "flow", "audio") if (path := folder / f"{m}.npy").exists()
        }
        super().__init__(
            meta["name"],
            f"{folder.parent.name}/{folder.name}",
            labels,
            meta["intervals"] if intervals is None else intervals,
            stamps={m: np.load(folder / f"{m}_ns.npy") for m in ("video", "flow") if m in self.arrays},
            sound=(meta["sound_start_ns"], len(self.arrays["audio"])) if "audio" in self.arrays else None,
            rate=meta["rate"],
        )

    def read(self, modality: str, which: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """See Recording."""
        return np.asarray(self.arrays[modality][which])

    def pcm(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """See Recording."""
        return np.asarray(self.arrays["audio"][first:last])
