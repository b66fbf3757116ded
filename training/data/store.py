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
from karmma_ros import samples as samples_module
from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_folder
from karmma_ros.flow import FlowProducer
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_training.config import Config
from karmma_training.data.labels import Labels

__all__ = [
    "Context",
    "Interval",
    "LabelledTime",
    "Recording",
    "StoreFormat",
    "default_store",
    "source_digest",
    "write_recording",
]

Stamps = npt.NDArray[np.int64]
Interval = tuple[float | str, ...]  # start_s, stop_s, one class name per label head


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

    def key(self, **source: Any) -> str:
        """Name of the store folder: a digest of this format, of `source` and of the code that prepares samples."""
        code = source_digest(Path(samples_module.__file__), Path(flow_module.__file__))
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
    with whole_folder(folder) as temporary:
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


@dataclass(frozen=True)
class Context:
    """What an extractor run sees: so many samples, the newest last; of sound, PCM samples."""

    count: int = 1
    step_ns: int = 0  # from one to the next; of sound 0: they are neighbours


class Recording:
    """One recording of the store, memory-mapped.

    video: (n, h, w, 3) uint8 or None; flow: (n, h, w, 2) float16 or None; audio: (n,) float32 or None.
    stamps: per modality the stamps of the samples; audio has none (see `sound_start_ns` and `rate`).
    starts, stops: (k,) s, labelled intervals in order, disjoint; targets: (k, heads) class indexes.

    :param intervals: instead of those in the folder.
    """

    def __init__(self, folder: Path, labels: Labels, intervals: Sequence[Interval] | None = None) -> None:
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except (OSError, ValueError) as error:
            raise KarmmaError(f"sample store damaged at {folder}: delete that folder ({error})") from error
        self.name: str = meta["name"]
        self.rate: int = meta["rate"]
        self.sound_start_ns: int = meta["sound_start_ns"]
        self.arrays: dict[str, npt.NDArray[Any]] = {
            m: np.load(path, mmap_mode="r")
            for m in ("video", "flow", "audio")
            if (path := folder / f"{m}.npy").exists()
        }
        self.stamps: dict[str, Stamps] = {
            m: np.load(folder / f"{m}_ns.npy") for m in ("video", "flow") if m in self.arrays
        }
        rows = sorted(meta["intervals"] if intervals is None else intervals)
        self.starts = np.asarray([r[0] for r in rows], np.float64)
        self.stops = np.asarray([r[1] for r in rows], np.float64)
        names = list(labels.heads.values())
        self.targets = np.asarray([[names[h].index(n) for h, n in enumerate(r[2:])] for r in rows], np.int64).reshape(
            len(rows), len(names)
        )

    @property
    def labelled_s(self) -> float:
        """Seconds of labelled time."""
        return float((self.stops - self.starts).sum())

    @property
    def sound_stop_ns(self) -> int:
        """End of the last PCM sample."""
        n = len(self.arrays["audio"]) if "audio" in self.arrays else 0
        return self.sound_start_ns + round(n * 1e9 / self.rate)

    def time_at(self, share: float) -> float:
        """The time, in seconds, below which `share` of the labelled time lies."""
        spans = np.cumsum(self.stops - self.starts)
        at = share * spans[-1]
        k = min(int(np.searchsorted(spans, at, side="right")), len(spans) - 1)
        start, stop = self.starts[k], self.stops[k]
        # a microsecond inside, so that rounding to nanoseconds cannot leave the interval
        return float(np.clip(stop - (spans[k] - at), start + 1e-6, stop - 1e-6))

    def interval_at(self, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Index of the interval that holds each time (half-open); -1 where nothing is labelled.  -> (n,)"""
        k = np.searchsorted(self.starts, times_s, side="right") - 1
        inside = (k >= 0) & (times_s < self.stops[np.maximum(k, 0)])
        return np.where(inside, k, -1).astype(np.int64)

    def settled(self, times_s: npt.NDArray[np.float64], margin_s: float = 0.5) -> npt.NDArray[np.bool_]:
        """Whether the label is the same `margin_s` before and after; unlabelled time does not count as a change."""
        same = np.ones(len(times_s), bool)
        now = self.targets[self.interval_at(times_s)]
        for shift in (-margin_s, margin_s):
            k = self.interval_at(times_s + shift)
            same &= (k < 0) | (self.targets[k] == now).all(1)
        return same

    def sound(self, end_ns: int, n: int) -> npt.NDArray[np.float32]:
        """The n PCM samples that end at `end_ns`; the caller keeps within the recording.  -> (n,)"""
        last = round((end_ns - self.sound_start_ns) * self.rate / 1e9)
        return np.asarray(self.arrays["audio"][last - n : last])

    def samples(self, modality: str, which: npt.NDArray[np.int64], context: Context) -> npt.NDArray[Any]:
        """Samples in the shape of the extractor's graph input, copied.

        :param which: (n,) indexes; of sound the stamps at which chunks end.
        """
        if modality == "audio":
            return np.stack([self.sound(int(stamp), context.count) for stamp in which])
        clips = self.clips(modality, which, context)
        return np.array(self.arrays[modality][clips], np.uint8 if modality == "video" else np.float32)

    def clips(self, modality: str, which: npt.NDArray[np.int64], context: Context) -> npt.NDArray[np.int64]:
        """Indexes of the samples in the context of each: the nearest to `step_ns` apart, none newer than the last.

        The first sample of the recording stands for what lies before it.

        :param which: (n,) indexes of the newest.
        :return: (n, context.count)
        """
        if context.count == 1:
            return which[:, None]
        stamps = self.stamps[modality]
        back = context.step_ns * np.arange(context.count - 1, -1, -1)
        wanted = stamps[which][:, None] - back
        after = np.minimum(np.searchsorted(stamps, wanted), which[:, None])
        before = np.maximum(after - 1, 0)
        nearer = wanted - stamps[before] < stamps[after] - wanted
        clips = np.where(nearer, before, after).astype(np.int64)
        clips[:, -1] = which  # of several with one stamp, the one asked for
        return clips


class LabelledTime:
    """The labelled time of some recordings, to draw from uniformly.

    :param recordings: not empty.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._until_s = np.cumsum([r.labelled_s for r in recordings])

    def draw(self, rng: np.random.Generator) -> int:
        """Number of the recording that holds a random moment."""
        at = rng.random() * self._until_s[-1]
        return min(int(np.searchsorted(self._until_s, at, side="right")), len(self._until_s) - 1)
