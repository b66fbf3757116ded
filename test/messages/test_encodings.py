# SPDX-License-Identifier: Apache-2.0
"""Every image encoding, against pictures packed here by other means than those that unpack them.

Does not assert the exact rounding of YUV conversion nor of demosaicing, on which OpenCV's versions differ: colours have
to be right within a few steps.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from karmma_ros import bridge
from karmma_ros.decode import image_to_rgb
from karmma_ros.errors import SampleError

HEIGHT, WIDTH = 12, 16
PADDING = 8  # bytes behind each row; filled with a value that would be seen

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Picture:
    """Noise: no two pixels alike, so that any mistake in position, order or step shows."""
    return np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def patches() -> Picture:
    """Four flat quarters: red, green, blue and an uneven grey, for encodings that share colour between pixels."""
    rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    h, w = HEIGHT // 2, WIDTH // 2
    rgb[:h, :w], rgb[:h, w:], rgb[h:, :w], rgb[h:, w:] = (220, 30, 40), (20, 200, 60), (30, 40, 210), (140, 120, 100)
    return rgb


def image(
    encoding: str, rows: npt.NDArray[Any], *, big: bool = False, padding: int = 0, **fields: Any
) -> SimpleNamespace:
    """A message from packed rows (H, n); `rows` is in native byte order."""
    stored = rows.astype(rows.dtype.newbyteorder(">" if big else "<"))
    data = stored.view(np.uint8).reshape(len(rows), -1)
    data = np.pad(data, ((0, 0), (0, padding)), constant_values=171)
    made = {
        "encoding": encoding,
        "height": HEIGHT,
        "width": WIDTH,
        "step": data.shape[1],
        "is_bigendian": int(big),
        "data": data.tobytes(),
    }
    return SimpleNamespace(**(made | fields))


CHANNEL_ORDER = {"rgb": [0, 1, 2], "bgr": [2, 1, 0], "rgba": [0, 1, 2, 3], "bgra": [2, 1, 0, 3]}


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize("order", CHANNEL_ORDER)
def test_8_bit_colour(picture: Picture, order: str, padding: int) -> None:
    with_alpha = np.dstack((picture, np.full((HEIGHT, WIDTH), 99, np.uint8)))
    rows = with_alpha[:, :, CHANNEL_ORDER[order]].reshape(HEIGHT, -1)
    np.testing.assert_array_equal(image_to_rgb(image(f"{order}8", rows, padding=padding)), picture)


@pytest.mark.parametrize("padding", [0, PADDING, 3])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", CHANNEL_ORDER)
def test_16_bit_colour_is_scaled(picture: Picture, order: str, big: bool, padding: int) -> None:
    # 257 v is the 16-bit value of the 8-bit value v; 100 more is less than half a step, so rounding brings v back. With
    # its bytes swapped it is another value.
    deep = picture.astype(np.uint16) * 257
    deep = np.where(picture < 255, deep + 100, deep)
    with_alpha = np.dstack((deep, np.full((HEIGHT, WIDTH), 999, np.uint16)))
    rows = with_alpha[:, :, CHANNEL_ORDER[order]].reshape(HEIGHT, -1)
    np.testing.assert_array_equal(image_to_rgb(image(f"{order}16", rows, big=big, padding=padding)), picture)


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize("big", [False, True])
def test_grey_has_three_equal_channels(picture: Picture, big: bool, padding: int) -> None:
    grey = picture[:, :, 0]
    expected = np.dstack((grey, grey, grey))
    np.testing.assert_array_equal(image_to_rgb(image("mono8", grey, padding=padding)), expected)
    deep = grey.astype(np.uint16) * 257 - (grey > 0) * np.uint16(90)
    np.testing.assert_array_equal(image_to_rgb(image("mono16", deep, big=big, padding=padding)), expected)


def test_all_16_bit_values_are_rounded_to_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    rgb = image_to_rgb(image("mono16", values, height=256, width=256))
    np.testing.assert_array_equal(rgb[:, :, 0].ravel(), [(v * 2 + 257) // 514 for v in range(65536)])


GENERIC_TYPES = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("depth", GENERIC_TYPES)
def test_generic_types_use_their_range(picture: Picture, depth: str, channels: int, big: bool) -> None:
    dtype = np.dtype(GENERIC_TYPES[depth])
    if dtype.kind == "f":
        values = (picture / 255).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        values = np.array([limits.min + (limits.max - limits.min) * v // 255 for v in picture.ravel().tolist()], dtype)
        values = values.reshape(picture.shape)
    if channels <= 1:
        rows, expected = values[:, :, 1], np.dstack((picture[:, :, 1],) * 3)
    else:
        bgra = np.dstack((values[:, :, ::-1], values[:, :, :1]))
        rows, expected = bgra[:, :, :channels].reshape(HEIGHT, -1), picture
    encoding = f"{depth}C{channels or ''}"
    np.testing.assert_array_equal(image_to_rgb(image(encoding, rows, big=big)), expected)


def test_floats_that_overshoot_are_clipped() -> None:
    values = np.linspace(-0.5, 1.5, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    grey = image_to_rgb(image("32FC1", values))[:, :, 0]
    assert grey[values <= 0].max() == 0
    assert grey[values >= 1].min() == 255
    np.testing.assert_allclose(grey[(values > 0) & (values < 1)], values[(values > 0) & (values < 1)] * 255, atol=0.5)


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize(("bits", "big"), [(8, False), (16, False), (16, True)])
@pytest.mark.parametrize("mosaic", ["rggb", "bggr", "gbrg", "grbg"])
def test_mosaics(patches: Picture, mosaic: str, bits: int, big: bool, padding: int) -> None:
    raw = np.empty((HEIGHT, WIDTH), np.uint8 if bits == 8 else np.uint16)
    for i, colour in enumerate(
        mosaic
    ):  # the colours of pixels (0, 0), (0, 1), (1, 0), (1, 1), and so on in blocks of 2x2
        y, x = divmod(i, 2)
        raw[y::2, x::2] = patches[y::2, x::2, "rgb".index(colour)]
    raw = raw if bits == 8 else raw * np.uint16(257)
    rgb = image_to_rgb(image(f"bayer_{mosaic}{bits}", raw, big=big, padding=padding))
    for y in (3, HEIGHT - 4):
        for x in (4, WIDTH - 5):
            assert np.abs(rgb[y, x].astype(int) - patches[y, x]).max() <= 2


def yuv(rgb: Picture) -> tuple[npt.NDArray[np.uint8], ...]:
    """ITU-R BT.601, limited range: y in 16..235, u and v around 128; each (H, W)."""
    r, g, b = (rgb[:, :, i] / 255 for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    u, v = (b - y) / 1.772, (r - y) / 1.402
    return tuple(np.round(plane).astype(np.uint8) for plane in (16 + 219 * y, 128 + 224 * u, 128 + 224 * v))


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
def test_yuv_4_2_2(patches: Picture, encoding: str, order: str, padding: int) -> None:
    y, u, v = yuv(patches)
    rows = np.empty((HEIGHT, WIDTH * 2), np.uint8)
    brightness = [i for i, letter in enumerate(order) if letter == "y"]
    rows[:, brightness[0] :: 4], rows[:, brightness[1] :: 4] = y[:, 0::2], y[:, 1::2]
    rows[:, order.index("u") :: 4], rows[:, order.index("v") :: 4] = u[:, 0::2], v[:, 0::2]
    rgb = image_to_rgb(image(encoding, rows, padding=padding))
    assert np.abs(rgb.astype(int) - patches).max() <= 4


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "i420"])
def test_yuv_4_2_0(patches: Picture, encoding: str, padding: int) -> None:
    y, u, v = yuv(patches)
    step = WIDTH + padding
    data = bytearray()
    for row in y:
        data += row.tobytes() + bytes([171]) * padding
    if encoding == "i420":
        for plane in (u, v):
            for row in plane[::2, ::2]:
                data += row.tobytes() + bytes([171]) * (padding // 2)
    else:
        first, second = (u, v) if encoding == "nv12" else (v, u)
        for pair in zip(first[::2, ::2], second[::2, ::2], strict=True):
            data += np.column_stack(pair).tobytes() + bytes([171]) * padding
    message = image(encoding, y, step=step, data=bytes(data))
    assert np.abs(image_to_rgb(message).astype(int) - patches).max() <= 4


def test_turning_is_clockwise(picture: Picture) -> None:
    message = image("rgb8", picture.reshape(HEIGHT, -1))
    turned = image_to_rgb(message, rotate=90)
    assert turned.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(turned[0, -1], picture[0, 0])  # top left has gone to top right
    np.testing.assert_array_equal(image_to_rgb(message, rotate=180), picture[::-1, ::-1])
    np.testing.assert_array_equal(image_to_rgb(message, rotate=270)[-1, 0], picture[0, 0])
    with pytest.raises(ValueError, match="rotate"):
        image_to_rgb(message, rotate=45)


def test_rgb8_is_not_copied(picture: Picture) -> None:
    message = image("rgb8", picture.reshape(HEIGHT, -1), padding=PADDING)
    assert np.shares_memory(image_to_rgb(message), np.frombuffer(message.data, np.uint8))


def test_unknown_encodings_are_refused(picture: Picture) -> None:
    with pytest.raises(SampleError, match="unsupported encoding: 'jpeg2000'") as caught:
        image_to_rgb(image("jpeg2000", picture.reshape(HEIGHT, -1)))
    assert caught.value.cause == "unsupported encoding"


@pytest.mark.skipif(not bridge.available(), reason="ROS 2's cv_bridge is not installed")
@pytest.mark.parametrize(
    "encoding",
    ["mono8", "mono16", "rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16"]
    + [f"bayer_{mosaic}{bits}" for mosaic in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
    + ["yuv422", "yuv422_yuy2"],
)
def test_cv_bridge_agrees(encoding: str) -> None:
    from cv_bridge import CvBridge
    from sensor_msgs.msg import Image

    from karmma_ros.encodings import layout_of

    layout = layout_of(encoding)
    assert layout is not None
    rng = np.random.default_rng(3)
    step = WIDTH * layout.pixel_bytes
    message = Image(encoding=encoding, height=HEIGHT, width=WIDTH, step=step)
    message.data = rng.integers(0, 256, HEIGHT * step, dtype=np.uint8).tobytes()
    theirs = CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
    assert np.abs(image_to_rgb(message).astype(int) - theirs).max() <= 1
