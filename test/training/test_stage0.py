# SPDX-License-Identifier: Apache-2.0
"""Stage 0: what single samples are labelled with, and what it takes to try the finished extractors."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from accelerate import Accelerator  # noqa: E402
from rich.console import Console  # noqa: E402

from karmma_ros.errors import UsageError  # noqa: E402
from karmma_training.config import Config  # noqa: E402
from karmma_training.data.features import BATCH, encode_samples  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.recording import Context, Recording  # noqa: E402
from karmma_training.learning.pretrain import Pretraining, SampleSampler, unimodal_accuracy  # noqa: E402
from karmma_training.learning.run_log import RunLog  # noqa: E402
from karmma_training.networks.model import Student, Unimodal  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

LABELS = Labels.from_names({"action": ["idle", "stir"]}, [("idle",), ("stir",)])
FPS, RATE = 10, 16_000


class Filmed(Recording):
    """A camera of 10 Hz that stops at `filmed_s`, and sound until `heard_s`."""

    def __init__(self, config: Config, filmed_s: float, heard_s: float, *intervals: tuple[float, float, str]) -> None:
        stamps = {"video": (np.arange(round(filmed_s * FPS)) * 10**9 // FPS).astype(np.int64)}
        super().__init__("r", "a/b", LABELS, intervals, stamps=stamps, sound=(0, round(heard_s * RATE)), rate=RATE)
        self.size = (config.video.height, config.video.width, 3)

    def read(self, modality: str, which: np.ndarray) -> np.ndarray:
        return np.broadcast_to(which.astype(np.uint8)[:, None, None, None], (len(which), *self.size))

    def pcm(self, first: int, last: int) -> np.ndarray:
        return np.zeros(last - first, np.float32)


@pytest.fixture
def config() -> Config:
    config = preset("tiny")
    config.augment.brightness = config.augment.contrast = config.augment.colour = 0.0
    return config


def test_a_picture_from_before_the_action_does_not_show_it(config: Config) -> None:
    """The camera stops at 3 s; what is done from 5 s on is heard, but not seen."""
    recording = Filmed(config, 3.0, 9.0, (0.0, 3.0, "idle"), (5.0, 9.0, "stir"))
    _, seen = SampleSampler([recording], config, "video", batch=64, seed=0).batch(0)
    _, heard = SampleSampler([recording], config, "audio", batch=64, seed=0).batch(0)
    assert set(seen[:, 0].tolist()) == {0}
    assert set(heard[:, 0].tolist()) == {0, 1}
    with pytest.raises(UsageError, match="hardly any labelled moment has video"):
        SampleSampler([Filmed(config, 3.0, 9.0, (5.0, 9.0, "stir"))], config, "video", batch=4, seed=0).batch(0)


def test_an_extractor_learns_what_its_modality_shows(config: Config, tmp_path: Path) -> None:
    """Pictures get brighter, and from half of that on somebody stirs."""
    config.pretrain.video, config.pretrain.flow, config.pretrain.audio = 30.0, 0.0, 0.0
    config.pretrain.batch = 16
    recording = Filmed(config, 6.0, 6.0, (0.0, 3.0, "idle"), (3.0, 6.0, "stir"))
    model = Student(config, {"action": 2})
    before = copy.deepcopy(model.extractors.state_dict())
    log = RunLog(tmp_path, Console(quiet=True))
    Pretraining(model, [recording], [recording], config, Accelerator(cpu=True), log).run()
    told = re.search(r"stage 0, video: .* action ([\d.]+)", (tmp_path / "log.txt").read_text())
    assert told is not None
    assert float(told[1]) > 90, "half of them are right by chance"
    after = model.extractors.state_dict()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"video"}
    assert not model.extractors["video"].training
    assert all(parameter.requires_grad for parameter in model.extractors["video"].parameters())


def test_finished_extractors_are_tried_a_batch_at_a_time(config: Config) -> None:
    config.pretrain.batch = 8
    recording = Filmed(config, 6.0, 6.0, (0.0, 3.0, "idle"), (3.0, 6.0, "stir"))
    unimodal = Unimodal(Student(config, {"action": 2}), "video").eval()
    sizes: list[int] = []
    unimodal.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    with torch.no_grad():  # says "stir" of everything
        unimodal.classifier.weight.zero_()
        unimodal.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    accuracy = unimodal_accuracy(unimodal, [recording, recording], "video", config, {"action": 2})
    assert accuracy == {"action": pytest.approx(0.5)}
    assert sum(sizes) == 40, "every third frame"
    assert max(sizes) == 8


@pytest.mark.parametrize(("clip", "most"), [(1, BATCH), (32, BATCH // 32)])
def test_clips_are_encoded_with_as_many_frames_at_a_time_as_frames_are(config: Config, clip: int, most: int) -> None:
    recording = Filmed(config, 30.0, 30.0, (0.0, 30.0, "idle"))
    spec = Student(config, {"action": 2}).specs["video"]
    sizes: list[int] = []

    def encode(modality: str, samples: np.ndarray[Any, Any]) -> np.ndarray:
        assert samples.shape[1] == clip
        sizes.append(len(samples))
        return np.zeros((len(samples), spec.tokens, spec.dim), np.float32)

    context = Context(clip, 10**9 // FPS)
    tokens, readable = encode_samples(encode, recording, "video", np.arange(300), spec, context)
    assert len(tokens) == sum(sizes) == readable.sum() == 300
    assert max(sizes) == most
