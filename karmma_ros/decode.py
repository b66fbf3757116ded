# SPDX-License-Identifier: Apache-2.0
"""From the messages of cameras, flow and microphones to the core's samples, without ROS.

Works on anything with the fields of sensor_msgs/Image, sensor_msgs/CompressedImage or a message of sound (see
`decode_audio`): rclpy's messages, those of a bag reader, or a plain object. Whatever is wrong with a message (and
sensors send all sorts of things) raises `SampleError` and nothing else, before anything of the size that the message
claims has been allocated. Pixels are viewed where they lie as long as that is possible: an rgb8 image is not copied.
"""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros import bridge
from karmma_ros.compressed import picture_info
from karmma_ros.decode_audio import audio_to_chunk
from karmma_ros.encodings import BGR8, FLOW, PLANAR, Layout, convert, first_line, layout_of, to_rgb
from karmma_ros.errors import SampleError
from karmma_ros.fields import count_of, shown, text_of

__all__ = [
    "MAX_PIXELS",
    "audio_to_chunk",
    "check_stamp",
    "compressed_to_rgb",
    "flow_to_field",
    "image_to_rgb",
    "scale_flow",
    "sent_size",
]

Uint8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]

MAX_PIXELS = 1 << 24  # 4096 x 4096

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def image_to_rgb(msg: Any, *, rotate: int = 0, max_pixels: int = MAX_PIXELS) -> Uint8Array:
    """An uncompressed image as RGB.

    Encodings outside the list of this module go through cv_bridge, where ROS 2's is installed.

    :param msg: has `height`, `width`, `encoding`, `is_bigendian`, `step` and `data`.
    :param rotate: degrees clockwise that make the image upright: 0, 90, 180 or 270.
    :param max_pixels: larger images are refused.
    :return: (H, W, 3) uint8, after turning; may be a view of the message's data.
    :raises SampleError: the message cannot be used.
    """
    height, width = _size(msg, max_pixels)
    encoding = text_of(msg, "encoding")
    if encoding in PLANAR:
        rgb = _planar_to_rgb(msg, encoding, height, width)
    elif layout := layout_of(encoding):
        rgb = to_rgb(_pixels(msg, layout, height, width), layout)
    else:
        rgb = bridge.to_rgb(msg, encoding, (height, width))
    return _turned(rgb, rotate)


def compressed_to_rgb(msg: Any, *, rotate: int = 0, max_pixels: int = MAX_PIXELS) -> Uint8Array:
    """A JPEG or PNG image as RGB. Which of them it is, and its size, is read from the data before it is decoded.

    :param msg: has `format` and `data`.
    :param rotate: degrees clockwise that make the image upright: 0, 90, 180 or 270. EXIF is not followed.
    :param max_pixels: larger images are refused.
    :return: (H, W, 3) uint8, after turning.
    :raises SampleError: the message cannot be used.
    """
    source = text_of(msg, "format").split(";")[0].strip()
    if "compressedDepth" in text_of(msg, "format"):
        raise SampleError("unsupported encoding", "compressedDepth is not a colour image")
    data = _bytes(msg)
    info = picture_info(data)
    if info.width * info.height > max_pixels:
        raise SampleError("image is too large", f"{info.width}x{info.height}, at most {max_pixels} pixels")
    # image_transport compresses a mosaic as if it were grey, and says so only in front of the semicolon.
    layout = layout_of(source) if source.startswith("bayer_") else None
    mosaic = info.channels == 1 and layout is not None and layout.mosaic
    mode = cv2.IMREAD_GRAYSCALE if mosaic else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(data, mode | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise SampleError("image cannot be decompressed", first_line(error)) from None
    if pixels is None:
        raise SampleError("image cannot be decompressed", f"damaged {info.kind}")
    if pixels.shape[:2] != (info.height, info.width) or pixels.dtype not in (np.uint8, np.uint16):
        raise SampleError("image cannot be decompressed", f"{info.kind} is not what its header says")
    if not mosaic or layout is None:
        layout = BGR8
    return _turned(to_rgb(pixels, layout), rotate)


def sent_size(rgb: Uint8Array, rotate: int) -> tuple[int, int]:
    """(width, height) [pixels] that an image had as it was sent, before it was turned by `rotate` degrees."""
    height, width = rgb.shape[:2]
    return (width, height) if rotate % 180 == 0 else (height, width)


def flow_to_field(msg: Any, *, max_pixels: int = MAX_PIXELS) -> Float32Array:
    """An optical flow image as a field, in the unit that the topic has (see `scale_flow`).

    :param msg: a `32FC2` image: x and y displacement in pixels, per second or per frame.
    :param max_pixels: larger fields are refused.
    :return: (H, W, 2) float32, finite; may be a view of the message's data.
    :raises SampleError: the message cannot be used.
    """
    height, width = _size(msg, max_pixels)
    encoding = text_of(msg, "encoding")
    if encoding != "32FC2":
        raise SampleError("flow is not 32FC2", shown(encoding))
    field = _pixels(msg, FLOW, height, width)
    # Sums of float32 cannot overflow a double, and anything that is not finite shows in them.
    if not all(map(math.isfinite, cv2.sumElems(field))):
        raise SampleError("flow is not finite")
    return field


def scale_flow(pixels: Float32Array, unit: str, dt_s: float | None = None) -> Float32Array:
    """A flow field in image widths per second. Both components are divided by the width: the unit is a length.

    :param pixels: (H, W, 2) float32, W the width of the full image.
    :param unit: "pixels_per_second", or "pixels_per_frame", which needs `dt_s`.
    :param dt_s: [s] between the two frames.
    :return: (H, W, 2) float32.
    :raises ValueError: another unit.
    :raises SampleError: the interval is needed and unknown, or the result is not finite.
    """
    if unit not in ("pixels_per_second", "pixels_per_frame"):
        raise ValueError(f"unit of flow must be pixels_per_second or pixels_per_frame, not {unit!r}")
    scale = 1.0 / pixels.shape[1]
    if unit == "pixels_per_frame":
        if dt_s is None or not 0 < dt_s < math.inf:
            raise SampleError("flow has no interval", f"{dt_s} s")
        scale /= dt_s
    with np.errstate(over="ignore"):
        field = np.multiply(pixels, np.float32(scale), dtype=np.float32)
    if not all(map(math.isfinite, cv2.sumElems(field))):
        raise SampleError("flow is not finite")
    return field


def check_stamp(stamp_ns: int, clock_ns: int, tolerance_s: float) -> None:
    """Refuses stamps that cannot be.

    :param clock_ns: the node's clock; 0 when it is not known yet (simulated time before the first tick).
    :raises SampleError: no stamp, or one in the future.
    """
    if stamp_ns <= 0:
        raise SampleError("no stamp", "header.stamp is 0: set it to the time the sample was taken")
    if clock_ns > 0 and stamp_ns - clock_ns > tolerance_s * 1e9:
        raise SampleError(
            "stamp in the future",
            f"{(stamp_ns - clock_ns) * 1e-9:.2f} s ahead of the clock: synchronise the machines' clocks, "
            "or set use_sim_time on both sides",
        )


def _size(msg: Any, max_pixels: int) -> tuple[int, int]:
    height, width = count_of(msg, "height"), count_of(msg, "width")
    if height == 0 or width == 0:
        raise SampleError("image is empty", f"{width}x{height}")
    if height * width > max_pixels:
        raise SampleError("image is too large", f"{width}x{height}, at most {max_pixels} pixels")
    return height, width


def _bytes(msg: Any) -> Uint8Array:
    """The message's data as bytes, not copied."""
    try:
        data = np.frombuffer(msg.data, dtype=np.uint8)
    except (AttributeError, TypeError, ValueError, BufferError):  # also: an empty buffer
        data = None
    if data is None or not data.size:
        raise SampleError("image has no data")
    return data


def _pixels(msg: Any, layout: Layout, height: int, width: int) -> AnyArray:
    """The message's pixels, (H, W) or (H, W, channels), in native byte order; a view where possible.

    :raises SampleError: step and data do not fit the size.
    """
    step = count_of(msg, "step")
    row_bytes = width * layout.pixel_bytes
    if step < row_bytes:
        raise SampleError("wrong step", f"{step}, at least {row_bytes} for {width} pixels")
    data = _bytes(msg)
    if data.size != height * step:
        raise SampleError("wrong data size", f"{data.size}, {height} rows of {step} are {height * step}")
    if layout.even_width and width % 2:
        raise SampleError("odd size", f"{width}x{height}, this encoding comes in pairs of pixels")
    if layout.mosaic and min(height, width) < 3:
        raise SampleError("image is too small", f"{width}x{height}")
    dtype = np.dtype(layout.dtype)
    stored = dtype.newbyteorder(">" if count_of(msg, "is_bigendian") else "<")
    strides = (step, layout.pixel_bytes, dtype.itemsize)
    pixels: AnyArray = np.ndarray((height, width, layout.channels), stored, buffer=data, strides=strides)
    if layout.channels == 1:
        pixels = pixels[:, :, 0]
    if not stored.isnative or not pixels.flags.aligned:
        return pixels.astype(dtype)
    return pixels


def _planar_to_rgb(msg: Any, encoding: str, height: int, width: int) -> Uint8Array:
    """4:2:0 images: a plane of brightness, then colour at half the resolution, interleaved or as two planes."""
    step = count_of(msg, "step")
    if height % 2 or width % 2 or step % 2:
        raise SampleError("odd size", f"{width}x{height}, step {step}: this encoding comes in blocks of 2x2 pixels")
    if step < width:
        raise SampleError("wrong step", f"{step}, at least {width}")
    data = _bytes(msg)
    rows = height + height // 2
    if data.size != rows * step:
        raise SampleError("wrong data size", f"{data.size}, {rows} rows of {step} are {rows * step}")
    if encoding == "i420" and step != width:  # the colour planes have half the step, and half the padding
        brightness = data[: height * step].reshape(height, step)[:, :width]
        colour = data[height * step :].reshape(height, step // 2)[:, : width // 2]
        planes = np.concatenate((brightness.ravel(), colour.ravel())).reshape(rows, width)
    else:
        planes = data.reshape(rows, step)[:, :width]
    return convert(planes, PLANAR[encoding])


def _turned(rgb: Uint8Array, rotate: int) -> Uint8Array:
    if rotate == 0:
        return rgb
    if rotate not in _ROTATIONS:
        raise ValueError(f"rotate must be 0, 90, 180 or 270, not {rotate}")
    return cv2.rotate(rgb, _ROTATIONS[rotate])  # type: ignore[return-value]
