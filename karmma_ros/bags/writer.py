# SPDX-License-Identifier: Apache-2.0
"""Writes the sensors' messages into an mcap bag, without ROS."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from karmma_ros.bags.reader import default_types
from karmma_ros.bags.topics import COMPRESSED, IMAGE
from karmma_ros.decode_audio import AUDIO

__all__ = ["BagWriter"]

_NS = 1_000_000_000


class BagWriter:
    """A bag in the making; a context manager. The folder appears when the block ends well.

    Messages are given in the order in which a recorder would have received them.

    `types`: of messages, the ones that `default_types` knows.

    :param path: the bag's folder; it must not exist.
    :param storage: "mcap" (compressed) or "sqlite3".
    :raises OSError: it cannot be written, or exists.
    """

    def __init__(self, path: str | Path, *, storage: str = "mcap") -> None:
        self.path = Path(path)
        if self.path.exists():
            raise FileExistsError(f"{path} exists")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.types = default_types()  # more can be registered, for `message`
        # The folder's name is the files' name too, so it has to be right from the start.
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._writer = Writer(self._folder / self.path.name, version=9, storage_plugin=StoragePlugin[storage.upper()])
        if storage == "mcap":
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}

    def image(self, topic: str, stamp_ns: int, rgb: npt.NDArray[np.uint8], *, log_ns: int) -> None:
        """An rgb8 image; (H, W, 3) uint8."""
        fields = {"encoding": "rgb8", "is_bigendian": 0, "step": 3 * rgb.shape[1], "data": rgb.ravel()}
        self._write(topic, IMAGE, stamp_ns, log_ns, "camera", height=rgb.shape[0], width=rgb.shape[1], **fields)

    def jpeg(self, topic: str, stamp_ns: int, rgb: npt.NDArray[np.uint8], *, log_ns: int, quality: int = 90) -> None:
        """An image as image_transport compresses it; (H, W, 3) uint8. `quality`: 1 to 100."""
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel()
        self._write(topic, COMPRESSED, stamp_ns, log_ns, "camera", format="rgb8; jpeg compressed bgr8", data=data)

    def flow(self, topic: str, stamp_ns: int, field: npt.NDArray[np.float32], *, log_ns: int) -> None:
        """A flow field, given in image widths per second, written in pixels per second; float32 (h, w, 2)."""
        height, width = field.shape[:2]
        pixels = np.ascontiguousarray(field * np.float32(width), np.float32)
        fields = {"encoding": "32FC2", "is_bigendian": 0, "step": 8 * width, "data": pixels.view(np.uint8).ravel()}
        self._write(topic, IMAGE, stamp_ns, log_ns, "camera", height=height, width=width, **fields)

    def audio(self, topic: str, stamp_ns: int, samples: npt.NDArray[np.float32], rate: int, *, log_ns: int) -> None:
        """A chunk of sound, float32 (n,) or (n, channels); `stamp_ns` is that of its first sample."""
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        flat = np.ascontiguousarray(samples, np.float32).ravel()
        self._write(topic, AUDIO, stamp_ns, log_ns, "microphone", sample_rate=rate, channels=channels, samples=flat)

    def message(self, topic: str, kind: str, message: Any, *, log_ns: int) -> None:
        """Any message of a type that `types` knows, as it is."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self.types)
        self._writer.write(self._connections[topic], log_ns, self.types.serialize_cdr(message, kind))

    def _write(self, topic: str, kind: str, stamp_ns: int, log_ns: int, frame_id: str, **fields: Any) -> None:
        types = self.types.types
        stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
        self.message(topic, kind, types[kind](header=header, **fields), log_ns=log_ns)

    def __enter__(self) -> BagWriter:
        try:
            self._writer.open()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        try:
            self._writer.__exit__(kind, error, trace)
            if kind is None:
                os.replace(self._folder / self.path.name, self.path)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
