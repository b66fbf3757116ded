# SPDX-License-Identifier: Apache-2.0
"""A bundle laid out like that of the paper's model, over DDS: extractors that see clips, and a window of one slot."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from node.harness import Received, Robot, node_and_robot, picture
from toy_bundle import make_toy_bundle

from karmma_ros.recognizer import Recognizer

WIDTH = 16  # of a flow field
CLIP = 4  # samples that an extractor sees at once
REACH_NS = (CLIP + 1) * 10**9 // 15  # of a clip and the wait for its last sample, and more
Sample = tuple[int, np.ndarray]  # stamp, image or flow field [pixels per second]


def play(r: Robot) -> list[tuple[Sample, Sample]]:
    """Sends 30 times a flow field and a frame, some 50 ms apart, each when a prediction from the last one is there."""
    sent = []
    for index in range(30):
        field = (time.time_ns(), np.full((12, WIDTH, 2), 8 + 2 * (index % 7), np.float32))
        r.send_flow(*field)
        r.pause(0.02)
        frame = (time.time_ns(), picture(40 + 17 * (index % 11), index) // np.array([1, 2, 3], np.uint8))
        r.send_image(*frame)
        # Its own, or the timer's, where the frame came so late that its moment had been predicted.
        r.wait("its prediction", lambda count=index + 1: any(seen(p)[0] == count for p in r.predictions))
        r.pause(0.03)
        sent.append((field, frame))
    return sent


def seen(prediction: Received) -> list[int]:
    """How many frames and fields the node had, and how many of these it passed over."""
    return [count for m in map(prediction.modality, ("video", "flow")) for count in (m.received, m.skipped)]


def make_paper_layout(folder: Path) -> Path:
    """The `paper` preset's wiring around networks that are exported in seconds, at reduced size, untrained."""
    for needed in ("torch", "torchvision"):
        if find_spec(needed) is None:
            pytest.skip(f"the preset needs {needed}")
    import torch

    from karmma_training.bundle.export import export_bundle
    from karmma_training.config_file import apply_overrides
    from karmma_training.data.labels import Labels
    from karmma_training.networks.model import build_model
    from karmma_training.presets import preset

    small = ("height=32", "width=32", "weights=''", f"context={CLIP}", "backbone=torchvision:mc3_18", "dim=512")
    changes = [f"{modality}.{change}" for modality in ("video", "flow") for change in small]
    config = apply_overrides(preset("paper", "baseline"), [*changes, "modalities=[video,flow]"])
    labels = Labels.from_names({"verb": ["a", "b"], "noun": ["x", "y", "z"]}, [("a", "x"), ("b", "y")])
    torch.manual_seed(0)
    folder.mkdir()
    model = build_model(config, labels.sizes()).eval()
    export_bundle(folder, "paper", model, config, labels, {"verb": 1.0, "noun": 1.0})
    return folder


def make_clip_toy(folder: Path) -> Path:
    return make_toy_bundle(folder, modalities=("video", "flow"), window_s=0.2, clip=CLIP, slots=1)


@pytest.mark.parametrize(
    "make",
    [pytest.param(make_clip_toy, id="toy"), pytest.param(make_paper_layout, id="paper layout")],
)
def test_a_window_of_one_clip_is_filled_and_recognised(
    tmp_path: Path, ros_env: dict[str, str], make: Callable[[Path], Path]
) -> None:
    """The scores are the recogniser's for the same samples, wherever all of them have arrived."""
    bundle = make(tmp_path / "bundle")
    # what is made of a camera's pictures is not used where the camera was not heard: so not, here, the first field
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, flow__source="independent") as (_, r):
        r.wait_matched(r.images, r.flows)
        sent = play(r)
        predictions = list(r.predictions)
    heard = {p.stamp_ns: p for p in predictions if p.camera}
    lapses = [p.stamp_ns for p in predictions if {p.state("video"), p.state("flow")} != {"OK"}]
    recognizer, compared = Recognizer(bundle, providers="cpu"), 0
    for count, (field, frame) in enumerate(sent, start=1):
        recognizer.push("flow", field[0], field[1] / WIDTH)
        recognizer.push("video", *frame)
        expected = recognizer.predict(frame[0])
        said = heard.get(frame[0])
        if said is None or seen(said) != [count, 0, count, 0]:
            continue  # on a busy machine frame and field may be late, and overtake each other
        if any(frame[0] - REACH_NS < stamp <= frame[0] for stamp in lapses):
            continue  # or so late that a sensor was stale, and what it sent until it was trusted again not used
        assert said.message.coverage == expected.coverage
        if expected.coverage < 1.0:
            continue  # the clip is longer than what has been sent
        assert said.scores() == pytest.approx({label.name: label.score for label in expected.verbs}, abs=1e-6)
        compared += 1
    assert compared >= 10
