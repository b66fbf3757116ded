# SPDX-License-Identifier: Apache-2.0
"""Stages 1 and 2: what is frozen stays, what is missing is missing for both, and the loss is the paper's."""

from __future__ import annotations

import copy
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from karmma_ros.errors import KarmmaError, UsageError  # noqa: E402
from karmma_training.checkpoint import load_model  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.data.features import FeatureCache, make_features  # noqa: E402
from karmma_training.data.windows import WindowSampler  # noqa: E402
from karmma_training.evaluation.predictor import ModelPredictor  # noqa: E402
from karmma_training.learning.losses import alone_view, classification_loss, distillation_loss, student_loss  # noqa: E402
from karmma_training.learning.objective import Objective  # noqa: E402
from karmma_training.learning.train import Trainer  # noqa: E402
from karmma_training.networks.model import Student, Teacher, TensorBatch  # noqa: E402
from karmma_training.presets import as_system  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.training import TinyRun


def test_kl_against_a_hand_computed_value() -> None:
    teacher = {"verb": torch.log(torch.tensor([[0.5, 0.25, 0.25]]))}
    student = {"verb": torch.log(torch.tensor([[0.2, 0.4, 0.4]]))}
    # sum p log(p / q) = .5 log(.5 / .2) + 2 * .25 log(.25 / .4)
    want = 0.5 * math.log(2.5) + 0.5 * math.log(0.625)
    assert distillation_loss(student, teacher, 1.0).item() == pytest.approx(want, rel=1e-5)
    # at T = 2 the distributions are proportional to the square roots: (1, r, r) and (1, s, s)
    r, s = math.sqrt(0.5), math.sqrt(2)
    z, y = 1 + 2 * r, 1 + 2 * s
    want = 4 * (math.log((1 / z) / (1 / y)) / z + 2 * r / z * math.log((r / z) / (s / y)))
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(want, rel=1e-5)


def test_kl_is_of_the_teacher_against_the_student_and_summed_over_heads() -> None:
    a, b = {"verb": torch.tensor([[3.0, 0.0]])}, {"verb": torch.tensor([[0.0, 0.5]])}
    assert distillation_loss(a, b, 1.0) != pytest.approx(distillation_loss(b, a, 1.0).item(), rel=0.05)
    both = distillation_loss({**a, "noun": a["verb"]}, {**b, "noun": b["verb"]}, 1.0)
    assert both.item() == pytest.approx(2 * distillation_loss(a, b, 1.0).item())
    assert distillation_loss(a, a, 3.0).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_alpha_weighs_the_teacher_against_the_truth(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, opinion = ({"verb": torch.randn(6, 4, generator=generator)} for _ in range(2))
    targets = torch.arange(6)[:, None] % 4
    got = student_loss(logits, opinion, targets, alpha=alpha, temperature=2.0)
    want = alpha * distillation_loss(logits, opinion, 2.0) + (1 - alpha) * classification_loss(logits, targets)
    assert got.item() == pytest.approx(want.item())
    alone = student_loss(logits, None, targets, alpha=alpha, temperature=2.0)
    assert alone.item() == pytest.approx(classification_loss(logits, targets).item()), "no teacher: CE, whatever alpha"


def test_alone_view_keeps_one_modality_that_was_there() -> None:
    present = {m: torch.rand(200, 5, generator=torch.Generator().manual_seed(i)) < 0.3 for i, m in enumerate("vfa")}
    present["v"][:, 0] = True
    view = alone_view(present)
    kept = torch.stack([v.any(1) for v in view.values()], 1)
    assert (kept.sum(1) == 1).all()
    for m, here in view.items():
        rows = here.any(1)
        assert torch.equal(here[rows], present[m][rows]), "all of its tokens"
    assert kept.any(0).all(), "each modality is drawn"


def make(tiny_run: TinyRun, tmp_path: Path, batch: int = 12) -> tuple[Teacher, Student, WindowSampler]:
    teacher, *_ = load_model(tiny_run.run / "teacher")
    assert isinstance(teacher, Teacher)
    torch.manual_seed(0)
    student = Student(tiny_run.config, tiny_run.labels.sizes())
    recordings = tiny_run.train[:3]
    encode = ModelPredictor(teacher, tiny_run.labels).encode
    make_features(tmp_path / "features", recordings, encode, teacher.specs, teacher.contexts, Console(quiet=True))
    cache = FeatureCache(tmp_path / "features", recordings, teacher.specs, teacher.contexts)
    return teacher, student, WindowSampler(recordings, tiny_run.config, batch=batch, seed=0, features=cache)


def test_cached_features_are_what_the_extractors_make_of_the_samples(tiny_run: TinyRun, tmp_path: Path) -> None:
    teacher, _, _ = make(tiny_run, tmp_path)
    config = copy.deepcopy(tiny_run.config)
    a = config.augment
    a.brightness = a.contrast = a.colour = a.permute_p = a.mirror_p = a.shift = a.scale = a.gain_db = a.noise_p = 0.0
    cache = FeatureCache(tmp_path / "features", tiny_run.train[:3], teacher.specs, teacher.contexts)
    sampler = WindowSampler(tiny_run.train[:3], config, batch=24, seed=3, features=cache)
    batch = TensorBatch.of(sampler.batch(0))
    assert set(batch.features) == {"video", "flow", "audio"}
    with torch.inference_mode():
        for m, features in batch.features.items():
            fresh = teacher.encode(m, batch.samples[m])
            assert torch.allclose(features.float(), fresh, atol=0.02), m  # float16, and warped by an identity


def test_a_damaged_feature_cache_says_what_to_delete(tiny_run: TinyRun, tmp_path: Path) -> None:
    teacher, _, _ = make(tiny_run, tmp_path)
    broken = next((tmp_path / "features").rglob("flow.npy"))
    broken.write_bytes(b"x")
    with pytest.raises(KarmmaError, match=f"{re.escape(str(broken.parent))}.*delete that folder"):
        FeatureCache(tmp_path / "features", tiny_run.train[:3], teacher.specs, teacher.contexts)


def test_teacher_and_student_miss_the_same(tiny_run: TinyRun, tmp_path: Path) -> None:
    """One draw of dropout feeds both, in the window's own view and in the view of one modality alone."""
    teacher, student, sampler = make(tiny_run, tmp_path)
    seen: dict[str, list[Any]] = {"teacher": [], "student": []}

    def watch(name: str, fusion: nn.Module) -> None:
        def hook(module: nn.Module, args: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
            seen[name].append({m: p.clone() for m, p in args[1].items()})

        fusion.register_forward_pre_hook(hook)

    watch("teacher", teacher.fusion)
    watch("student", student.fusion)
    arrays = sampler.batch(5)
    assert not all(v.all() for v in arrays.present.values()), "something is missing"
    Objective(tiny_run.config, teacher)(student, TensorBatch.of(arrays))
    assert len(seen["teacher"]) == len(seen["student"]) == 2
    for theirs, ours in zip(seen["teacher"], seen["student"], strict=True):
        assert all(torch.equal(theirs[m], ours[m]) for m in ours)
    first, alone = seen["student"]
    assert all(torch.equal(first[m], torch.from_numpy(arrays.present[m])) for m in first)
    assert any(not torch.equal(first[m], alone[m]) for m in first)


def test_stage_2_leaves_the_teacher_as_it_was(tiny_run: TinyRun, tmp_path: Path) -> None:
    teacher, student, sampler = make(tiny_run, tmp_path)
    before = copy.deepcopy(teacher.state_dict())
    teacher.train()
    objective = Objective(tiny_run.config, teacher)
    assert not any(module.training for module in teacher.modules()), "no dropout in its opinion"
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    optimiser = torch.optim.SGD([*student.parameters(), *teacher.parameters()], lr=0.1)
    for step in range(3):
        optimiser.zero_grad()
        objective(student.train(), TensorBatch.of(sampler.batch(step))).backward()
        optimiser.step()
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.extractors["video"].parameters())


def test_a_teacher_in_training_keeps_its_extractors_and_their_statistics(tiny_run: TinyRun, tmp_path: Path) -> None:
    teacher, _, sampler = make(tiny_run, tmp_path)
    before = copy.deepcopy(teacher.extractors.state_dict())
    teacher.train()
    assert teacher.fusion.training
    batch = TensorBatch.of(sampler.batch(0)).of_samples()
    sum(values.sum() for values in teacher(batch)[0].values()).backward()  # through extractors and batch norm
    for name, value in teacher.extractors.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in teacher.extractors.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in teacher.fusion.parameters())


def test_a_student_learns_what_its_teacher_thinks(tiny_run: TinyRun, tmp_path: Path) -> None:
    """alpha = 1: no label is looked at, and the student still comes to agree with the teacher."""
    teacher, student, sampler = make(tiny_run, tmp_path, batch=24)
    config = copy.deepcopy(tiny_run.config)
    config.distillation.alpha = 1.0
    config.fusion.dropout = 0.0
    student = Student(config, tiny_run.labels.sizes())
    objective = Objective(config, teacher)
    arrays = sampler.batch(0)
    wrong = np.zeros_like(arrays.targets)
    batch = TensorBatch.of(arrays)
    misled = copy.copy(batch)
    object.__setattr__(misled, "targets", torch.from_numpy(wrong))
    optimiser = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        torch.manual_seed(0)
        loss = objective(student, misled)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.inference_mode():
        (theirs,), (ours,) = teacher(batch), student(batch.of_samples())
    assert (theirs["verb"].argmax(1) == ours["verb"].argmax(1)).float().mean() > 0.9


def test_stage_1_trains_fusion_and_heads_alone(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = apply_overrides(as_system(tiny_run.config, "teacher"), ["train.epochs=1", "train.windows_per_second=2"])
    config.pretrain.extractors = str(tiny_run.run / "teacher")
    trainer = Trainer(
        config,
        tiny_run.labels,
        tiny_run.train[:3],
        tiny_run.validation[:1],
        tmp_path / "run",
        Console(quiet=True),
        store=tmp_path,
    )
    start = copy.deepcopy(trainer.model.fusion.state_dict())
    trainer.fit()
    taught, *_ = load_model(tiny_run.run / "teacher")
    for name, value in trainer.model.extractors.state_dict().items():
        assert torch.equal(value, taught.extractors.state_dict()[name]), f"extractors.{name}"
    changed = [n for n, v in trainer.model.fusion.state_dict().items() if not torch.equal(v, start[n])]
    assert any("mlp" in n for n in changed)
    assert any("project" in n for n in changed)


def test_a_teacher_that_does_not_fit_is_refused_in_one_line(tiny_run: TinyRun, tmp_path: Path) -> None:
    def fit(*overrides: str) -> None:
        config = apply_overrides(tiny_run.config, [f"pretrain.extractors={tiny_run.run}", *overrides])
        Trainer(
            config,
            tiny_run.labels,
            tiny_run.train[:1],
            tiny_run.validation[:1],
            tmp_path / "run",
            Console(quiet=True),
            store=tiny_run.store,
        ).fit()

    with pytest.raises(UsageError, match="is a run of system student, not of a teacher"):
        fit(f"distillation.teacher={tiny_run.run}")
    with pytest.raises(UsageError, match=r"has flow\.height 30, this student 32: both must see the same samples"):
        fit(f"distillation.teacher={tiny_run.run}/teacher", "flow.height=32")


def test_a_teacher_may_know_more_modalities_than_its_student(tiny_run: TinyRun) -> None:
    """To it they are absent ones."""
    teacher, *_ = load_model(tiny_run.run / "teacher")
    config = copy.deepcopy(tiny_run.config)
    whole = TensorBatch.of(WindowSampler(tiny_run.train[:2], config, batch=4, seed=0).batch(0))
    config.modalities = ["video"]
    part = TensorBatch.of(WindowSampler(tiny_run.train[:2], config, batch=4, seed=0).batch(0))
    absent = {m: torch.zeros_like(present) for m, present in whole.present.items() if m != "video"}
    with torch.no_grad():
        (logits,) = teacher(part)
        (wanted,) = teacher(part, [{**part.present, **absent}])
    for head, values in logits.items():
        torch.testing.assert_close(values, wanted[head])
