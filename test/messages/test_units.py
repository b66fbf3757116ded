# SPDX-License-Identifier: Apache-2.0
"""Flow and sound arrive in the units that the core expects."""

import array
from types import SimpleNamespace

import numpy as np
import pytest

from karmma_ros.decode import audio_to_chunk, flow_to_field, scale_flow
from karmma_ros.errors import SampleError


def test_flow_is_read_with_padding_and_either_byte_order() -> None:
    field = np.random.default_rng(2).normal(size=(6, 10, 2)).astype(np.float32)
    for big, padding in ((0, 0), (0, 16), (1, 0), (1, 5), (0, 5)):
        rows = field.astype(">f4" if big else "<f4").view(np.uint8).reshape(6, 80)
        data = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)  # the padding would be NaN
        message = SimpleNamespace(
            encoding="32FC2", height=6, width=10, step=80 + padding, is_bigendian=big, data=data.tobytes()
        )
        np.testing.assert_array_equal(flow_to_field(message), field)


def test_flow_in_pixels_per_second_is_divided_by_the_width() -> None:
    field = np.empty((4, 8, 2), np.float32)
    field[..., 0], field[..., 1] = 16, -4
    scaled = scale_flow(field, "pixels_per_second")
    assert scaled.dtype == np.float32
    assert scaled[0, 0].tolist() == [2.0, -0.5]  # both by the width: not by the height


def test_flow_in_pixels_per_frame_is_divided_by_the_interval_too() -> None:
    field = np.full((4, 8, 2), 1.0, np.float32)
    assert scale_flow(field, "pixels_per_frame", 0.25)[0, 0].tolist() == [0.5, 0.5]
    for unknown in (None, 0.0, -0.1, float("nan")):
        with pytest.raises(SampleError, match="flow has no interval"):
            scale_flow(field, "pixels_per_frame", unknown)
    with pytest.raises(ValueError, match="unit"):
        scale_flow(field, "widths", 0.1)


def test_flow_that_overflows_is_refused() -> None:
    with pytest.raises(SampleError, match="flow is not finite"):
        scale_flow(np.full((4, 8, 2), 3e38, np.float32), "pixels_per_frame", 0.01)


def test_sound_keeps_its_channels_apart() -> None:
    interleaved = array.array("f", [0.25, -0.25, 0.5, -0.5, 0.75, -0.75])
    chunk, rate = audio_to_chunk(SimpleNamespace(sample_rate=44100, channels=2, samples=interleaved))
    assert rate == 44100
    assert chunk.dtype == np.float32
    assert chunk.tolist() == [[0.25, -0.25], [0.5, -0.5], [0.75, -0.75]]
    assert np.shares_memory(chunk, np.frombuffer(interleaved, np.float32))


def test_the_longest_chunk_is_a_setting() -> None:
    message = SimpleNamespace(sample_rate=1000, channels=1, samples=np.zeros(500, np.float32))
    assert audio_to_chunk(message, max_seconds=0.5)[0].shape == (500, 1)
    with pytest.raises(SampleError, match=r"audio chunk is too long: 0\.5 s, at most 0\.4 s"):
        audio_to_chunk(message, max_seconds=0.4)
