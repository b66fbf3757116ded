# SPDX-License-Identifier: Apache-2.0
"""Object detections of Something-Something v2, from the JSON files that the field passes on.

Two shapes are known. Something-Else (Materzynska et al., CVPR 2020): {video: [{"labels": [{"box2d": {"x1", "y1", "x2",
"y2"}, "category"}, ...]}, ...]}, one entry per frame, in as many files as it comes in. STLT (Radevski et al., BMVC
2021) and what followed it: [{"id", "size": [w, h], "frames": [{"frame_objects": [{"x1", ..., "score", "category"},
...]}, ...]}, ...], the list of a frame also without "frame_objects" around it, sizes also in a videoid2size.json.
Boxes are pixels of the video; a category with "hand" in its name is a hand, everything else an object.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import UsageError
from karmma_ros.files import whole_file

__all__ = ["CATEGORIES", "Frames", "detected_videos", "find_detections", "read_detections"]

Boxes = npt.NDArray[np.float32]
Frames = tuple[list[Boxes], tuple[int, int] | None]  # boxes (n, 6) of every frame, in pixels; (w, h), or None

CATEGORIES = ("hand", "object")
PATTERNS = ("detections/*.json", "bounding_box_smthsmth_part*.json", "something_something_detections/*_dataset.json")
SIZES = "videoid2size.json"
LARGEST = 100_000  # pixels of a side


def find_detections(root: Path) -> list[Path]:
    """The files of detections below a data set's root."""
    return sorted({path for pattern in PATTERNS for path in root.glob(pattern) if path.name != SIZES})


def read_detections(paths: Sequence[Path], videos: Sequence[str], store: Path) -> dict[str, Frames]:
    """The detections of some videos; parsed once, and kept in one file of the sample store.

    :param store: folder of the data set there.
    :raises UsageError: a file that is none of these.
    """
    facts = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
    key = hashlib.sha256(json.dumps([facts, sorted(videos), 1]).encode()).hexdigest()[:16]
    kept = store / f"detections-{key}.npz"
    if not kept.is_file():
        wanted = set(videos)
        found: dict[str, Frames] = {}
        for path in paths:
            found |= {video: frames for video, frames in _read(path) if video in wanted}
        _save(kept, found)
    return _load(kept)


def detected_videos(paths: Sequence[Path]) -> set[str]:
    """The videos that files of detections are about.

    :raises UsageError: a file that is none of these.
    """
    return {video for path in paths for video, _ in _read(path)}


def _read(path: Path) -> Iterator[tuple[str, Frames]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        sizes = json.loads(side.read_text(encoding="utf-8")) if (side := path.with_name(SIZES)).is_file() else {}
        entries = tree.items() if isinstance(tree, dict) else ((e["id"], e["frames"]) for e in tree)
        own = {} if isinstance(tree, dict) else {str(e["id"]): e["size"] for e in tree if "size" in e}
        for video, frames in entries:
            size = own.get(str(video)) or sizes.get(str(video))
            boxes = [_boxes(_objects(frame)) for frame in frames]
            yield str(video), (boxes, None if size is None else _size(size))
    except (OSError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: no detections of a known kind ({type(error).__name__}: {error})") from error


def _size(value: Any) -> tuple[int, int]:
    width, height = int(value[0]), int(value[1])
    if not (0 < width < LARGEST and 0 < height < LARGEST):
        raise ValueError(f"a video of {width}x{height}")
    return width, height


def _objects(frame: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(frame, Mapping):
        return list(frame["labels"] if "labels" in frame else frame["frame_objects"])
    return list(frame)


def _boxes(objects: Sequence[Mapping[str, Any]]) -> Boxes:
    rows = []
    for entry in objects:
        box = entry.get("box2d", entry)
        left, right = sorted((float(box["x1"]), float(box["x2"])))
        top, bottom = sorted((float(box["y1"]), float(box["y2"])))
        kind = CATEGORIES.index("hand" if "hand" in str(entry["category"]).lower() else "object")
        rows.append((left, top, right, bottom, float(entry.get("score", 1.0)), kind))
    boxes = np.asarray(rows, np.float32).reshape(len(rows), 6)
    if not np.isfinite(boxes).all():
        raise ValueError("a box is not finite")
    return boxes


def _save(path: Path, found: Mapping[str, Frames]) -> None:
    frames = [boxes for many, _ in found.values() for boxes in many]
    arrays: dict[str, Any] = {
        "videos": np.asarray(list(found), np.str_),
        "frames": np.asarray([len(many) for many, _ in found.values()], np.int64),
        "sizes": np.asarray([size or (0, 0) for _, size in found.values()], np.int64).reshape(-1, 2),
        "counts": np.asarray([len(boxes) for boxes in frames], np.int64),
        "boxes": np.concatenate([np.zeros((0, 6), np.float32), *frames]),
    }
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)


def _load(path: Path) -> dict[str, Frames]:
    try:
        with np.load(path, allow_pickle=False) as file:
            videos, sizes = file["videos"].tolist(), file["sizes"].tolist()
            per_frame = np.split(file["boxes"], np.cumsum(file["counts"])[:-1]) if len(file["counts"]) else []
            ends = np.cumsum(file["frames"]).tolist()
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"sample store damaged at {path}: delete that file ({error})") from error
    starts = [0, *ends][:-1]
    return {
        video: (per_frame[start:end], (size[0], size[1]) if size[0] else None)
        for video, start, end, size in zip(videos, starts, ends, sizes, strict=True)
    }
