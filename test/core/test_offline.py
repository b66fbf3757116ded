# SPDX-License-Identifier: Apache-2.0
"""Recorded sensors are believed when a node would believe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_bundle import make_toy_bundle

from karmma_ros.health import SensorState
from karmma_ros.offline import OfflineSensors
from karmma_ros.recognizer import Recognizer

NS = 1_000_000_000
STEP_NS = NS // 30


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy bundle that no test may change."""
    return make_toy_bundle(tmp_path_factory.mktemp("toy") / "toy")


class Pushed:
    """Sensors before a recogniser, and the stamps of what reached it."""

    def __init__(self, bundle: Path) -> None:
        recognizer = Recognizer(bundle, providers="cpu")
        self.sensors = OfflineSensors(recognizer)
        self.stamps: list[int] = []
        push = recognizer.push

        def keep(modality: str, stamp_ns: int, *sample: Any) -> int:
            self.stamps.append(stamp_ns)
            return push(modality, stamp_ns, *sample)

        recognizer.push = keep  # type: ignore[method-assign]

    def frame(self, number: int) -> SensorState:
        rgb = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        return self.sensors.push("video", NS + number * STEP_NS, rgb)


def test_after_an_outage_nothing_is_encoded_until_the_sensor_is_believed_again(bundle: Path) -> None:
    camera = Pushed(bundle)
    for number in range(30):
        camera.frame(number)
    camera.stamps.clear()
    after = range(60, 70)  # a second later
    states = [camera.frame(number) for number in after]
    assert states[:2] == [SensorState.STALE] * 2
    assert set(states[2:]) == {SensorState.OK}
    assert camera.stamps == [NS + number * STEP_NS for number in after[2:]]


def test_a_sensor_that_repeats_its_last_sample_is_stale(bundle: Path) -> None:
    camera = Pushed(bundle)
    for number in range(30):
        camera.frame(number)
    rgb = np.zeros((24, 32, 3), np.uint8)
    stamp = NS + 29 * STEP_NS
    states = [camera.sensors.push("video", stamp, rgb, arrived_ns=stamp + late * STEP_NS) for late in range(1, 10)]
    assert states == [SensorState.OK] * 3 + [SensorState.STALE] * 6


def test_what_cannot_be_encoded_is_counted_as_rejected(bundle: Path) -> None:
    camera = Pushed(bundle)
    camera.sensors.push("video", NS, np.random.default_rng(0).random((24, 32, 3)))  # not uint8
    assert camera.sensors.statuses(NS)["video"].rejected == 1
