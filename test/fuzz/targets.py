# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: from bytes to an outcome. Anything but an outcome, that is an exception, is a finding."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from fuzz.inputs import message, settings

from karmma_ros.content import make_gate
from karmma_ros.decode import audio_to_chunk, check_stamp, compressed_to_rgb, flow_to_field, image_to_rgb, scale_flow
from karmma_ros.errors import BundleError, SampleError, UsageError
from karmma_ros.inference.graph_file import has_external_data
from karmma_ros.manifest import decode_manifest, parse_manifest
from karmma_ros.samples import prepare_flow, prepare_image, to_mono
from karmma_training.config import Config
from karmma_training.config_file import load_config
from karmma_training.data.store import StoreFormat
from karmma_training.datasets.manifest import ManifestSource

__all__ = ["MAX_PIXELS", "TARGETS"]

MAX_PIXELS = 10_000
# Causes that the sizes alone give; whatever else is said, the content was looked at.
SIZE_CAUSES = {
    "audio has a wrong size",
    "audio has no usable number of channels",
    "audio is empty",
    "image has no data",
    "image is empty",
    "image is too large",
    "malformed message",
    "odd size",
    "wrong data size",
    "wrong step",
}


def decoders(data: bytes) -> str:
    """A message through its decoder, the gate of its sensor and the preparation for the network."""
    kind, made = message(data)
    user = settings(data)
    try:
        if kind == "audio":
            chunk, rate = audio_to_chunk(made, max_seconds=10.0)
            assert chunk.dtype == np.float32
            assert chunk.ndim == 2
            assert np.isfinite(chunk).all()
            make_gate("audio").judge(1, chunk, rate)
            assert np.isfinite(to_mono(chunk)).all()
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


def bundles(data: bytes) -> str:
    """The text of a manifest; and the same bytes as a graph's."""
    with contextlib.suppress(ValueError):
        has_external_data(data)
    try:
        parse_manifest(decode_manifest(data, "bundle"), "bundle")
    except BundleError:
        return "refused"
    return "accepted"


def configs(data: bytes) -> str:
    """A run's settings, from YAML."""
    try:
        load_config(_file("config.yaml", data)).check()
    except UsageError:
        return "refused"
    return "accepted"


def manifests(data: bytes) -> str:
    """A CSV of somebody's recordings; none of its files exist."""
    try:
        ManifestSource(_file("clips.csv", data), StoreFormat.of(Config())).jobs("train", None)
    except UsageError:
        return "refused"
    return "accepted"


def _file(name: str, data: bytes) -> Path:
    path = Path(name)  # the driver runs in a folder of its own
    path.write_bytes(data)
    return path


TARGETS = {"decoders": decoders, "bundles": bundles, "configs": configs, "manifests": manifests}
