# SPDX-License-Identifier: Apache-2.0
"""Stage 0: each extractor alone, on single samples, before the window is trained.

A frame costs a window's extractor run a hundredth of a training step, and its label reaches the extractor without a
detour through fusion: what takes a window-trained video extractor hours takes minutes here. The classifiers on top are
thrown away; the extractors go on in training.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from rich.console import Console
from torch import nn

from karmma_ros.window import to_ns
from karmma_training.config import Config
from karmma_training.data.augment import draw_look
from karmma_training.data.prefetch import prefetch
from karmma_training.data.store import Recording
from karmma_training.heads import split_heads
from karmma_training.losses import classification_loss, finite_loss
from karmma_training.model import Student
from karmma_training.progress import progress_bar

__all__ = ["SampleSampler", "pretrain"]


class SampleSampler:
    """Batches of single samples of one modality with the label at their stamp; a batch depends on seed and number."""

    def __init__(self, recordings: list[Recording], config: Config, modality: str, *, batch: int, seed: int) -> None:
        self._recordings = [r for r in recordings if modality in r.arrays]
        self._config, self._modality, self._batch, self._seed = config, modality, batch, seed
        self._share = np.cumsum([r.labelled_s for r in self._recordings])

    def __bool__(self) -> bool:
        return bool(self._recordings)

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples in the shape of the extractor's graph input, and targets (B, heads)."""
        rng = np.random.default_rng([self._seed, number])
        samples: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        while len(samples) < self._batch:
            k = int(np.searchsorted(self._share, rng.random() * self._share[-1], side="right"))
            recording = self._recordings[min(k, len(self._recordings) - 1)]
            t_s = recording.time_at(rng.random())
            label = int(recording.interval_at(np.array([t_s]))[0])
            sample = self._sample(recording, t_s, rng)
            if label >= 0 and sample is not None:
                samples.append(sample)
                targets.append(recording.targets[label])
        return torch.from_numpy(np.stack(samples)), torch.from_numpy(np.stack(targets))

    def _sample(self, recording: Recording, t_s: float, rng: np.random.Generator) -> np.ndarray | None:
        """The augmented sample that was the newest at t_s; None where there is none."""
        look = draw_look(self._config.augment, rng)
        if self._modality == "audio":
            context = self._config.audio.context
            first_ns = recording.sound_start_ns + to_ns(context / recording.rate)
            end_ns = to_ns(t_s)
            if not first_ns <= end_ns <= recording.sound_stop_ns:
                return None
            return look.sound(recording.sound(end_ns, context), rng)
        index = int(np.searchsorted(recording.stamps[self._modality], to_ns(t_s), side="right")) - 1
        if index < 0:
            return None
        value = recording.arrays[self._modality][index]
        return (look.video(value) if self._modality == "video" else look.flow(value))[None]


def pretrain(student: Student, recordings: list[Recording], config: Config, console: Console) -> Iterator[str]:
    """Train the extractors of `student` in place; yields a line of what came out per modality.

    :param recordings: of the training split.
    :raises KarmmaError: the loss is not finite.
    """
    p = config.pretrain
    for modality in student.specs:
        epochs = getattr(p, modality)
        sampler = SampleSampler(recordings, config, modality, batch=p.batch, seed=config.seed)
        if not epochs or not sampler:
            continue
        count = sum(len(r.stamps[modality]) if modality in r.stamps else int(r.labelled_s * 10) for r in recordings)
        total = max(1, round(count * epochs / p.batch))
        spec = student.specs[modality]
        classifier = nn.Linear(spec.tokens * spec.dim, sum(student.heads.values()))
        extractor = student.extractors[modality]
        parameters = [*extractor.parameters(), *classifier.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=p.lr, weight_decay=config.train.weight_decay, foreach=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, p.lr, total_steps=total + 1, pct_start=0.1)
        extractor.train()
        losses: list[float] = []
        right = torch.zeros(len(student.heads))
        tail = max(1, total // 10)
        with progress_bar(console) as bar:
            task = bar.add_task(f"pre-training {modality}", total=total, note="")
            batches = prefetch(sampler.batch, 0, total)
            try:
                for number, (samples, targets) in enumerate(batches):
                    logits = classifier(student.encode(modality, samples).flatten(1))
                    split = split_heads(logits, student.heads)
                    loss = classification_loss(split, targets, config.train.label_smoothing)
                    value = finite_loss(loss, f"{number} of pre-training {modality}", "pretrain.lr")
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
                    schedule.step()
                    losses.append(value)
                    if number >= total - tail:
                        hits = [
                            (values.argmax(1) == targets[:, i]).float().mean()
                            for i, values in enumerate(split.values())
                        ]
                        right += torch.stack(hits).detach() / tail
                    bar.update(task, advance=1, note=f"loss {np.mean(losses[-20:]):.3f}")
            finally:
                batches.close()
        heads = "  ".join(f"{head} {100 * float(value):.1f}" for head, value in zip(student.heads, right, strict=True))
        seen, final = total * p.batch, float(np.mean(losses[-tail:]))
        yield f"pre-trained {modality} on {seen} samples; in the last tenth: loss {final:.3f}  {heads}"
