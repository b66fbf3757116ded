# SPDX-License-Identifier: Apache-2.0
"""A frame shrunk before it is converted is, up to rounding, the RGB image shrunk."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from karmma_ros.errors import MediaError
from karmma_ros.media import upright
from karmma_ros.samples import prepare_image
from karmma_training.data.pictures import SmallPictures, decode_picture
from karmma_training.data.small_frames import small_rgb

SIZE = (36, 48)
CLOSE = 2.0  # of 255, in the mean; 1.1 of it is how the conversion at full size rounds


def scene(width: int, height: int) -> np.ndarray:
    """Soft shapes of all colours, and some hard edges. In a small one the shapes are soft alone: its colour has half of
    its pixels, and between them every decoder guesses otherwise."""
    rng = np.random.default_rng(3)
    small = width < 2 * SIZE[1] or height < 2 * SIZE[0]
    field = rng.integers(*((80, 176) if small else (0, 256)), (4, 5, 3) if small else (9, 12, 3)).astype(np.uint8)
    image = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    if small:
        return np.asarray(image, np.uint8)
    cv2.rectangle(image, (width // 4, height // 4), (width // 2, height // 2), (250, 20, 30), -1)
    cv2.circle(image, (width * 3 // 4, height // 2), height // 5, (10, 240, 200), -1)
    return np.asarray(image, np.uint8)


def decoded(path: Path, codec: str, pixels: str, width: int, height: int, **fields: int) -> av.VideoFrame:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for name, value in fields.items():
            setattr(stream.codec_context, name, value)
        frame = av.VideoFrame.from_ndarray(scene(width, height), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize(
    ("codec", "pixels", "fields"),
    [
        ("libx264", "yuv420p", {}),
        ("libx264", "yuv420p", {"colorspace": 1}),
        ("libx264", "yuv420p", {"color_range": 2}),
        ("libx264", "yuv420p", {"colorspace": 1, "color_range": 2}),
        ("libx264", "yuv422p", {}),
        ("libx264", "yuv444p", {}),
        ("mjpeg", "yuvj420p", {}),
        ("libx264rgb", "rgb24", {}),
    ],
)
@pytest.mark.parametrize("shape", [(320, 240), (456, 256), (90, 70), (66, 38)])
def test_it_is_the_rgb_image_made_small(
    tmp_path: Path, codec: str, pixels: str, fields: dict[str, int], shape: tuple[int, int]
) -> None:
    frame = decoded(tmp_path / ("a.mkv"), codec, pixels, *shape, **fields)
    expected = prepare_image(upright(frame), SIZE).astype(int)
    found = small_rgb(frame, SIZE).astype(int)
    assert found.shape == (*SIZE, 3)
    away = np.abs(found - expected)
    print(frame.format.name, frame.colorspace, frame.color_range, away.mean(), away.max())
    assert away.mean() < CLOSE
    assert np.percentile(away, 99) <= 8, "hard edges that end within a pixel"


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_frame_that_lies_is_turned(tmp_path: Path, turn: int) -> None:
    frame = decoded(tmp_path / "a.mkv", "libx264", "yuv420p", 320, 240)

    class Lying:
        """A frame with the note of a phone: PyAV's own cannot be written."""

        rotation = turn

        def __getattr__(self, name: str) -> object:
            return getattr(frame, name)

    expected = np.rot90(prepare_image(upright(frame), SIZE if turn % 180 == 0 else SIZE[::-1]), turn // 90)
    reformatter = ReformatterOf(frame)
    found = small_rgb(Lying(), SIZE, reformatter)  # type: ignore[arg-type]
    assert found.shape == (*SIZE, 3)
    assert np.abs(found.astype(int) - expected).mean() < CLOSE


class ReformatterOf:
    """Converts a frame, whatever stands in for it."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self.frame, self.reformatter = frame, VideoReformatter()

    def reformat(self, _: object, *how: object, **more: object) -> av.VideoFrame:
        return self.reformatter.reformat(self.frame, *how, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(456, 256), (90, 70), (66, 38), (40, 30), (1280, 720)])
@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_QUALITY, 60]])
def test_a_jpeg_is_made_small_like_its_rgb_image(shape: tuple[int, int], flags: list[int]) -> None:
    data = cv2.imencode(".jpg", scene(*shape)[..., ::-1], flags)[1].tobytes()
    expected = prepare_image(decode_picture(data, "it", grey=False, at_least=SIZE), SIZE).astype(int)
    away = np.abs(SmallPictures(SIZE).decode(data, "it").astype(int) - expected)
    assert away.mean() < CLOSE
    assert np.percentile(away, 99) <= 10, "colour between pixels is interpolated otherwise"


def test_grey_and_damaged_jpegs() -> None:
    grey = cv2.imencode(".jpg", scene(90, 70)[..., 1])[1].tobytes()
    expected = prepare_image(decode_picture(grey, "it", grey=False, at_least=SIZE), SIZE).astype(int)
    assert np.abs(SmallPictures(SIZE).decode(grey, "it").astype(int) - expected).mean() < CLOSE
    with pytest.raises(MediaError, match="it: "):
        SmallPictures(SIZE).decode(grey[: len(grey) // 2], "it")
    with pytest.raises(MediaError, match="it: "):
        SmallPictures(SIZE).decode(b"no picture", "it")


def test_a_jpeg_that_was_held_on_its_side_is_turned() -> None:
    data = cv2.imencode(".jpg", scene(90, 70)[..., ::-1])[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"  # orientation 6
    exif = b"Exif\0\0" + tiff
    held = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    turned = SmallPictures(SIZE).decode(held, "it")
    expected = prepare_image(np.rot90(decode_picture(data, "it", grey=False, at_least=(70, 90)), -1).copy(), SIZE)
    np.testing.assert_array_equal(turned, expected)
