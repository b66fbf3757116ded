# SPDX-License-Identifier: Apache-2.0
"""Levels in dBFS."""

from __future__ import annotations

import math

import numpy as np
import pytest

from karmma_ros.microphones.levels import SILENCE, LevelMeter

SINE = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)


def test_a_sine_of_full_scale_peaks_at_0_and_has_an_rms_of_3_db_less() -> None:
    meter = LevelMeter()
    for part in np.split(SINE[:, np.newaxis], 10):
        meter.add(part)
    levels = meter.read()
    assert levels.peak_dbfs == pytest.approx(0.0, abs=0.01)
    assert levels.rms_dbfs == pytest.approx(-3.01, abs=0.01)


def test_a_tenth_of_the_amplitude_is_20_db_less_and_the_loudest_channel_counts() -> None:
    meter = LevelMeter()
    meter.add(np.stack([SINE / 1000, SINE / 10], axis=1))
    levels = meter.read()
    assert levels.peak_dbfs == pytest.approx(-20.0, abs=0.01)
    assert levels.rms_dbfs == pytest.approx(-23.01, abs=0.01)


def test_silence_and_nothing_at_all_are_minus_infinity() -> None:
    meter = LevelMeter()
    assert meter.read() == SILENCE
    meter.add(np.zeros((320, 1), np.float32))
    assert meter.read() == SILENCE
    assert math.isinf(SILENCE.rms_dbfs)


def test_reading_starts_anew_and_channels_may_change() -> None:
    meter = LevelMeter()
    meter.add(SINE[:, np.newaxis])
    meter.read()
    meter.add(SINE[:, np.newaxis] / 10)
    meter.add(np.stack([SINE, SINE], axis=1) / 100)  # another device: its rms alone
    levels = meter.read()
    assert levels.rms_dbfs == pytest.approx(-43.01, abs=0.01)
    assert levels.peak_dbfs == pytest.approx(-20.0, abs=0.01)
