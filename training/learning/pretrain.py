# SPDX-License-Identifier: Apache-2.0
"""Stage 0: each extractor alone, on single samples, before the window is trained.

A frame costs a window's extractor run a hundredth of a training step, and its label reaches the extractor without a
detour through fusion: what takes a window-trained video extractor hours takes minutes here. The classifiers on top are
thrown away; the extractors go on in training.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from karmma_ros.errors import MediaError, UsageError
from karmma_ros.window import to_ns
from karmma_training.checkpoint import load_tensors, save_tensors
from karmma_training.config import Config
from karmma_training.data.augment import draw_look
from karmma_training.data.damage import DamageLog, readable_samples
from karmma_training.data.grid import contexts
from karmma_training.data.prefetch import loader_threads, prefetch
from karmma_training.data.recording import LabelledTime, Recording
from karmma_training.learning.interrupt import interrupts_wait
from karmma_training.learning.losses import classification_loss, finite
from karmma_training.learning.processes import own_rows, share_statistics
from karmma_training.learning.run_log import RunLog
from karmma_training.learning.schedule import learning_rate, seed_step
from karmma_training.networks.heads import split_heads
from karmma_training.networks.model import MultimodalModel, Unimodal
from karmma_training.progress import progress_bar

__all__ = ["Pretraining", "SampleSampler", "stage0_state", "unimodal_accuracy"]

_TRIES = 10_000  # moments drawn until one has a sample
CHUNKS_PER_S = 10  # chunks of sound that count as having seen a second of it


class SampleSampler:
    """Batches of single samples of one modality with the label at their stamp; row `row` of batch `number` of a seed is
    always the same sample."""

    def __init__(self, recordings: list[Recording], config: Config, modality: str, *, batch: int, seed: int) -> None:
        self._recordings = [r for r in recordings if modality in r.modalities]
        self._config, self._modality, self._batch, self._seed = config, modality, batch, seed
        self._context = contexts(config)[modality]
        self._damage = DamageLog("no sample is drawn there")
        self._time = LabelledTime(self._recordings, config.data.draw, [modality], seed) if self._recordings else None

    def __len__(self) -> int:
        """How many samples there are; of data drawn by action, how many actions."""
        if self._config.data.draw == "actions":
            return sum(len(r.starts) for r in self._recordings)
        if self._modality == "audio":
            return int(sum(r.labelled_s for r in self._recordings) * CHUNKS_PER_S)
        return sum(len(r.stamps[self._modality]) for r in self._recordings)

    def batch(self, number: int, rows: range | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples in the shape of the extractor's graph input, and targets (B, heads)."""
        drawn = [
            self._draw(np.random.default_rng([self._seed, number, row]), number * self._batch + row)
            for row in (range(self._batch) if rows is None else rows)
        ]
        samples, targets = zip(*drawn, strict=True)
        return torch.from_numpy(np.stack(samples)), torch.from_numpy(np.stack(targets))

    def _draw(self, rng: np.random.Generator, turn: int) -> tuple[np.ndarray, np.ndarray]:
        assert self._time is not None, "nothing is drawn of a modality that was not recorded"
        for attempt in range(_TRIES):
            number, interval = self._time.draw(rng, None if attempt else turn)
            recording = self._recordings[number]
            t_s = recording.time_at(rng.random(), interval)
            during = _interval(recording, t_s)
            sample = self._sample(recording, t_s, during, rng)
            if sample is not None:
                return sample, recording.targets[during]
        raise UsageError(
            f"hardly any labelled moment has {self._modality} long enough for {self._modality}.context: shorten it"
        )

    def _sample(self, recording: Recording, t_s: float, during: int, rng: np.random.Generator) -> np.ndarray | None:
        """The augmented sample that was the newest at t_s; None where none was taken during that interval."""
        look = draw_look(self._config.augment, rng)
        if self._modality == "audio":
            which = to_ns(t_s)
            first_ns = recording.sound_start_ns + to_ns(self._context.count / recording.rate)
            there = first_ns <= which <= recording.sound_stop_ns
        else:
            stamps = recording.stamps[self._modality]
            which = int(np.searchsorted(stamps, to_ns(t_s), side="right")) - 1
            # A picture taken before the action began, or long ago by a camera that has stopped, does not show it.
            there = which >= 0 and _interval(recording, stamps[which] / 1e9) == during
        if not there:
            return None
        try:
            return look.samples(recording, self._modality, np.array([which]), self._context, rng)[0]
        except MediaError as error:
            self._damage.tell(recording.name, error)
            return None


def _interval(recording: Recording, t_s: float) -> int:
    return int(recording.interval_at(np.array([t_s]))[0])


def stage0_state(run: Path) -> Path:
    """The file of an interrupted stage 0; it is of no use once the run has its first checkpoint."""
    return run / "stage0.pt"


class Pretraining:
    """Stage 0 of a model, in place; `state` is in the run folder, so that an interrupted stage goes on.

    :param recordings: of the training split; validation: what the finished extractors are tried on.
    """

    def __init__(
        self,
        model: MultimodalModel,
        recordings: list[Recording],
        validation: list[Recording],
        config: Config,
        accelerator: Accelerator,
        log: RunLog,
    ) -> None:
        self.model, self.recordings, self.validation = model, recordings, validation
        self.config, self.accelerator, self.log = config, accelerator, log
        self.path = stage0_state(log.folder)
        self.finished: list[str] = []
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Train what is not trained yet.

        :raises KarmmaError: the loss is not finite.
        """
        state = load_tensors(self.path) if self.path.exists() else None
        if state is not None:
            self.model.extractors.load_state_dict(state["extractors"])
            self.finished = list(state["finished"])
        for modality in self.model.specs:
            if modality in self.finished:
                continue
            part = state["part"] if state is not None and state["modality"] == modality else None
            self._train(modality, part)
            self.finished.append(modality)
            self._save("", None)
        self.accelerator.wait_for_everyone()

    def _train(self, modality: str, part: dict[str, Any] | None) -> None:
        """One extractor.

        :param part: where an interrupted training of it stood.
        """
        p = self.config.pretrain
        sampler = SampleSampler(self.recordings, self.config, modality, batch=p.batch, seed=self.config.seed)
        passes = getattr(p, modality)
        total = max(1, round(len(sampler) * passes / p.batch)) if len(sampler) and passes else 0
        extractor = self.model.extractors[modality]
        frozen = not any(parameter.requires_grad for parameter in extractor.parameters())
        if not total:
            if frozen and not self.config.slots(modality).weights:
                self.log.line(
                    f"{modality}: its extractor stays random: not trained in stage 0, and frozen from then on"
                )
            return
        torch.manual_seed(self.config.seed)  # the same classifier in a run that goes on as in one that was not stopped
        unimodal = Unimodal(self.model, modality).to(self.accelerator.device).requires_grad_(True)
        optimiser = torch.optim.AdamW(
            unimodal.parameters(), lr=p.lr, weight_decay=self.config.train.weight_decay, foreach=True
        )
        first = 0
        if part is not None:
            unimodal.load_state_dict(part["unimodal"])
            optimiser.load_state_dict(part["optimiser"])
            first = part["step"]
        module = self.accelerator.prepare_model(unimodal)
        extractor.train()
        losses: list[float] = []
        step = first
        rows = own_rows(self.accelerator, p.batch)
        threads = loader_threads(self.recordings, self.config.train.loaders)
        batches = prefetch(lambda number: sampler.batch(number, rows), first, total - first, threads=threads)

        def save() -> None:
            part = {"unimodal": unimodal.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            self._save(modality, part)

        with progress_bar(self.log.console) as bar, interrupts_wait() as interrupted:
            task = bar.add_task(f"stage 0, {modality}", total=total, completed=first, note="")
            try:
                for batch in batches:
                    losses.append(self._step(module, optimiser, batch, modality, step, total))
                    step += 1
                    bar.update(task, advance=1, note=f"loss {np.mean(losses[-20:]):.3f}")
                    if interrupted() or time.monotonic() - self.saved_at > self.config.train.checkpoint_s:
                        save()
                    if interrupted():
                        where = f"step {step} of {total} of stage 0, {modality}"
                        self.log.line(f"stopped at {where}; continue with --resume")
                        raise KeyboardInterrupt
            finally:
                batches.close()
        share_statistics(self.accelerator, extractor)
        extractor.eval().requires_grad_(not frozen)
        accuracy = unimodal_accuracy(unimodal, self.validation, modality, self.config, self.model.heads)
        heads = "  ".join(f"{head} {100 * value:.1f}" for head, value in accuracy.items())
        final = f", loss {np.mean(losses[-max(1, total // 10) :]):.3f}" if losses else ""
        self.log.line(
            f"stage 0, {modality}: {total * p.batch} samples{final}; "
            f"single samples of the validation split: {heads or 'none'}"
        )

    def _step(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        batch: tuple[torch.Tensor, torch.Tensor],
        modality: str,
        step: int,
        total: int,
    ) -> float:
        p = self.config.pretrain
        seed_step(self.config.seed, step, self.accelerator.process_index)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, total=total, warmup=max(1, total // 10), peak=p.lr, final_share=0.0)
        samples, targets = (tensor.to(self.accelerator.device) for tensor in batch)
        logits = split_heads(module(samples), self.model.heads)
        loss = classification_loss(logits, targets, self.config.train.label_smoothing)
        value = finite(loss, "loss", f"{step} of stage 0, {modality}", "pretrain.lr")
        optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        # Which clips nothing.
        norm = nn.utils.clip_grad_norm_(list(module.parameters()), float("inf"), foreach=True)
        finite(norm, "gradient", f"{step} of stage 0, {modality}", "pretrain.lr")
        optimiser.step()
        return value

    def _save(self, modality: str, part: dict[str, Any] | None) -> None:
        """Write the state; `part` is that of a modality under way."""
        self.saved_at = time.monotonic()
        if self.accelerator.is_main_process:
            save_tensors(
                self.path,
                {
                    "extractors": self.model.extractors.state_dict(),
                    "finished": self.finished,
                    "modality": modality,
                    "part": part,
                },
            )


@torch.inference_mode()
def unimodal_accuracy(
    unimodal: Unimodal, recordings: list[Recording], modality: str, config: Config, heads: dict[str, int]
) -> dict[str, float]:
    """Share of single samples whose class is named right, per head; empty without samples.

    About ten samples a second are tried, a training batch at a time.
    """
    context = contexts(config)[modality]
    right: dict[str, list[np.ndarray]] = {head: [] for head in heads}
    device = next(unimodal.parameters()).device
    for recording in recordings:
        if modality not in recording.modalities:
            continue
        if modality == "audio":
            first_ns = recording.sound_start_ns + to_ns(context.count / recording.rate)
            which = stamps = np.arange(first_ns, recording.sound_stop_ns, 1_000_000_000 // CHUNKS_PER_S)
        else:
            which = np.arange(0, len(recording.stamps[modality]), 3)
            stamps = recording.stamps[modality][which]
        interval = recording.interval_at(stamps / 1e9)
        which, interval = which[interval >= 0], interval[interval >= 0]
        if not len(which):
            continue
        for low in range(0, len(which), config.pretrain.batch):
            few = slice(low, low + config.pretrain.batch)
            samples, readable = readable_samples(recording, modality, which[few], context)
            if samples is None:
                continue
            logits = split_heads(unimodal(torch.from_numpy(samples).to(device)), heads)
            targets = recording.targets[interval[few][readable]]
            for i, (head, values) in enumerate(logits.items()):
                right[head].append(values.argmax(1).cpu().numpy() == targets[:, i])
    return {head: float(np.concatenate(hits).mean()) for head, hits in right.items() if hits}
