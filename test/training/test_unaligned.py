# SPDX-License-Identifier: Apache-2.0
"""No sample has all modalities: recordings with pairs of them teach a model that combines all three.

A class is three bits. A picture shows the first, flow the second, sound the third, so any one modality names one class
in four. Every training recording lacks one modality, never corrupted, never made up: not recorded.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console  # noqa: E402

from karmma_training.config import Config  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.recording import Recording  # noqa: E402
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording  # noqa: E402
from karmma_training.learning.train import Trainer  # noqa: E402
from karmma_training.presets import as_system, preset  # noqa: E402

CLASSES = [f"class{i}" for i in range(8)]
LABELS = Labels.from_names({"action": CLASSES}, [(name,) for name in CLASSES])
SECONDS, FPS = 4.0, 30
SETTINGS = ["pretrain.video=0", "pretrain.flow=0", "pretrain.audio=0", "train.batch=32", "train.epochs=4"]
SETTINGS += ["train.lr=0.002", "train.windows_per_second=12", "train.warmup_epochs=0.3"]
SETTINGS += ["train.validate_every=4", "train.validate_step=20"]
STAGE_0 = ["pretrain.video=1", "pretrain.flow=1", "pretrain.audio=1", "pretrain.batch=64"]


def record(folder: Path, label: int, modalities: str, form: StoreFormat, seed: int) -> Recording:
    """A recording of one class that has only some of V, F, A."""
    rng = np.random.default_rng(seed)
    stamps = (np.arange(int(SECONDS * FPS)) * 1e9 / FPS).astype(np.int64)
    bits = [(label >> i) & 1 for i in range(3)]
    picture = np.full((form.video_height, form.video_width, 3), 60, np.uint8)
    half = form.video_width // 2
    picture[:, half if bits[0] else 0 :][:, :half] = 200
    frames = [np.clip(picture + rng.normal(0, 15, picture.shape), 0, 255).astype(np.uint8) for _ in stamps]
    size = (form.flow_height, form.flow_width, 2)
    flow = [rng.normal([0.0, 0.3 if bits[1] else -0.3], 0.1, size).astype(np.float32) for _ in stamps]
    t = np.arange(int(SECONDS * form.rate)) / form.rate
    sound = (0.3 * np.sin(2 * np.pi * (2500 if bits[2] else 600) * t) + rng.normal(0, 0.05, len(t))).astype(np.float32)
    write_recording(
        folder,
        form,
        frames=zip(stamps.tolist(), frames, strict=True) if "V" in modalities else None,
        flows=zip(stamps.tolist(), flow, strict=True) if "F" in modalities else (),
        sound=[sound] if "A" in modalities else None,
        meta={"name": folder.name, "intervals": [[0.0, SECONDS, CLASSES[label]]]},
    )
    return StoredRecording(folder, LABELS)


@pytest.fixture(scope="module")
def config() -> Config:
    config = apply_overrides(preset("tiny", "baseline-dropout"), SETTINGS)
    config.augment.mirror_p = 0.0  # left and right tell classes apart here
    return config


@pytest.fixture(scope="module")
def recordings(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Recording], list[Recording]]:
    """For training: pairs of modalities; to validate: complete ones."""
    folder, form = tmp_path_factory.mktemp("unaligned"), StoreFormat.of(config)
    train = [record(folder / f"train{i}", i % 8, ("VF", "VA", "FA")[i // 8], form, i) for i in range(24)]
    assert not any({"video", "flow", "audio"} <= r.modalities for r in train)
    return train, [record(folder / f"val{i}", i, "VFA", form, 100 + i) for i in range(8)]


@pytest.mark.parametrize("system", ["teacher and student", "baseline-dropout"])
def test_pairs_of_modalities_teach_all_three(
    tmp_path: Path, config: Config, recordings: tuple[list[Recording], list[Recording]], system: str
) -> None:
    config = copy.deepcopy(config)

    def fit(name: str, config: Config) -> dict[str, dict[str, float]]:
        trainer = Trainer(config, LABELS, *recordings, tmp_path / name, Console(quiet=True), store=tmp_path)
        trainer.fit()
        return trainer.validate()[0]

    if system != "baseline-dropout":
        assert_combines(fit("teacher", apply_overrides(as_system(config, "teacher"), STAGE_0)))
        config.distillation.teacher = str(tmp_path / "teacher")
    assert_combines(fit("run", config))


def assert_combines(scores: dict[str, dict[str, float]]) -> None:
    alone = {name: s["action"] for name, s in scores.items() if "+" not in name}
    assert max(alone.values()) < 0.35, "one bit of three names one class in four"
    assert scores["video+flow+audio"]["action"] > 0.8, scores
    pairs = {name: s["action"] for name, s in scores.items() if name.count("+") == 1}
    assert min(pairs.values()) > 0.35, "two bits name one class in two"
