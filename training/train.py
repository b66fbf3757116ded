# SPDX-License-Identifier: Apache-2.0
"""The training loop.

    karmma train --preset tiny --out runs/tiny          # about a minute on 2 cores
    karmma train --preset demo --out runs/demo          # the shipped student

A run folder holds config.yaml, metrics.csv, log.txt, last.pt (all that resuming needs) and best.pt + best.json
(averaged weights with the best validation accuracy). Batches depend on seed and step alone and the random state is
saved, so a resumed run ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from karmma_ros.errors import UsageError
from karmma_training.checkpoint import load_tensors, save_tensors
from karmma_training.config import Config, save_config
from karmma_training.data.labels import Labels
from karmma_training.data.prefetch import prefetch
from karmma_training.data.store import Recording
from karmma_training.data.windows import WindowSampler
from karmma_training.ema import Ema
from karmma_training.evaluate import Logits, encode_recording, predict, subsets, summarise
from karmma_training.losses import alone_views, classification_loss, finite_loss
from karmma_training.model import Student, TensorBatch
from karmma_training.precision import reduced_dtype
from karmma_training.predictor import StudentPredictor
from karmma_training.pretrain import pretrain
from karmma_training.progress import progress_bar
from karmma_training.threads import ThreadTuner

__all__ = ["Trainer", "learning_rate"]


def learning_rate(step: int, *, total: int, warmup: int, peak: float, final_share: float) -> float:
    """Linear warm-up, then a cosine down to `final_share * peak` at `total`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * share)))


@dataclass
class Progress:
    """How far a run is; saved in last.pt."""

    pretrained: bool = False  # stage 0 is done
    step: int = 0  # optimiser steps done
    best: float = -1.0  # best validation score
    best_epoch: int = 0


class Trainer:
    """One run: model, optimiser, averaged weights and their folder."""

    def __init__(
        self,
        config: Config,
        labels: Labels,
        train: list[Recording],
        validation: list[Recording],
        folder: Path,
        console: Console,
    ) -> None:
        t = config.train
        self.threads = ThreadTuner(t.threads)
        torch.manual_seed(config.seed)
        self.config, self.labels, self.folder, self.console = config, labels, folder, console
        self.recordings, self.validation = train, validation
        self.sampler = WindowSampler(train, config, batch=t.batch, seed=config.seed)
        seconds = sum(r.labelled_s for r in train)
        self.steps_per_epoch = max(1, round(seconds * t.windows_per_second / t.batch))
        self.total = self.steps_per_epoch * t.epochs
        self.student = Student(config, labels.sizes())
        self.student.reduced = reduced_dtype(t.precision)
        self.ema = Ema(self.student, t.ema)
        self.optimiser = torch.optim.AdamW(_groups(self.student, t.weight_decay), lr=t.lr, foreach=True)
        self.progress = Progress()

    def fit(self) -> None:
        """Train to the end, or until Ctrl-C; either way last.pt is up to date.

        :raises KarmmaError: the loss is not finite.
        :raises KeyboardInterrupt: after the checkpoint is written.
        """
        t = self.config.train
        self.folder.mkdir(parents=True, exist_ok=True)
        save_config(self.config, self.folder / "config.yaml")
        self._log(self._headline())
        saved_at = time.monotonic()
        first = self.progress.step
        if not self.progress.pretrained:
            for line in pretrain(self.student, self.recordings, self.config, self.console):
                self._log(line)
            self.ema.module.load_state_dict(self.student.state_dict())
            self.progress.pretrained = True
            self.save()
        batches = prefetch(self.sampler.batch, first, self.total - first)
        losses: list[float] = []
        epoch_started, windows = time.monotonic(), 0
        with progress_bar(self.console) as bar:
            task = bar.add_task("training", total=self.total, completed=first, note="")
            try:
                for arrays in batches:
                    started = time.perf_counter()
                    losses.append(self._step(TensorBatch.of(arrays)))
                    self.threads.step_took(time.perf_counter() - started)
                    windows += t.batch
                    rate = windows / (time.monotonic() - epoch_started)
                    bar.update(task, advance=1, note=f"loss {np.mean(losses[-20:]):.3f}  {rate:.0f} windows/s")
                    epoch, rest = divmod(self.progress.step, self.steps_per_epoch)
                    if rest == 0:
                        self._end_epoch(epoch, float(np.mean(losses)), rate)
                        losses, windows, epoch_started = [], 0, time.monotonic()
                    if rest == 0 or time.monotonic() - saved_at > t.checkpoint_s:
                        self.save()
                        saved_at = time.monotonic()
            except KeyboardInterrupt:
                self.save()
                self._log(f"stopped at step {self.progress.step} of {self.total}; continue with --resume")
                raise
            finally:
                batches.close()
        self._log(f"done: best validation score {self.progress.best:.3f} in epoch {self.progress.best_epoch}")

    def _step(self, batch: TensorBatch) -> float:
        """One optimiser step; returns the loss."""
        t = self.config.train
        lr = learning_rate(
            self.progress.step,
            total=self.total,
            warmup=max(1, round(t.warmup_epochs * self.steps_per_epoch)),
            peak=t.lr,
            final_share=t.final_lr_share,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.student.train()
        tokens, present = self.student.tokens(batch)
        loss = classification_loss(self.student.fuse(tokens, present), batch.targets, t.label_smoothing)
        if t.alone_weight and len(tokens) > 1:
            *views, targets = alone_views(tokens, present, batch.targets)
            loss = loss + t.alone_weight * classification_loss(self.student.fuse(*views), targets, t.label_smoothing)
        kept = f"; {self.folder}/best.pt keeps the last good weights" if self.progress.best_epoch else ""
        value = finite_loss(loss, str(self.progress.step), "train.lr", kept)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), t.clip, foreach=True)
        self.optimiser.step()
        self.ema.update(self.student)
        self.progress.step += 1
        return value

    def validate(self) -> dict[str, dict[str, float]]:
        """Accuracies of the averaged weights on the validation recordings, for every modality subset."""
        student = self.ema.module
        predictor = StudentPredictor(student, self.labels, self.config.audio.context)
        patterns = subsets(self.config.modalities)
        results = {name: Logits() for name in patterns}
        for number, recording in enumerate(self.validation):
            encoded = encode_recording(predictor, recording, every=self.config.train.validate_step)
            for name, pattern in patterns.items():
                results[name].add(predict(predictor, encoded, pattern(encoded, number)), encoded)
        return summarise(results, self.labels, {})

    def _end_epoch(self, epoch: int, loss: float, rate: float) -> None:
        """Validate when due, keep the best weights, write a line of metrics."""
        t = self.config.train
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": self.progress.step,
            "loss": round(loss, 4),
            "windows_per_s": round(rate, 1),
        }
        if epoch % t.validate_every == 0 or epoch == t.epochs:
            started = time.monotonic()
            scores = self.validate()
            score = float(np.mean([s["action"] for s in scores.values()]))
            full = next(iter(scores.values()))
            row["validation_s"] = round(time.monotonic() - started, 1)
            row |= {f"{k}": round(v, 4) for k, v in full.items()}
            row |= {f"action[{name}]": round(s["action"], 4) for name, s in scores.items()}
            row["score"] = round(score, 4)
            if score > self.progress.best:
                self.progress.best, self.progress.best_epoch = score, epoch
                about = {
                    "epoch": epoch,
                    "step": self.progress.step,
                    "score": score,
                    "validation": scores,
                    "labels": self.labels.to_json(),
                }
                save_tensors(self.folder / "best.pt", {"weights": self.ema.module.state_dict()}, about)
            text = "  ".join(f"{_short(name)} {100 * s['action']:.1f}" for name, s in scores.items())
            heads = "  ".join(f"{h} {100 * full[h]:.1f}" for h in self.labels.heads)
            self._log(f"epoch {epoch:3d}  loss {loss:.3f}  {rate:.0f} windows/s  action: {text}  {heads}")
        else:
            self._log(f"epoch {epoch:3d}  loss {loss:.3f}  {rate:.0f} windows/s")
        self._write_metrics(row)

    def _write_metrics(self, row: dict[str, Any]) -> None:
        path = self.folder / "metrics.csv"
        heads = list(self.labels.heads)
        fields = ["epoch", "step", "loss", "windows_per_s", "validation_s", "score", "action", "action_settled"]
        fields += ["action_independent", *heads, *(f"action[{name}]" for name in subsets(self.config.modalities))]
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fields)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def save(self) -> None:
        """Write last.pt."""
        state = {
            "weights": self.student.state_dict(),
            "average": self.ema.module.state_dict(),
            "average_steps": self.ema.steps,
            "optimiser": self.optimiser.state_dict(),
            "torch_random": torch.get_rng_state(),
            "step": self.progress.step,
            "best": self.progress.best,
            "best_epoch": self.progress.best_epoch,
        }
        about = {"step": self.progress.step, "of": self.total, "epoch": self.progress.step / self.steps_per_epoch}
        save_tensors(self.folder / "last.pt", state, {**about, "labels": self.labels.to_json()})

    def resume(self) -> None:
        """Continue from last.pt.

        :raises UsageError: there is none, or it belongs to another model.
        """
        state = load_tensors(self.folder / "last.pt")
        try:
            self.student.load_state_dict(state["weights"])
            self.ema.module.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UsageError(f"{self.folder}/last.pt does not fit: {str(error).splitlines()[0]}") from error
        self.ema.steps = state["average_steps"]
        torch.set_rng_state(state["torch_random"])
        # The first checkpoint is written when stage 0 is done.
        self.progress = Progress(True, state["step"], state["best"], state["best_epoch"])
        self._cut_metrics()

    def _cut_metrics(self) -> None:
        """Drop the lines written after the checkpoint: those epochs are trained again."""
        path = self.folder / "metrics.csv"
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines[1:] if int(line.split(",")[1]) <= self.progress.step]
            path.write_text("".join([*lines[:1], *kept]))

    def _headline(self) -> str:
        parameters = sum(p.numel() for p in self.student.parameters())
        precision = "bf16" if self.student.reduced is not None else "fp32"
        return (
            f"{parameters / 1e3:.0f} k parameters, {'+'.join(self.config.modalities)}, {precision}, "
            f"{self.total} steps of {self.config.train.batch} windows in {self.config.train.epochs} epochs"
        )

    def _log(self, line: str) -> None:
        self.console.print(line, highlight=False)
        with (self.folder / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def _short(name: str) -> str:
    """video+flow -> VF"""
    return "".join(part[0].upper() for part in name.split("+"))


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only: not for norms, biases and learned tokens."""
    tokens = ("modality_token", "token_token", "cls")
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        plain = parameter.ndim < 2 or any(part in tokens for part in name.split("."))
        (others if plain else matrices).append(parameter)
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
