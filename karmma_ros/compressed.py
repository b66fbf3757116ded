# SPDX-License-Identifier: Apache-2.0
"""What a JPEG or PNG says about itself, read without decoding it.

A decoder allocates what the header claims, so the claim is checked first; and it returns half a picture, grey below,
for data that ends early, so the end is checked too. Formats: ITU-T T.81 annex B (JPEG), ISO/IEC 15948 (PNG).
"""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import SampleError

__all__ = ["PictureInfo", "picture_info"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # colour type -> channels; a palette (3) holds colours
_JPEG_START, _JPEG_END, _JPEG_SCAN = 0xD8, 0xD9, 0xDA
_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class PictureInfo:
    """A picture's header: `kind` is "JPEG" or "PNG"; `channels` as stored, a palette counting as 3."""

    kind: str
    width: int
    height: int
    channels: int


def picture_info(data: npt.NDArray[np.uint8]) -> PictureInfo:
    """Reads the header, and checks that the picture goes on to its end.

    :param data: (n,) the whole file.
    :raises SampleError: neither JPEG nor PNG, truncated, or a header that makes no sense.
    """
    view = np.ascontiguousarray(data).data
    if view[:2] == b"\xff\xd8":
        info = _jpeg(view)
    elif view[:8] == _PNG_SIGNATURE:
        info = _png(view)
    else:
        raise SampleError("image is neither JPEG nor PNG", bytes(view[:8]).hex(" "))
    if info.width == 0 or info.height == 0:
        raise SampleError("image is empty", f"{info.kind} of {info.width}x{info.height}")
    return info


def _unpack(layout: str, view: memoryview, offset: int, kind: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, view, offset)
    except struct.error:
        raise SampleError("image is truncated", f"{kind} of {len(view)} bytes") from None


def _jpeg(view: memoryview) -> PictureInfo:
    offset, found = 2, None
    while True:
        lead, marker = _unpack(">BB", view, offset, "JPEG")
        if lead != 0xFF:
            raise SampleError("image is damaged", f"JPEG has no marker at byte {offset}")
        if marker == 0xFF:  # a marker may be preceded by any number of these
            offset += 1
            continue
        offset += 2
        if marker in _JPEG_ALONE:
            continue
        if marker in (_JPEG_START, _JPEG_END):
            raise SampleError("image is damaged", "JPEG without a picture")
        (length,) = _unpack(">H", view, offset, "JPEG")
        if length < 2:
            raise SampleError("image is damaged", f"JPEG has a segment of {length} bytes")
        if marker in _JPEG_FRAMES:
            _, height, width, channels = _unpack(">BHHB", view, offset + 2, "JPEG")
            found = PictureInfo("JPEG", width, height, channels)
        offset += length
        if marker == _JPEG_SCAN:
            break
    if found is None:
        raise SampleError("image is damaged", "JPEG without a size")
    # Inside a scan 0xFF is followed by 0 or a restart marker, so this cannot be part of the picture; what some cameras
    # append to it does no harm.
    if bytes(view[offset:]).rfind(b"\xff\xd9") < 0:
        raise SampleError("image is truncated", f"JPEG of {len(view)} bytes without an end")
    return found


def _png(view: memoryview) -> PictureInfo:
    _, tag, width, height, _, colour = _unpack(">I4sIIBB", view, 8, "PNG")
    if tag != b"IHDR" or colour not in _PNG_CHANNELS:
        raise SampleError("image is damaged", "PNG without a header")
    offset = 8
    while tag != b"IEND":
        length, tag = _unpack(">I4s", view, offset, "PNG")
        offset += 12 + length
        if offset > len(view):
            raise SampleError("image is truncated", f"PNG of {len(view)} bytes without an end")
    return PictureInfo("PNG", width, height, _PNG_CHANNELS[colour])
