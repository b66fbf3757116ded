# SPDX-License-Identifier: Apache-2.0
"""The training loop, one for every system.

    karmma train --preset tiny --out runs/tiny                     # teacher and student, minutes on 2 cores
    karmma train --preset demo --system baseline --out runs/base

A run folder holds config.yaml, log.txt, metrics.csv, tensorboard/, last.pt (all that resuming needs) and best.pt +
best.json (averaged weights with the best validation accuracy). Batches and random state depend on seed and step alone,
so a resumed run ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console
from torch import nn

from karmma_ros.errors import UsageError
from karmma_training.checkpoint import extractors_digest, load_extractors, load_model, load_tensors, save_tensors
from karmma_training.config import Config
from karmma_training.config_file import load_config, save_config
from karmma_training.data.features import FeatureCache, make_features
from karmma_training.data.labels import Labels
from karmma_training.data.prefetch import loader_threads, prefetch
from karmma_training.data.recording import Recording
from karmma_training.data.windows import WindowSampler
from karmma_training.evaluation.evaluate import (
    Answers,
    Logits,
    encode_recording,
    pooled_temperatures,
    predict,
    summarise,
)
from karmma_training.evaluation.patterns import initials, subsets
from karmma_training.evaluation.predictor import ModelPredictor
from karmma_training.evaluation.segments import join_segments, predict_segments
from karmma_training.learning.ema import Ema
from karmma_training.learning.interrupt import interrupts_wait
from karmma_training.learning.losses import finite
from karmma_training.learning.objective import Objective
from karmma_training.learning.precision import reduced_dtype
from karmma_training.learning.pretrain import Pretraining, stage0_state
from karmma_training.learning.processes import open_accelerator, own_rows, share_statistics
from karmma_training.learning.run_log import RunLog
from karmma_training.learning.schedule import learning_rate, seed_step
from karmma_training.learning.threads import ThreadTuner
from karmma_training.machine import machine
from karmma_training.networks.backbones import NamedBackbone
from karmma_training.networks.model import Teacher, TensorBatch, build_model, full_precision
from karmma_training.presets import SAME_SAMPLES
from karmma_training.progress import progress_bar

__all__ = ["Trainer"]

BOARD_EVERY = 20  # steps between points of TensorBoard's curves


@dataclass
class Progress:
    """How far a run is; saved in last.pt."""

    pretrained: bool = False  # stage 0 is done
    step: int = 0  # optimiser steps done
    best: float = -1.0  # best validation score
    best_epoch: int = 0
    losses: list[float] = field(default_factory=list)  # of the steps since an epoch began


class Trainer:
    """One run: model, optimiser, averaged weights and their folder.

    :param store: sample store; cached features go beside it.
    """

    def __init__(
        self,
        config: Config,
        labels: Labels,
        train: list[Recording],
        validation: list[Recording],
        folder: Path,
        console: Console,
        *,
        store: Path,
        accelerator: Accelerator | None = None,
    ) -> None:
        t = config.train
        self.accelerator = accelerator or open_accelerator(t)
        self.threads = ThreadTuner(t.threads)
        torch.manual_seed(config.seed)
        self.config, self.labels, self.folder, self.store = config, labels, folder, store
        self.log = RunLog(folder, console, silent=not self.accelerator.is_main_process)
        self.recordings, self.validation = train, validation
        by_action = config.data.draw == "actions"
        windows = sum(len(r.starts) if by_action else r.labelled_s * t.windows_per_second for r in train)
        self.steps_per_epoch = max(1, round(windows / t.batch))
        self.total = self.steps_per_epoch * t.epochs
        fresh = not (folder / "last.pt").exists()  # what goes on needs no weights of a hub, which may be out of reach
        self.model = build_model(config, labels.sizes(), pretrained=fresh).to(self.accelerator.device)
        self.ema = Ema(self.model, t.ema)  # in float32: what is validated is what is exported
        begun = any((folder / name).exists() for name in ("last.pt", "stage0.pt"))
        path = folder / "config.yaml"
        precision = load_config(path).train.precision if begun and path.exists() else t.precision
        self.model.reduced = reduced_dtype(precision, self.accelerator.device)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(_groups(self.model, t.weight_decay), lr=t.lr, foreach=True)
        self.progress = Progress()

    @property
    def precision(self) -> str:
        """Of convolutions and matrix products: fp32 or bf16."""
        return "fp32" if self.model.reduced is None else "bf16"

    def fit(self) -> None:
        """Train to the end, or until Ctrl-C; either way last.pt is up to date.

        :raises KarmmaError: the loss is not finite.
        :raises KeyboardInterrupt: after the checkpoint is written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            resolved = copy.deepcopy(self.config)
            resolved.train.precision = self.precision  # a run goes on in what it began with, on whatever machine
            save_config(resolved, self.folder / "config.yaml")
        self.log.explain(self._headline())
        self.log.line(self._headline())
        try:
            self._stage0()
            if self.config.system != "extractors":
                self._fit()
        finally:
            self.log.close()
        self.accelerator.wait_for_everyone()  # a teacher is whole before any process reads it

    def _stage0(self) -> None:
        """Extractors: those of another run, or trained alone on this data."""
        if self.progress.pretrained:
            return
        for m, extractor in self.model.extractors.items():
            if isinstance(extractor.backbone, NamedBackbone):
                self.log.line(f"{m} {self.config.slots(m).backbone}: {extractor.backbone.report}")
        if self.config.pretrain.extractors:
            self.log.line(load_extractors(self.model, Path(self.config.pretrain.extractors)))
        else:
            Pretraining(self.model, self.recordings, self.validation, self.config, self.accelerator, self.log).run()
        self.ema.module.load_state_dict(self.model.state_dict())
        self.progress.pretrained = True
        if self.config.system == "extractors" and self.accelerator.is_main_process:
            weights = {f"extractors.{name}": value for name, value in self.model.extractors.state_dict().items()}
            save_tensors(self.folder / "best.pt", {"weights": weights}, self._about({}, {}))
        self.save()
        if self.accelerator.is_main_process:
            stage0_state(self.folder).unlink(missing_ok=True)

    def _fit(self) -> None:
        """Stages 1 and 2, and the baselines."""
        t = self.config.train
        sampler, objective = self._sampler()
        rows = own_rows(self.accelerator, t.batch)
        module = self.accelerator.prepare_model(self.model)
        first = self.progress.step
        saved_at = time.monotonic()
        threads = loader_threads(self.recordings, t.loaders)
        batches = prefetch(lambda step: sampler.batch(step, rows), first, self.total - first, threads=threads)
        losses = self.progress.losses
        epoch_started, windows = time.monotonic(), 0
        with progress_bar(self.log.console) as bar, interrupts_wait() as interrupted:
            task = bar.add_task(f"training {self.config.system}", total=self.total, completed=first, note="")
            try:
                for arrays in batches:
                    started = time.perf_counter()
                    batch = TensorBatch.of(arrays, self.accelerator.device)
                    losses.append(self._step(module, objective, batch))
                    self.threads.step_took(time.perf_counter() - started)
                    windows += t.batch
                    rate = windows / (time.monotonic() - epoch_started)
                    bar.update(task, advance=1, note=f"loss {np.mean(losses[-20:]):.3f}  {rate:.0f} windows/s")
                    step = self.progress.step
                    if step % BOARD_EVERY == 0:
                        self.log.scalars({"train/loss": losses[-1], "train/lr": self._lr(step - 1)}, step)
                    epoch, rest = divmod(step, self.steps_per_epoch)
                    if rest == 0:
                        self._end_epoch(epoch, float(np.mean(losses)), rate)
                        losses.clear()
                        windows, epoch_started = 0, time.monotonic()
                    if interrupted() or rest == 0 or time.monotonic() - saved_at > t.checkpoint_s:
                        self.save()
                        saved_at = time.monotonic()
                    if interrupted() and self.progress.step < self.total:
                        self.log.line(f"stopped at step {self.progress.step} of {self.total}; continue with --resume")
                        raise KeyboardInterrupt
            finally:
                batches.close()
        self.log.line(f"done: best validation score {self.progress.best:.3f} in epoch {self.progress.best_epoch}")

    def _sampler(self) -> tuple[WindowSampler, Objective]:
        """What the windows carry, and the loss: samples for students, features for and from a teacher where cached."""
        c = self.config
        teacher: Teacher | None = None
        beside: Config | None = None
        if c.distillation.teacher:
            own = c.distillation.teacher == "own"
            folder = self.folder / "teacher" if own else Path(c.distillation.teacher)
            teacher, theirs = load_teacher(folder, c, self.labels)
            teacher.to(self.accelerator.device).reduced = self.model.reduced
            beside = theirs if _sees_otherwise(c, theirs) else None
        frozen = self.model if isinstance(self.model, Teacher) else teacher
        cached = c.train.cache_features and frozen is not None and beside is None
        features = self._features(frozen) if cached and frozen is not None else None
        sampler = WindowSampler(
            self.recordings,
            c,
            batch=c.train.batch,
            seed=c.seed,
            samples=features is None or frozen is not self.model,
            features=features,
            beside=beside,
        )
        return sampler, Objective(c, teacher)

    def _features(self, teacher: Teacher) -> FeatureCache:
        """Tokens of the teacher's extractors for all training recordings, made where the cache lacks them."""
        predictor = ModelPredictor(teacher, self.labels)
        root = self.store / f"features-{extractors_digest(teacher)}"
        teacher.eval()
        by_key = list({r.key: r for r in self.recordings}.values())  # no two processes make the same folder
        share = by_key[self.accelerator.process_index :: self.accelerator.num_processes]
        with full_precision(teacher):  # whichever run makes them, they are the same
            make_features(root, share, predictor.encode, teacher.specs, teacher.contexts, self.log.console)
        self.accelerator.wait_for_everyone()
        return FeatureCache(root, self.recordings, teacher.specs, teacher.contexts)

    def _lr(self, step: int) -> float:
        t = self.config.train
        warmup = max(1, round(t.warmup_epochs * self.steps_per_epoch))
        return learning_rate(step, total=self.total, warmup=warmup, peak=t.lr, final_share=t.final_lr_share)

    def _step(self, module: nn.Module, objective: Objective, batch: TensorBatch) -> float:
        """One optimiser step; returns the loss.

        :param module: the model, or what wraps it in several processes.
        """
        seed_step(self.config.seed, self.progress.step, self.accelerator.process_index)
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr(self.progress.step)
        self.model.train()
        loss = objective(module, batch)
        kept = f"; {self.folder}/best.pt keeps the last good weights" if self.progress.best_epoch else ""
        value = finite(loss, "loss", str(self.progress.step), "train.lr", kept)
        self.optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.trained, self.config.train.clip, foreach=True)
        finite(norm, "gradient", str(self.progress.step), "train.lr", kept)
        self.optimiser.step()
        self.ema.update(self.model)
        self.progress.step += 1
        return value

    def validate(self) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """The averaged weights on the validation recordings: accuracies of every modality subset, temperatures."""
        share_statistics(self.accelerator, self.ema.module)
        by_action = self.config.data.draw == "actions"
        results = self._validate_actions() if by_action else self._validate_stream()
        temperature = pooled_temperatures(results)
        return summarise(results, self.labels, temperature), temperature

    def _validate_actions(self) -> Mapping[str, Answers]:
        """One prediction per annotated action and modality subset."""
        predictor = ModelPredictor(self.ema.module, self.labels)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        names = list(subsets(self.config.modalities))
        own = predict_segments(predictor, self.validation[rank::world], subsets=names)
        return join_segments(gather_object([own]) if world > 1 else [own])

    def _validate_stream(self) -> Mapping[str, Answers]:
        """Predictions as online at times throughout the recordings."""
        predictor = ModelPredictor(self.ema.module, self.labels)
        patterns = subsets(self.config.modalities)
        share = []
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        for number, recording in list(enumerate(self.validation))[rank::world]:
            encoded = encode_recording(predictor, recording, every=self.config.train.validate_step)
            share.append(
                (encoded, {name: predict(predictor, encoded, p(encoded, number)) for name, p in patterns.items()})
            )
        results = {name: Logits() for name in patterns}
        for encoded, logits in gather_object(share) if world > 1 else share:
            for name in patterns:
                results[name].add(logits[name], encoded)
        return results

    def _end_epoch(self, epoch: int, loss: float, rate: float) -> None:
        """Validate when due, keep the best weights, write a line of metrics."""
        t = self.config.train
        step = self.progress.step
        row: dict[str, Any] = {"epoch": epoch, "step": step, "loss": round(loss, 4), "windows_per_s": round(rate, 1)}
        text = f"epoch {epoch:3d}  loss {loss:.3f}  {rate:.0f} windows/s"
        if epoch % t.validate_every == 0 or epoch == t.epochs:
            started = time.monotonic()
            scores, temperature = self.validate()
            score = float(np.mean([s["action"] for s in scores.values()]))
            full = next(iter(scores.values()))
            row["validation_s"] = round(time.monotonic() - started, 1)
            row |= {k: round(v, 4) for k, v in full.items()}
            row |= {f"action[{name}]": round(s["action"], 4) for name, s in scores.items()}
            row["score"] = round(score, 4)
            if score > self.progress.best:
                self.progress.best, self.progress.best_epoch = score, epoch
                if self.accelerator.is_main_process:
                    weights = {"weights": self.ema.module.state_dict()}
                    save_tensors(self.folder / "best.pt", weights, self._about(scores, temperature))
            actions = "  ".join(f"{initials(name)} {100 * s['action']:.1f}" for name, s in scores.items())
            heads = "  ".join(f"{h} {100 * full[h]:.1f}" for h in self.labels.heads)
            text += f"  action: {actions}  {heads}"
            board = {f"validation/action {name}": s["action"] for name, s in scores.items()}
            self.log.scalars({**board, "validation/score": score}, step)
        self.log.scalars({"train/epoch loss": loss, "train/windows per s": rate}, step)
        self.log.line(text)
        self.log.epoch(row)

    def _about(self, scores: dict[str, dict[str, float]], temperature: dict[str, float]) -> dict[str, Any]:
        """best.json."""
        p = self.progress
        return {
            "system": self.config.system,
            "epoch": p.best_epoch,
            "step": p.step,
            "score": p.best,
            "validation": scores,
            "temperature": temperature,
            "machine": f"{machine(self.accelerator.device)}, {self.precision}",
            "labels": self.labels.to_json(),
        }

    def save(self) -> None:
        """Write last.pt."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "weights": self.model.state_dict(),
            "average": self.ema.module.state_dict(),
            "average_steps": self.ema.steps,
            "optimiser": self.optimiser.state_dict(),
            "step": self.progress.step,
            "best": self.progress.best,
            "best_epoch": self.progress.best_epoch,
            "losses": self.progress.losses,
        }
        about = {"step": self.progress.step, "of": self.total, "epoch": self.progress.step / self.steps_per_epoch}
        save_tensors(self.folder / "last.pt", state, {**about, "labels": self.labels.to_json()})

    def resume(self) -> None:
        """Continue from last.pt, or inside stage 0 where there is none yet.

        :raises UsageError: it belongs to another model.
        """
        if not (self.folder / "last.pt").exists():
            return
        state = load_tensors(self.folder / "last.pt")
        try:
            self.model.load_state_dict(state["weights"])
            self.ema.module.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UsageError(f"{self.folder}/last.pt does not fit: {str(error).splitlines()[0]}") from error
        self.ema.steps = state["average_steps"]
        # The first checkpoint is written when stage 0 is done.
        self.progress = Progress(True, state["step"], state["best"], state["best_epoch"], state.get("losses", []))
        if self.accelerator.is_main_process:
            self.log.cut(self.progress.step)

    def _headline(self) -> str:
        trained = sum(p.numel() for p in self.trained)
        frozen = sum(p.numel() for p in self.model.parameters()) - trained
        count = f"{trained / 1e3:.0f} k parameters" + (f" and {frozen / 1e3:.0f} k frozen ones" if frozen else "")
        t = self.config.train
        return (
            f"{self.config.system}: {count}, {'+'.join(self.config.modalities)}, {self.precision}, "
            f"{self.total} steps of {t.batch} windows in {t.epochs} epochs"
        )


def load_teacher(folder: Path, student: Config, known: Labels) -> tuple[Teacher, Config]:
    """The teacher of a student, which must name the same classes from the same recordings, and its configuration.

    :raises UsageError: no teacher, or one that does not fit.
    """
    model, config, labels, _ = load_model(folder)
    if not isinstance(model, Teacher):
        raise UsageError(f"{folder} is a run of system {config.system}, not of a teacher")
    if labels.to_json() != known.to_json():
        raise UsageError(f"{folder} knows other classes than this data has")
    for m in student.modalities:
        if m not in config.modalities:
            raise UsageError(f"{folder} does not know the modality {m}")
        ours, theirs = student.slots(m), config.slots(m)
        for name in SAME_SAMPLES[m]:
            if getattr(ours, name) != getattr(theirs, name):
                raise UsageError(
                    f"{folder} has {m}.{name} {getattr(theirs, name)}, this student {getattr(ours, name)}: both must "
                    "see the same samples"
                )
    return model, config


def _sees_otherwise(student: Config, teacher: Config) -> bool:
    """Whether a teacher's slots or contexts are others than the student's: clips beside single frames, for one."""
    names = ("slots", "spacing_s", "delay_s", "context", "context_step_s")
    sections = [(student.slots(m), teacher.slots(m)) for m in student.modalities]
    return any(getattr(ours, n) != getattr(theirs, n) for ours, theirs in sections for n in names)


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only: not for norms, biases and learned tokens."""
    tokens = ("modality_token", "token_token", "cls", "queries", "time", "relative_position_bias_table")
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or any(part in tokens for part in name.split("."))
        (others if plain else matrices).append(parameter)
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
