# SPDX-License-Identifier: Apache-2.0
"""Recordings whose pictures stay in the files of a data set: decoded when a window asks for them, prepared as online.

A data set of a hundred hours does not fit the sample store. What does, its sound and where every picture lies, is kept
there; a track then reads the pictures of one modality.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from karmma_ros.compressed import picture_info
from karmma_ros.detections import prepare_detections
from karmma_ros.errors import MediaError
from karmma_ros.flow import MAX_INTERVAL_S, FlowProducer
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_ros.window import to_ns
from karmma_training.data.labels import Labels
from karmma_training.data.pictures import Pictures, SmallPictures, decode_picture
from karmma_training.data.recording import Interval, Recording, Stamps
from karmma_training.data.small_frames import small_rgb
from karmma_training.data.video_frames import VideoIndex, read_frames

__all__ = [
    "ComputedFlow",
    "DetectionTrack",
    "FileRecording",
    "FlowPictures",
    "ImageTrack",
    "PictureTrack",
    "Track",
    "VideoTrack",
]

Ints = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width

NEIGHBOURS = 5  # a damaged picture is replaced by the nearest of so many before and after it


class Track(ABC):
    """Samples of one modality.

    stamps: (n,) [ns] ascending.
    """

    stamps: Stamps

    @abstractmethod
    def read(self, which: Ints) -> npt.NDArray[Any]:
        """Prepared samples (n, h, w, c).

        :param which: (n,) positions, in any order.
        :raises MediaError: a sample cannot be read, and neither can those beside it.
        """


class ImageTrack(Track):
    """A camera's images.

    :param size: (height, width) of the network's input; where: what to call the track in a message.
    """

    def __init__(self, stamps: Stamps, size: Size, where: str) -> None:
        self.stamps, self.size, self.where = stamps, size, where
        self._warned = False

    @abstractmethod
    def images(self, which: Ints, at_least: Size) -> dict[int, Image]:
        """RGB images (h, w, 3) by position, those that can be decoded.

        :param at_least: smaller images will not do.
        """

    def small(self, which: Ints) -> dict[int, Image]:
        """Images at the network's size, as `images`."""
        return {k: prepare_image(image, self.size) for k, image in self.images(which, self.size).items()}

    def read(self, which: Ints) -> npt.NDArray[np.uint8]:
        """See Track."""
        found = self._nearest(which, self.small)
        return np.stack([found[int(k)] for k in which])

    def nearest(self, which: Ints, at_least: Size) -> dict[int, Image]:
        """As `images`, all positions asked for: the nearest readable image stands in for a damaged one."""
        return self._nearest(which, lambda near: self.images(near, at_least))

    def _nearest(self, which: Ints, read: Callable[[Ints], dict[int, Image]]) -> dict[int, Image]:
        found = read(which)
        for k in {int(k) for k in which} - found.keys():
            near = np.arange(max(0, k - NEIGHBOURS), min(len(self.stamps), k + NEIGHBOURS + 1), dtype=np.int64)
            others = read(near)
            if not others:
                raise MediaError(f"{self.where}: image {k} of {len(self.stamps)} cannot be read, nor any near it")
            found[k] = others[min(others, key=lambda other: abs(other - k))]
            if not self._warned:
                self._warned = True
                logging.getLogger("karmma").warning("%s: image %d is damaged, a neighbour stands in", self.where, k)
        return found


class PictureTrack(ImageTrack):
    """Images that are pictures in a folder or a tar."""

    def __init__(self, pictures: Pictures, stamps: Stamps, size: Size) -> None:
        super().__init__(stamps, size, pictures.where)
        self._pictures = pictures
        self._small = SmallPictures(size)

    def images(self, which: Ints, at_least: Size) -> dict[int, Image]:
        """See ImageTrack."""
        return self._each(which, partial(decode_picture, grey=False, at_least=at_least))

    def small(self, which: Ints) -> dict[int, Image]:
        """See ImageTrack."""
        return self._each(which, self._small.decode)

    def _each(self, which: Ints, decode: Callable[[bytes, str], Image]) -> dict[int, Image]:
        found = {}
        for k in {int(k) for k in which}:
            try:
                found[k] = decode(self._pictures.load(k), self._pictures.name(k))
            except MediaError:
                continue
        return found


class VideoTrack(ImageTrack):
    """Images that are frames of a video file."""

    def __init__(self, path: Path, index: VideoIndex, size: Size) -> None:
        super().__init__(index.stamps_ns, size, str(path))
        self._path, self._index = path, index

    def images(self, which: Ints, at_least: Size) -> dict[int, Image]:
        """See ImageTrack."""
        return read_frames(self._path, self._index, which)

    def small(self, which: Ints) -> dict[int, Image]:
        """See ImageTrack."""
        shrink = partial(small_rgb, size=self.size, reformatter=VideoReformatter())
        return read_frames(self._path, self._index, which, shrink)


class ComputedFlow(Track):
    """Optical flow computed from a camera's images, as online: from each to the one before.

    :param working_size: (width, height) at which flow is computed.
    """

    def __init__(self, camera: ImageTrack, size: Size, working_size: tuple[int, int], preset: str) -> None:
        interval = np.diff(camera.stamps)
        self._newer = np.flatnonzero((interval > 0) & (interval <= to_ns(MAX_INTERVAL_S))) + 1
        self.stamps = camera.stamps[self._newer]
        self._camera, self._size = camera, size
        self._working_size, self._preset = working_size, preset

    def read(self, which: Ints) -> npt.NDArray[np.float32]:
        """See Track."""
        width, height = self._working_size
        newer = self._newer[which]
        images = self._camera.nearest(np.unique(np.concatenate([newer - 1, newer])), (height, width))
        fields = {int(k): self._flow(int(k), images) for k in np.unique(newer)}
        return np.stack([fields[int(k)] for k in newer])

    def _flow(self, newer: int, images: Mapping[int, Image]) -> npt.NDArray[np.float32]:
        producer = FlowProducer(self._working_size, self._preset)
        for k in (newer - 1, newer):
            field = producer.push(int(self._camera.stamps[k]), images[k])
        if field is None:
            raise MediaError(f"{self._camera.where}: images {newer - 1} and {newer} differ in size")
        return prepare_flow(field, self._size)


class FlowPictures(Track):
    """Optical flow as two grey pictures: value v of 255 is v * 2 * bound / 255 - bound pixels.

    :param across, down: pictures of x and y, with the same numbers.
    :param gap_s: seconds between the two frames that a field is about.
    """

    def __init__(
        self, across: Pictures, down: Pictures, stamps: Stamps, size: Size, *, bound: float, gap_s: float
    ) -> None:
        self.stamps = stamps
        self._parts, self._size = (across, down), size
        self._bound, self._gap_s = bound, gap_s
        self._warned = False

    def read(self, which: Ints) -> npt.NDArray[np.float32]:
        """See Track."""
        fields = {int(k): self._nearest(int(k)) for k in np.unique(which)}
        return np.stack([fields[int(k)] for k in which])

    def _nearest(self, k: int) -> npt.NDArray[np.float32]:
        near = range(max(0, k - NEIGHBOURS), min(len(self.stamps), k + NEIGHBOURS + 1))
        first: MediaError | None = None
        for other in sorted(near, key=lambda other: abs(other - k)):
            try:
                field = self._field(other)
            except MediaError as error:
                first = first or error
                continue
            if first and not self._warned:
                self._warned = True
                logging.getLogger("karmma").warning("%s: a neighbour stands in", first)
            return field
        raise MediaError(f"{first}, and neither can any flow near it") from first

    def _field(self, k: int) -> npt.NDArray[np.float32]:
        files = [part.load(k) for part in self._parts]
        names = [part.name(k) for part in self._parts]
        values = [
            decode_picture(file, name, grey=True, at_least=self._size) for file, name in zip(files, names, strict=True)
        ]
        if values[0].shape != values[1].shape:
            raise MediaError(f"{names[0]}: its two components differ in size")
        width = picture_info(np.frombuffer(files[0], np.uint8)).width
        pixels = np.stack(values, -1).astype(np.float32) * (2 * self._bound / 255) - self._bound
        return prepare_flow(pixels / np.float32(width * self._gap_s), self._size)


class DetectionTrack(Track):
    """Boxes around the objects of some frames.

    :param boxes: (n) of (k, 6) float32 each, see `karmma_ros.detections`; most, categories: how many.
    """

    def __init__(self, boxes: Sequence[npt.NDArray[np.float32]], stamps: Stamps, most: int, categories: int) -> None:
        self.stamps = stamps
        self._boxes, self._most, self._categories = boxes, most, categories

    def read(self, which: Ints) -> npt.NDArray[np.float32]:
        """See Track."""
        return np.stack([prepare_detections(self._boxes[int(k)], self._most, self._categories) for k in which])


class FileRecording(Recording):
    """A recording of tracks, with its sound from the sample store.

    :param tracks: {modality: Track}, those that exist; sound: (n,) mono PCM from `sound_start_ns` on, or None.
    """

    decodes = True

    def __init__(
        self,
        name: str,
        key: str,
        labels: Labels,
        intervals: Sequence[Interval],
        tracks: Mapping[str, Track],
        *,
        sound: npt.NDArray[np.float32] | None,
        sound_start_ns: int,
        rate: int,
        ids: Sequence[str] = (),
    ) -> None:
        super().__init__(
            name,
            key,
            labels,
            intervals,
            stamps={m: track.stamps for m, track in tracks.items()},
            sound=None if sound is None else (sound_start_ns, len(sound)),
            rate=rate,
            ids=ids,
        )
        self._tracks = dict(tracks)
        self._sound = sound

    def read(self, modality: str, which: Ints) -> npt.NDArray[Any]:
        """See Recording."""
        return self._tracks[modality].read(which)

    def pcm(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """See Recording."""
        assert self._sound is not None
        return np.asarray(self._sound[first:last])
