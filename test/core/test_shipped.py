# SPDX-License-Identifier: Apache-2.0
"""The bundles that ship: the one in fewer bits says what the one it was made from says."""

from __future__ import annotations

import numpy as np
import pytest

from karmma_ros.bundle import load_bundle, read_evaluation
from karmma_ros.flow import FlowProducer
from karmma_ros.recognizer import Recognizer
from karmma_ros.tabletop.sequence import make_sequence

FPS, RATE = 30, 16000


@pytest.mark.parametrize("sensors", [("video", "flow", "audio"), ("flow",)])
def test_fewer_bits_name_the_same_actions(sensors: tuple[str, ...]) -> None:
    shipped, exact = (Recognizer(name, providers="cpu") for name in ("tabletop", "tabletop-fp32"))
    assert shipped.bundle.precisions == {"int8"}
    assert exact.bundle.precisions == {"fp32"}
    producer = shipped.bundle.modalities["flow"].producer
    assert producer is not None
    scene = make_sequence(3, "test", duration_s=12.0, size=(160, 120), fps=FPS)
    flow = FlowProducer(producer.size, producer.preset)
    sound = scene.sound()
    same, apart = [], []
    for i, frame in enumerate(scene.frames()):
        stamp = i * 10**9 // FPS
        field = flow.push(stamp, frame)
        for recognizer in (shipped, exact):
            if "video" in sensors:
                recognizer.push("video", stamp, frame)
            if field is not None:
                recognizer.push("flow", stamp, field)
            if "audio" in sensors:
                begin, end = (round(n * RATE / FPS) for n in (i, i + 1))
                recognizer.push("audio", begin * 10**9 // RATE, sound[begin:end], RATE)
        few, many = (recognizer.predict(stamp) for recognizer in (shipped, exact))
        if few.scores is None or many.scores is None:
            assert few.status is many.status
            continue
        same.append(few.scores.argmax() == many.scores.argmax())
        apart.append(float(np.abs(few.scores - many.scores).max()))
    assert len(same) > 11 * FPS
    assert np.mean(same) > 0.95
    assert 0 < np.median(apart) < 0.02, "fewer bits were used, and differ little"


def test_fewer_bits_cost_less_than_half_a_point() -> None:
    """As it was measured, on the test split, for every subset of the sensors."""
    few, many = (read_evaluation(load_bundle(name).folder) for name in ("tabletop", "tabletop-fp32"))
    for key in ("split", "windows", "data"):
        assert few[key] == many[key]
    means = [np.mean([scores["action"] for scores in found["subsets"].values()]) for found in (few, many)]
    assert means[0] > means[1] - 0.005
