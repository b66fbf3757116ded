# SPDX-License-Identifier: Apache-2.0
"""A frame shrunk before it is converted is, up to rounding, the RGB image shrunk."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from karmma_ros.media import upright
from karmma_ros.samples import prepare_image
from karmma_training.data.small_frames import small_rgb

SIZE = (36, 48)


def scene(width: int, height: int) -> np.ndarray:
    """Soft shapes of all colours, and some hard edges."""
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
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
    assert away.mean() < 1.6
    assert np.percentile(away, 99) <= 8, "hard edges that end within a pixel"
