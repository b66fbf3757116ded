# SPDX-License-Identifier: Apache-2.0
"""A bundle laid out like that of the paper's model, over DDS: extractors that see clips, and a window of one slot."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from node.harness import Received, Robot, node_and_robot, picture
from toy_bundle import make_toy_bundle

from karmma_ros.recognizer import Recognizer

WIDTH = 16  # of a flow field
Sample = tuple[int, np.ndarray]  # stamp, image or flow field [pixels per second]


def play(r: Robot) -> list[tuple[Sample, Sample]]:
    """Sends 30 times a flow field and a frame, some 50 ms apart, when the prediction for the last frame is there."""
    sent = []
    for index in range(30):
        field = (time.time_ns(), np.full((12, WIDTH, 2), 8 + 2 * (index % 7), np.float32))
        r.send_flow(*field)
        r.pause(0.02)
        frame = (time.time_ns(), picture(40 + 17 * (index % 11), index) // np.array([1, 2, 3], np.uint8))
        r.send_image(*frame)
        r.wait("its prediction", lambda stamp=frame[0]: any(p.camera and p.stamp_ns == stamp for p in r.predictions))
        r.pause(0.03)
        sent.append((field, frame))
    return sent


def seen(prediction: Received) -> list[int]:
    """How many frames and fields the node had, and how many of these it passed over."""
    return [count for m in map(prediction.modality, ("video", "flow")) for count in (m.received, m.skipped)]


def test_a_window_of_one_clip_is_filled_and_recognised(tmp_path: Path, ros_env: dict[str, str]) -> None:
    """The scores are the recogniser's for the same samples, wherever all of them have arrived."""
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("video", "flow"), window_s=0.2, clip=4, slots=1)
    # what is made of a camera's pictures is not used where the camera was not heard: so not, here, the first field
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, flow__source="independent") as (_, r):
        r.wait_matched(r.images, r.flows)
        sent = play(r)
        heard = {p.stamp_ns: p for p in r.predictions if p.camera}
    recognizer, compared = Recognizer(bundle, providers="cpu"), 0
    for count, (field, frame) in enumerate(sent, start=1):
        recognizer.push("flow", field[0], field[1] / WIDTH)
        recognizer.push("video", *frame)
        expected = recognizer.predict(frame[0])
        said = heard[frame[0]]
        if seen(said) != [count, 0, count, 0]:
            continue  # on a busy machine frame and field may overtake each other
        assert said.message.coverage == expected.coverage == 1.0
        assert said.scores() == pytest.approx({label.name: label.score for label in expected.verbs}, abs=1e-6)
        compared += 1
    assert compared >= 10
