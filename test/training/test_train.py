# SPDX-License-Identifier: Apache-2.0
"""The trainer: it learns, overfits, resumes exactly, stops cleanly."""

from __future__ import annotations

import copy
import csv
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console  # noqa: E402

from karmma_ros.errors import KarmmaError, UsageError  # noqa: E402
from karmma_training.checkpoint import load_model, load_tensors  # noqa: E402
from karmma_training.cli.train import train  # noqa: E402
from karmma_training.config_file import apply_overrides, load_config  # noqa: E402
from karmma_training.data.windows import WindowSampler  # noqa: E402
from karmma_training.learning.ema import Ema  # noqa: E402
from karmma_training.learning.losses import classification_loss  # noqa: E402
from karmma_training.learning.precision import reduced_dtype  # noqa: E402
from karmma_training.learning.schedule import learning_rate  # noqa: E402
from karmma_training.learning.train import Trainer  # noqa: E402
from karmma_training.networks.model import Student, TensorBatch  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

if TYPE_CHECKING:
    from fixtures.training import TinyRun


def make_trainer(tiny_run: TinyRun, folder: Path, *overrides: str) -> Trainer:
    fast = ["train.epochs=2", "train.windows_per_second=8", "train.batch=16", "train.threads=1"]
    fast += ["train.validate_every=1", f"distillation.teacher={tiny_run.run}/teacher"]
    config = apply_overrides(tiny_run.config, [*fast, *overrides])
    return Trainer(
        config,
        tiny_run.labels,
        tiny_run.train[:2],
        tiny_run.validation[:1],
        folder,
        Console(quiet=True),
        store=tiny_run.store,
    )


def test_the_tiny_run_learned(tiny_run: TinyRun) -> None:
    with (tiny_run.run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["epoch"]) for r in rows] == list(range(1, tiny_run.config.train.epochs + 1))
    losses = [float(r["loss"]) for r in rows]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.full
def test_the_tiny_preset_is_clearly_better_than_the_commonest_class(tiny_run: TinyRun, tmp_path: Path) -> None:
    trainer = train(preset("tiny"), tmp_path, store=tiny_run.store, console=Console(quiet=True))
    *_, about = load_model(tmp_path)
    targets = np.concatenate([r.targets for r in trainer.validation])
    times = np.concatenate([r.stops - r.starts for r in trainer.validation])
    scores = about["validation"]["video+flow+audio"]
    # Not asserted: nouns alone. Six minutes of scenes are too few to tell bottles from flasks.
    actions = tiny_run.labels.action_ids(targets)
    for name, truth in (("verb", targets[:, 0]), ("action", actions)):
        majority = np.bincount(truth, weights=times).max() / times.sum()
        assert scores[name] > 1.4 * majority, f"{name}: not clearly above always saying the commonest class"


def test_a_tiny_set_is_overfitted(tiny_run: TinyRun) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = copy.deepcopy(tiny_run.config)
    config.fusion.dropout = 0.0
    batch = TensorBatch.of(WindowSampler(tiny_run.train, config, batch=16, seed=0).batch(0))
    student = Student(config, tiny_run.labels.sizes())
    optimiser = torch.optim.AdamW(student.parameters(), lr=3e-3)
    first = None
    for _ in range(60):
        loss = classification_loss(student(batch)[0], batch.targets)
        first = first if first is not None else loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * first
    (logits,) = student(batch)
    assert (logits["verb"].argmax(1) == batch.targets[:, 0]).float().mean() > 0.95
    assert (logits["noun"].argmax(1) == batch.targets[:, 1]).float().mean() > 0.95


@pytest.mark.parametrize("epochs_done", [0, 1], ids=["after_pretraining", "inside_the_second_epoch"])
def test_resuming_ends_with_the_weights_of_an_uninterrupted_run(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_done: int
) -> None:
    make_trainer(tiny_run, tmp_path / "whole").fit()

    trainer = make_trainer(tiny_run, tmp_path / "cut")
    step = trainer._step
    cut_at = epochs_done * (trainer.steps_per_epoch + 2)

    def interrupted(*args: Any) -> float:
        if trainer.progress.step == cut_at:
            os.kill(os.getpid(), signal.SIGINT)  # the step is finished all the same
        return step(*args)

    trainer._step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert load_tensors(tmp_path / "cut" / "last.pt")["step"] == cut_at + 1
    monkeypatch.setattr("karmma_training.learning.train.Pretraining", lambda *args: pytest.fail("pre-trained twice"))
    again = make_trainer(tiny_run, tmp_path / "cut")
    again.resume()
    again.fit()
    whole, cut = (load_tensors(tmp_path / name / "last.pt") for name in ("whole", "cut"))
    for part in ("weights", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, cut[part][name]), f"{part} {name}"
    lines = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert [line.split(",")[:3] for line in lines[0]] == [line.split(",")[:3] for line in lines[1]]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_weights(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    trainer = make_trainer(tiny_run, tmp_path)
    end_epoch = trainer._end_epoch

    def spoil(epoch: int, loss: float, rate: float) -> None:
        end_epoch(epoch, loss, rate)
        with torch.no_grad():
            trainer.model.fusion.block.cls.fill_(float("nan"))

    trainer._end_epoch = spoil  # type: ignore[method-assign]
    with pytest.raises(KarmmaError, match="loss is nan at step"):
        trainer.fit()
    student, *_ = load_model(tmp_path)
    assert all(torch.isfinite(p).all() for p in student.parameters())


def test_a_gradient_that_is_not_finite_moves_no_weight(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tiny_run, tmp_path, "pretrain.video=0", "pretrain.flow=0", "pretrain.audio=0")
    clip = torch.nn.utils.clip_grad_norm_

    def spoil(parameters: list[torch.nn.Parameter], *rest: float, **how: bool) -> torch.Tensor:
        gradient = next(p.grad for p in parameters if p.grad is not None)
        gradient.fill_(float("inf"))
        return clip(parameters, *rest, **how)

    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", spoil)
    with pytest.raises(KarmmaError, match=r"gradient is (inf|nan) at step 0: start again with a lower train\.lr"):
        trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_a_loss_that_is_not_finite_stops_pre_training(tiny_run: TinyRun, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_run, tmp_path, "pretrain.lr=1.0e+30")
    with pytest.raises(KarmmaError, match=r"of stage 0, video: start again with a lower pretrain\.lr"):
        trainer.fit()


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tiny_run: TinyRun, tmp_path: Path) -> None:
    make_trainer(tiny_run, tmp_path).save()
    other = make_trainer(tiny_run, tmp_path, "fusion.width=32")
    with pytest.raises(UsageError, match="does not fit") as error:
        other.resume()
    assert "\n" not in str(error.value)
    (tmp_path / "last.pt").write_bytes(b"half")
    with pytest.raises(UsageError, match="cannot read checkpoint"):
        other.resume()


def test_samples_without_a_modality_train_beside_complete_ones(tiny_run: TinyRun) -> None:
    """Recordings that lack a modality: nothing is made up for it, and the batch still trains everything."""
    recordings = [copy.copy(r) for r in tiny_run.train[:6]]
    for recording, lost in zip(recordings, ["video", "flow", "audio"] * 2, strict=True):
        recording.modalities -= {lost}
        recording.stamps = {m: v for m, v in recording.stamps.items() if m != lost}
    arrays = WindowSampler(recordings, tiny_run.config, batch=48, seed=0).batch(0)
    for row, (number, _) in enumerate(arrays.origin):
        lost = ["video", "flow", "audio"][number % 3]
        assert not arrays.present[lost][row].any()
    batch = TensorBatch.of(arrays)
    student = Student(tiny_run.config, tiny_run.labels.sizes())
    classification_loss(student(batch)[0], batch.targets).backward()
    for m in ("video", "flow", "audio"):
        assert sum(p.grad.abs().sum() for p in student.extractors[m].parameters()) > 0


def test_learning_rate_warms_up_and_ends_low() -> None:
    rates = [learning_rate(s, total=100, warmup=10, peak=1.0, final_share=0.01) for s in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.01)


def test_every_step_of_both_stages_has_its_learning_rate(tiny_run: TinyRun, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_run, tmp_path)
    used: list[tuple[torch.optim.Optimizer, float]] = []
    step = torch.optim.AdamW.step

    def recorded(optimiser: torch.optim.AdamW, *rest: Any) -> Any:
        used.append((optimiser, {group["lr"] for group in optimiser.param_groups}.pop()))
        return step(optimiser, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.optim.AdamW.step", recorded)
        trainer.fit()
    c = trainer.config
    rates: dict[int, list[float]] = {}
    for optimiser, rate in used:
        rates.setdefault(id(optimiser), []).append(rate)
    *stage_0, stage_2 = rates.values()
    assert len(stage_0) == len(c.modalities)
    for part in stage_0:
        total, peak = len(part), c.pretrain.lr
        warmup = max(1, total // 10)
        assert part == [learning_rate(s, total=total, warmup=warmup, peak=peak, final_share=0.0) for s in range(total)]
    warmup = max(1, round(c.train.warmup_epochs * trainer.steps_per_epoch))
    assert len(stage_2) == trainer.total
    assert stage_2 == [
        learning_rate(s, total=trainer.total, warmup=warmup, peak=c.train.lr, final_share=c.train.final_lr_share)
        for s in range(trainer.total)
    ]


def test_what_is_validated_kept_and_given_away_is_the_average(tiny_run: TinyRun, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_run, tmp_path, "train.epochs=1", "train.validate_every=1", "train.ema=0.9")
    trainer.fit()
    last, best = load_tensors(tmp_path / "last.pt"), load_tensors(tmp_path / "best.pt")["weights"]
    assert best.keys() == last["average"].keys()
    assert all(torch.equal(value, last["average"][name]) for name, value in best.items())
    assert not all(torch.equal(value, last["weights"][name]) for name, value in best.items())
    scores, _ = trainer.validate()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    assert trainer.validate()[0] == scores, "the weights that are trained do not matter to it"


def test_a_gradient_of_stage_0_that_is_not_finite_moves_no_weight(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tiny_run, tmp_path)
    backward = trainer.accelerator.backward

    def spoil(loss: torch.Tensor) -> None:
        backward(loss)
        next(p for p in trainer.model.extractors["video"].parameters() if p.grad is not None).grad.fill_(float("inf"))

    monkeypatch.setattr(trainer.accelerator, "backward", spoil)
    with pytest.raises(
        KarmmaError, match=r"gradient is (inf|nan) at step 0 of stage 0, video: start again with a lower pretrain\.lr"
    ):
        trainer.fit()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_gradients_are_clipped(tiny_run: TinyRun, tmp_path: Path) -> None:
    norms: list[float] = []
    for clip in (1e9, 1e-3):
        trainer = make_trainer(tiny_run, tmp_path / f"{clip:g}", f"train.clip={clip}")
        sampler, objective = trainer._sampler()
        trainer._step(trainer.model, objective, TensorBatch.of(sampler.batch(0)))
        norms.append(float(torch.stack([p.grad.norm() for p in trainer.trained if p.grad is not None]).norm()))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_reduced_precision_trains_like_full_precision(tiny_run: TinyRun) -> None:
    """bf16 on the CPU: products in bfloat16; weights, logits and gradients in float32."""
    config = copy.deepcopy(tiny_run.config)
    config.fusion.dropout = 0.0
    batch = TensorBatch.of(WindowSampler(tiny_run.train[:2], config, batch=16, seed=0).batch(0))
    said = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        student = Student(config, tiny_run.labels.sizes())
        student.reduced = reduced_dtype(precision, torch.device("cpu"))
        (logits,) = student(batch)
        classification_loss(logits, batch.targets).backward()
        assert all(v.dtype == torch.float32 for v in logits.values())
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradients)
        said.append((logits["verb"].detach(), torch.cat([g.flatten() for g in gradients])))
    (exact, slope), (rounded, other) = said
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()
    assert torch.nn.functional.cosine_similarity(slope, other, dim=0) > 0.95
    assert reduced_dtype("fp32", torch.device("cpu")) is None
    with pytest.raises(UsageError, match=r"train\.precision must be auto, fp32 or bf16"):
        reduced_dtype("fp16", torch.device("cpu"))


def test_a_student_of_bf16_learns_keeps_float32_and_goes_on_in_it(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Stage 0, distillation and validation of it, whatever the machine that goes on would choose."""
    overrides = ["train.precision=bf16", "pretrain.extractors="]
    trainer = make_trainer(tiny_run, tmp_path, *overrides)
    step = trainer._step
    losses: list[float] = []

    def interrupted(*args: Any) -> float:
        if trainer.progress.step == trainer.steps_per_epoch + 2:
            os.kill(os.getpid(), signal.SIGINT)
        losses.append(step(*args))
        return losses[-1]

    trainer._step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.model.reduced is torch.bfloat16
    again = make_trainer(tiny_run, tmp_path, *overrides[1:], "train.precision=fp32")
    again.resume()
    assert again.model.reduced is torch.bfloat16
    again.fit()
    state = load_tensors(tmp_path / "last.pt")
    assert state["step"] == again.total
    for part in ("weights", "average"):
        values = [value for value in state[part].values() if value.is_floating_point()]
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values)
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    *_, about = load_model(tmp_path)
    assert about["machine"].endswith("bf16")


def test_training_does_not_touch_the_test_split(tiny_run: TinyRun, tmp_path: Path) -> None:
    fast = ["train.epochs=1", "data.minutes=0.1", "data.validation_minutes=0.1", "distillation.teacher="]
    fast += ["pretrain.video=0.1", "pretrain.flow=0.1", "pretrain.audio=0.1", "pretrain.batch=16", "train.batch=8"]
    config = apply_overrides(tiny_run.config, fast)
    train(config, tmp_path / "run", store=tmp_path / "store", workers=1, console=Console(quiet=True))
    assert {path.name.split("-")[0] for path in (tmp_path / "store").glob("*/*-*-*")} == {"train", "val"}


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True)])
def test_bf16_is_taken_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert (reduced_dtype("auto", torch.device("cpu")) is not None) == (amx or avx512)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # an older torch
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert reduced_dtype("auto", torch.device("cpu")) is None


def test_the_average_follows_the_weights_and_copies_the_counts() -> None:
    norm = torch.nn.BatchNorm1d(1)
    with torch.no_grad():
        norm.weight.fill_(0.0)
    average = Ema(norm, 0.5)
    for step, value in ((1, 1.0), (2, 3.0)):
        with torch.no_grad():
            norm.weight.fill_(value)
            norm.running_mean.fill_(value)
            norm.num_batches_tracked.fill_(step)
        average.update(norm)
    first, second = 2 / 11, 3 / 12  # (1 + n) / (10 + n), while that is less than the decay
    expected = second * (first * 0.0 + (1 - first) * 1.0) + (1 - second) * 3.0
    assert average.module.weight.item() == pytest.approx(expected)
    assert average.module.running_mean.item() == pytest.approx(expected)
    assert average.module.num_batches_tracked.item() == 2
    average.steps = 1000
    average.update(norm)
    assert average.module.weight.item() == pytest.approx(0.5 * expected + 0.5 * 3.0), "the decay that was asked for"


def test_a_run_folder_explains_itself(tiny_run: TinyRun) -> None:
    text = (tiny_run.run / "README.md").read_text()
    for path in tiny_run.run.iterdir():
        assert path.name == "README.md" or f"`{path.name}" in text, f"{path.name} is not explained"
    assert load_config(tiny_run.run / "config.yaml") == tiny_run.config
    assert any(path.stat().st_size > 1000 for path in (tiny_run.run / "tensorboard").iterdir()), "curves to look at"
