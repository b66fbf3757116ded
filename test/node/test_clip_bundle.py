# SPDX-License-Identifier: Apache-2.0
"""Bundles laid out like that of the paper's model, over DDS: extractors that see clips, and a window of one slot."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from node.harness import Received, Robot, node_and_robot, picture
from toy_bundle import make_toy_bundle

from karmma_ros.cli.main import main
from karmma_ros.recognizer import Recognizer

if TYPE_CHECKING:
    from karmma_training.config import Config
    from karmma_training.data.labels import Labels

WIDTH = 16  # of a flow field
CLIP = 4  # samples that an extractor sees at once
REACH_NS = (CLIP + 1) * 10**9 // 15  # of a clip and the wait for its last sample, and more
RATE = 16_000  # [Hz] of the sound
Sample = tuple[int, np.ndarray]  # stamp; image, flow field [pixels per second] or sound


def play(r: Robot) -> list[tuple[Sample, Sample, Sample]]:
    """Sends 40 times a flow field, the sound up to then and, some 20 ms later, a frame; then, when a prediction from it
    is there, some 30 ms pass."""
    sent = []
    rng, begin_ns, heard = np.random.default_rng(0), time.time_ns(), 0
    for index in range(40):
        field = (time.time_ns(), np.full((12, WIDTH, 2), 8 + 2 * (index % 7), np.float32))
        count = (field[0] - begin_ns) * RATE // 10**9 - heard
        level = 0.02 + 0.1 * (index % 5)
        sound = (begin_ns + heard * 10**9 // RATE, rng.uniform(-level, level, count).astype(np.float32))
        heard += count
        if count:
            r.send_sound(*sound, RATE)
        r.send_flow(*field)
        r.pause(0.02)
        frame = (time.time_ns(), picture(40 + 17 * (index % 11), index) // np.array([1, 2, 3], np.uint8))
        r.send_image(*frame)
        # Its own, or the timer's, where the frame came so late that its moment had been predicted.
        r.wait("its prediction", lambda count=index + 1: any(seen(p)[0] == count for p in r.predictions))
        r.pause(0.03)
        sent.append((field, sound, frame))
    return sent


def seen(prediction: Received) -> list[int]:
    """How many frames and fields the node had, and how many of these it passed over."""
    return [count for m in map(prediction.modality, ("video", "flow")) for count in (m.received, m.skipped)]


def paper_at_reduced_size(*changes: str) -> tuple[Config, Labels]:
    """The `paper` preset with smaller pictures, shorter clips and less sound."""
    for needed in ("torch", "torchvision"):
        if find_spec(needed) is None:
            pytest.skip(f"the preset needs {needed}")
    from karmma_training.config_file import apply_overrides
    from karmma_training.data.labels import Labels
    from karmma_training.presets import preset

    small = [f"{m}.{change}" for m in ("video", "flow") for change in ("height=32", "width=32", f"context={CLIP}")]
    small += ["audio.context=3200", "audio.mels=32", "video.weights=''", "flow.weights=''"]
    config = apply_overrides(preset("paper", "baseline"), [*small, *changes])
    return config, Labels.from_names({"verb": ["a", "b"], "noun": ["x", "y", "z"]}, [("a", "x"), ("b", "y")])


def make_paper_layout(folder: Path) -> Path:
    """The preset's wiring around networks that are exported in seconds, untrained."""
    small = [f"{m}.{change}" for m in ("video", "flow") for change in ("backbone=torchvision:mc3_18", "dim=512")]
    config, labels = paper_at_reduced_size(*small, "audio.channels=[16,24,32,48]", "audio.dim=48")
    import torch

    from karmma_training.bundle.export import export_bundle
    from karmma_training.networks.model import build_model

    torch.manual_seed(0)
    folder.mkdir()
    model = build_model(config, labels.sizes()).eval()
    export_bundle(folder, "paper", model, config, labels, {"verb": 1.0, "noun": 1.0})
    return folder


def export_paper(folder: Path) -> Path:
    """The preset's own networks, Swin3D-T for video and flow, out of a run folder by the command; untrained."""
    config, labels = paper_at_reduced_size()
    import torch

    from karmma_training.checkpoint import save_tensors
    from karmma_training.config_file import save_config
    from karmma_training.networks.model import build_model

    torch.manual_seed(0)
    run = folder.with_name("run")
    run.mkdir()
    save_config(config, run / "config.yaml")
    untrained = dict.fromkeys(("action", "verb", "noun"), 0.0)
    about = {"epoch": 0, "validation": {"video+flow+audio": untrained}, "temperature": {"verb": 1.0, "noun": 1.0}}
    weights = build_model(config, labels.sizes()).state_dict()
    save_tensors(run / "best.pt", {"weights": weights}, about | {"labels": labels.to_json()})
    assert main(["export", str(run), "--out", str(folder)]) == 0
    return folder


def make_clip_toy(folder: Path) -> Path:
    return make_toy_bundle(folder, window_s=0.2, clip=CLIP, slots=1)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_clip_toy, id="toy"),
        pytest.param(make_paper_layout, id="paper layout"),
        pytest.param(export_paper, marks=pytest.mark.full, id="paper"),
    ],
)
def test_a_window_of_one_clip_is_filled_and_recognised(
    tmp_path: Path, ros_env: dict[str, str], make: Callable[[Path], Path]
) -> None:
    """The scores are the recogniser's for the same samples, wherever all of them have arrived."""
    bundle = make(tmp_path / "bundle")
    # what is made of a camera's pictures is not used where the camera was not heard: so not, here, the first field
    with node_and_robot(tmp_path / "log", ros_env, bundle=bundle, flow__source="independent") as (_, r):
        r.wait_matched()
        sent = play(r)
        predictions = list(r.predictions)
    heard = {p.stamp_ns: p for p in predictions if p.camera}
    lapses = [p.stamp_ns for p in predictions if {p.state("video"), p.state("flow")} != {"OK"}]
    recognizer, compared = Recognizer(bundle, providers="cpu"), 0
    assert {m: spec.slots for m, spec in recognizer.bundle.modalities.items()} == {"video": 1, "flow": 1, "audio": 1}
    for count, (field, sound, frame) in enumerate(sent, start=1):
        recognizer.push("audio", *sound)
        recognizer.push("flow", field[0], field[1] / WIDTH)
        recognizer.push("video", *frame)
        expected = recognizer.predict(frame[0])
        said = heard.get(frame[0])
        if said is None or seen(said) != [count, 0, count, 0]:
            continue  # on a busy machine frame and field may be late, and overtake each other
        if any(frame[0] - REACH_NS < stamp <= frame[0] for stamp in lapses):
            continue  # or so late that a sensor was stale, and what it sent until it was trusted again not used
        if said.modality("audio").coverage != expected.coverages["audio"]:
            continue  # or the sound is late
        assert said.message.coverage == pytest.approx(expected.coverage)
        if expected.coverage < 1.0:
            continue  # the clip is longer than what has been sent
        assert said.scores() == pytest.approx({label.name: label.score for label in expected.verbs}, abs=1e-6)
        compared += 1
    assert compared >= 10
