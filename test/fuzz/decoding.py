# SPDX-License-Identifier: Apache-2.0
"""A message through its decoder, the gate of its sensor and the preparation for the network: from it to an outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from fuzz.inputs import SOUNDS, settings

from karmma_ros.content import make_gate
from karmma_ros.decode import check_stamp, compressed_to_rgb, flow_to_field, image_to_rgb, scale_flow
from karmma_ros.decode_audio import audio_seconds, audio_to_chunk, info_to_format
from karmma_ros.errors import SampleError
from karmma_ros.samples import prepare_flow, prepare_image, to_mono

__all__ = ["SIZE_CAUSES", "decoded", "sound_of"]

MAX_PIXELS = 10_000
# Causes that the sizes alone give; whatever else is said, the content was looked at.
SIZE_CAUSES = {
    "audio chunk is too large",
    "audio chunk is too long",
    "audio has a wrong size",
    "audio has no usable number of channels",
    "audio is empty",
    "image has no data",
    "image is empty",
    "image is too large",
    "malformed message",
    "odd size",
    "too many detections",
    "wrong data size",
    "wrong step",
}


def decoded(kind: str, made: Any, user: Any = None) -> str:
    """The outcome of a message; user: what was set, see `inputs.settings`."""
    user = user or settings(b"")
    try:
        if kind in SOUNDS:
            make_gate("audio").judge(1, *sound_of(kind, made))
        elif kind == "flow":
            field = scale_flow(flow_to_field(made, max_pixels=MAX_PIXELS), user.unit, user.dt_s)
            make_gate("flow").judge(1, field)
            assert np.isfinite(prepare_flow(field, (48, 64))).all()
        else:
            to_rgb = image_to_rgb if kind == "image" else compressed_to_rgb
            rgb = to_rgb(made, max_pixels=MAX_PIXELS, rotate=user.rotate)
            assert rgb.dtype == np.uint8
            assert rgb.ndim == 3
            assert rgb.shape[2] == 3
            assert rgb.shape[0] * rgb.shape[1] <= MAX_PIXELS
            make_gate("video").judge(1, rgb)
            assert prepare_image(rgb, (72, 96)).shape == (72, 96, 3)
        check_stamp(user.stamp_ns, user.clock_ns, tolerance_s=0.5)
    except SampleError as error:
        return "size" if error.cause in SIZE_CAUSES else "content"
    return "accepted"


def sound_of(kind: str, made: Any) -> tuple[npt.NDArray[np.float32], int]:
    pcm = info_to_format(made.info) if kind == "audio_data" else None
    chunk, rate = audio_to_chunk(made, max_seconds=10.0, pcm=pcm)
    assert chunk.dtype == np.float32
    assert chunk.ndim == 2
    assert np.isfinite(chunk).all()
    assert abs(audio_seconds(made, pcm) * rate - len(chunk)) < 1e-3
    mono = to_mono(chunk)
    assert np.isfinite(mono).all()
    return mono, rate
