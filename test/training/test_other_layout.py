# SPDX-License-Identifier: Apache-2.0
"""A student and a teacher that sees the same moments in slots and clips of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console  # noqa: E402

import karmma_training.learning.train  # noqa: E402
from karmma_training.checkpoint import load_model  # noqa: E402
from karmma_training.config import Config  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.grid import contexts, slot_specs  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.recording import Recording  # noqa: E402
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording  # noqa: E402
from karmma_training.data.windows import WindowSampler  # noqa: E402
from karmma_training.learning.losses import classification_loss, student_loss  # noqa: E402
from karmma_training.learning.objective import Objective  # noqa: E402
from karmma_training.learning.train import Trainer, load_teacher  # noqa: E402
from karmma_training.networks.model import Student, Teacher, TensorBatch  # noqa: E402
from karmma_training.presets import as_system, preset  # noqa: E402

LABELS = Labels.from_names({"action": ["a", "b"]}, [("a",), ("b",)])
SECONDS, FPS = 6.0, 30
OTHER = ["video.slots=4", "video.spacing_s=0.5", "flow.delay_s=0", "audio.context=9600", "audio.slots=3"]


@pytest.fixture(scope="module")
def config() -> Config:
    return apply_overrides(preset("tiny", "baseline-dropout"), ["train.alone_weight=1"])


@pytest.fixture(scope="module")
def other(config: Config) -> Config:
    """A teacher of another layout."""
    return apply_overrides(as_system(config, "teacher"), OTHER)


@pytest.fixture(scope="module")
def recordings(config: Config, tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """One with everything, one that lacks flow; every frame and sample of sound tells its place."""
    folder, form, rng = tmp_path_factory.mktemp("layout"), StoreFormat.of(config), np.random.default_rng(0)
    count = int(SECONDS * FPS)
    stamps = [i * 10**9 // FPS for i in range(count)]
    out: list[Recording] = []
    for number in range(2):
        frames = [np.full((form.video_height, form.video_width, 3), i, np.uint8) for i in range(count)]
        flow = [np.full((form.flow_height, form.flow_width, 2), i / 100, np.float32) for i in range(count)]
        write_recording(
            folder / str(number),
            form,
            frames=zip(stamps, frames, strict=True),
            flows=zip(stamps, flow, strict=True) if number == 0 else (),
            sound=[rng.uniform(-0.1, 0.1, int(SECONDS * form.rate)).astype(np.float32)],
            meta={"name": str(number), "intervals": [[0.0, 3.0, "a"], [3.0, SECONDS, "b"]]},
        )
        out.append(StoredRecording(folder / str(number), LABELS))
    return out


def plain(config: Config) -> Config:
    """Nothing hidden but modalities, nothing changed, nothing jittered."""
    settings = ["dropout.runs_p=0", "dropout.full_share=1", "sensors.jitter_s=0", "sensors.loss_p=0"]
    settings += [f"augment.{name}=0" for name in ("brightness", "contrast", "colour", "permute_p", "mirror_p", "shift")]
    return apply_overrides(config, [*settings, "augment.scale=0", "augment.gain_db=0", "augment.noise_p=0"])


def test_both_see_the_same_moments_without_the_same_modalities(
    config: Config, other: Config, recordings: list[Recording]
) -> None:
    batch = WindowSampler(recordings, config, batch=64, seed=0, beside=other).batch(0)
    beside = batch.beside
    assert beside is not None
    assert np.array_equal(batch.origin, beside.origin)
    assert np.array_equal(batch.targets, beside.targets)
    specs = slot_specs(other)
    for m, spec in specs.items():
        assert beside.present[m].shape == (64, spec.slots)
        absent = ~batch.present[m].any(1)
        heard = beside.present[m].any(1)
        if m == "audio":  # a longer context is there later
            assert not heard[absent & (batch.origin[:, 1] > 1_500_000_000)].any()
        else:
            dropped = absent & (batch.origin[:, 1] > 1_000_000_000)
            # runs of tokens are the student's own: where all of its are gone, the teacher may still see
            assert heard[dropped].mean() < 0.35
            assert dropped.any()
    assert beside.samples["audio"].shape[1:] == (9600,)
    without = WindowSampler(recordings, config, batch=64, seed=0).batch(0)
    for m, values in without.samples.items():
        assert np.array_equal(values, batch.samples[m]), "a teacher beside changes nothing for the student"


def test_with_the_same_layout_it_is_the_same_batch(config: Config, recordings: list[Recording]) -> None:
    config = plain(config)
    batch = WindowSampler(recordings, config, batch=32, seed=3, beside=as_system(config, "teacher")).batch(0)
    assert batch.beside is not None
    for m, values in batch.samples.items():
        assert np.array_equal(batch.present[m], batch.beside.present[m])
        assert np.array_equal(values, batch.beside.samples[m])


def test_a_clip_ends_where_the_window_does(config: Config, recordings: list[Recording]) -> None:
    config = plain(config)
    settings = ["video.slots=1", "video.context=4", "video.context_step_s=0.2", "video.backbone=torchvision:r3d_18"]
    clips = apply_overrides(as_system(config, "teacher"), settings)
    assert contexts(clips)["video"].count == 4
    batch = WindowSampler(recordings, config, batch=32, seed=3, beside=clips).batch(0)
    assert batch.beside is not None
    here = batch.beside.present["video"][:, 0]
    assert here.any()
    for clip, (_, t_ns) in zip(batch.beside.samples["video"], batch.origin[here], strict=True):
        levels = clip[:, 0, 0, 0].astype(int)
        newest = levels[-1]
        assert abs(newest - t_ns / 1e9 * FPS) <= 3, "the newest frame that was delivered"
        expected = [max(0, newest - 6 * back) for back in (3, 2, 1, 0)]
        np.testing.assert_allclose(levels, expected, atol=1)


def test_where_the_teacher_saw_nothing_the_truth_alone_counts() -> None:
    torch.manual_seed(0)
    logits = {"action": torch.randn(6, 3, requires_grad=True)}
    opinion, targets = {"action": torch.randn(6, 3)}, torch.arange(6)[:, None] % 3
    settings = {"alpha": 0.7, "temperature": 2.0, "smoothing": 0.1}
    everywhere = student_loss(logits, opinion, targets, heard=torch.ones(6, dtype=torch.bool), **settings)
    torch.testing.assert_close(everywhere, student_loss(logits, opinion, targets, **settings))
    nowhere = torch.zeros(6, dtype=torch.bool)
    deaf = {"action": torch.full((6, 3), torch.nan)}
    alone = student_loss(logits, deaf, targets, heard=nowhere, **settings)
    torch.testing.assert_close(alone, classification_loss(logits, targets, 0.1))
    alone.backward()
    assert torch.isfinite(logits["action"].grad).all()
    half = torch.arange(6) < 3
    some = {"action": torch.where(half[:, None], opinion["action"], torch.nan)}
    mixed = student_loss(logits, some, targets, heard=half, **settings)
    parts = [
        student_loss({"action": logits["action"][:3]}, {"action": opinion["action"][:3]}, targets[:3], **settings),
        classification_loss({"action": logits["action"][3:]}, targets[3:], 0.1),
    ]
    torch.testing.assert_close(mixed, sum(parts) / 2)


def test_views_reach_the_teacher_by_modality(config: Config, other: Config, recordings: list[Recording]) -> None:
    """The view of a modality alone: the teacher hears that one alone too, in its own slots."""
    arrays = WindowSampler(recordings, config, batch=24, seed=1, beside=other).batch(0)
    batch = TensorBatch.of(arrays)
    assert batch.beside is not None
    teacher = Teacher(other, LABELS.sizes()).eval()
    view = {m: here & (m == "audio") for m, here in batch.present.items()}
    opinions, heard = Objective(config, teacher)._opinions(batch, [batch.present, view])
    assert len(opinions) == len(heard) == 2
    assert heard[1] is not None
    expected = batch.beside.present["audio"].any(1) & batch.present["audio"].any(1)
    assert torch.equal(heard[1], expected)
    alone = {m: here & expected[:, None] & (m == "audio") for m, here in batch.beside.present.items()}
    (said,) = teacher(batch.beside, [alone])
    assert opinions[1] is not None
    torch.testing.assert_close(opinions[1]["action"][expected], said["action"][expected])


def test_a_student_is_trained_by_it_and_leaves_it_as_it_was(
    config: Config, other: Config, recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its extractors run beside the student's, whose training must not reach their statistics either."""
    teachers = []

    def load(*args: Any) -> Any:
        teacher, its_config = load_teacher(*args)
        teachers.append(teacher)
        return teacher, its_config

    monkeypatch.setattr(karmma_training.learning.train, "load_teacher", load)
    fast = ["train.epochs=1", "train.windows_per_second=8", "train.batch=16", "train.threads=1", "train.ema=0.5"]
    fast += [f"pretrain.{m}=0" for m in ("video", "flow", "audio")]

    def fit(config: Config, name: str, *settings: str) -> Trainer:
        run = apply_overrides(copy.deepcopy(config), [*fast, *settings])
        trainer = Trainer(run, LABELS, recordings, recordings, tmp_path / name, Console(quiet=True), store=tmp_path)
        trainer.fit()
        return trainer

    fit(other, "teacher")
    student = fit(config, "student", f"distillation.teacher={tmp_path / 'teacher'}")
    assert isinstance(student.model, Student)
    assert student.progress.step == student.total > 3
    assert slot_specs(student.config)["video"].slots != slot_specs(other)["video"].slots
    (teacher,) = teachers
    saved = load_model(tmp_path / "teacher")[0].state_dict()
    assert any("running_mean" in name for name in saved)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, saved[name]), name
