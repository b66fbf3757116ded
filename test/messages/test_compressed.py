# SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG: real files, whole, cut and lying."""

import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from karmma_ros.decode import compressed_to_rgb
from karmma_ros.errors import SampleError

HEIGHT, WIDTH = 48, 64

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Picture:
    """Smooth (JPEG keeps it), another colour in each corner."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.dstack((x * 3, y * 4, 255 - x * 2)).astype(np.uint8)


def message(picture: npt.NDArray[np.generic], kind: str = "png", text: str | None = None) -> SimpleNamespace:
    ok, data = cv2.imencode(f".{kind}", picture)
    assert ok
    return SimpleNamespace(format=text or f"rgb8; {kind} compressed bgr8", data=data.tobytes())


def cause(msg: object, **options: int) -> str:
    with pytest.raises(SampleError) as caught:
        compressed_to_rgb(msg, **options)
    return caught.value.cause


def test_png_is_exact(picture: Picture) -> None:
    np.testing.assert_array_equal(compressed_to_rgb(message(picture[:, :, ::-1])), picture)


def test_jpeg_is_close(picture: Picture) -> None:
    rgb = compressed_to_rgb(message(picture[:, :, ::-1], "jpg", "jpeg"))
    assert np.abs(rgb.astype(int) - picture).mean() < 3


def test_what_the_format_field_claims_does_not_matter(picture: Picture) -> None:
    np.testing.assert_array_equal(compressed_to_rgb(message(picture[:, :, ::-1], "png", "jpeg")), picture)


def test_16_bit_png_is_scaled(picture: Picture) -> None:
    bgr = picture[:, :, ::-1]
    deep = bgr.astype(np.uint16) * 257 - (bgr > 0) * np.uint16(90)  # rounds to the same 8 bits, and is cut to others
    np.testing.assert_array_equal(compressed_to_rgb(message(deep)), picture)


def test_grey_and_alpha(picture: Picture) -> None:
    grey = picture[:, :, 0]
    np.testing.assert_array_equal(
        compressed_to_rgb(message(grey, "png", "mono8; png compressed")), np.dstack((grey,) * 3)
    )
    with_alpha = np.dstack((picture[:, :, ::-1], grey))
    np.testing.assert_array_equal(compressed_to_rgb(message(with_alpha)), picture)


def test_compressed_mosaic_is_demosaiced() -> None:
    raw = np.zeros((HEIGHT, WIDTH), np.uint8)
    raw[0::2, 0::2] = 200  # light on red pixels only
    rgb = compressed_to_rgb(message(raw, "png", "bayer_rggb8; png compressed"))
    assert rgb[HEIGHT // 2, WIDTH // 2].tolist() == [200, 0, 0]


def test_turning(picture: Picture) -> None:
    turned = compressed_to_rgb(message(picture[:, :, ::-1]), rotate=270)
    assert turned.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(turned[-1, 0], picture[0, 0])


def test_an_orientation_in_exif_is_not_followed(picture: Picture) -> None:
    # EXIF with one entry: tag 0x0112 (orientation), type SHORT, count 1, value 6 (a quarter turn).
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    plain = message(picture[:, :, ::-1], "jpg").data
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + plain[2:]
    turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (WIDTH, HEIGHT, 3), "this EXIF does not turn anything: the test shows nothing"
    assert compressed_to_rgb(SimpleNamespace(format="jpeg", data=data)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("progressive", [0, 1])
def test_every_truncated_jpeg_is_refused(picture: Picture, progressive: int) -> None:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    assert ok
    whole = data.tobytes()
    for length in range(1, len(whole)):
        assert cause(SimpleNamespace(format="jpeg", data=whole[:length])) in (
            "image is truncated",
            "image is neither JPEG nor PNG",
        ), length
    assert compressed_to_rgb(SimpleNamespace(format="jpeg", data=whole + b"\0" * 500)).shape == picture.shape


def test_every_truncated_png_is_refused(picture: Picture) -> None:
    whole = message(picture).data
    for length in range(1, len(whole)):
        assert cause(SimpleNamespace(format="png", data=whole[:length])) in (
            "image is truncated",
            "image is neither JPEG nor PNG",
        ), length


def test_oversized_pictures_are_refused_by_their_header(picture: Picture) -> None:
    """The data behind the header is rubbish: a decoder that was asked would have another complaint."""
    jpeg = bytearray(message(picture, "jpg").data)
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65000, 65000)
    assert cause(SimpleNamespace(format="jpeg", data=bytes(jpeg))) == "image is too large"
    header = b"IHDR" + struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    assert cause(SimpleNamespace(format="png", data=png + end)) == "image is too large"
    assert cause(message(picture), max_pixels=HEIGHT * WIDTH - 1) == "image is too large"
    assert compressed_to_rgb(message(picture), max_pixels=HEIGHT * WIDTH).shape == picture.shape


def test_other_things_are_refused(picture: Picture) -> None:
    assert cause(SimpleNamespace(format="jpeg", data=b"")) == "image has no data"
    assert cause(SimpleNamespace(format="jpeg", data=b"GIF89a" + bytes(50))) == "image is neither JPEG nor PNG"
    assert cause(SimpleNamespace(format="16UC1; compressedDepth png", data=bytes(60))) == "unsupported encoding"
    assert cause(SimpleNamespace(format="jpeg")) == "image has no data"
    damaged = bytearray(message(picture).data)
    damaged[60] ^= 0xFF  # inside the first IDAT: its checksum fails
    assert cause(SimpleNamespace(format="png", data=bytes(damaged))) == "image cannot be decompressed"
