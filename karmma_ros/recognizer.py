# SPDX-License-Identifier: Apache-2.0
"""The core's one door: samples in, predictions out.

A sample's tokens enter the window at its stamp; a prediction reads the window for one moment and runs fusion. Live use
(the node) stores audio as it arrives and encodes when there is time; offline use pushes everything in order of time.
Both end in the same window, so they give the same predictions.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from karmma_ros.audio import AudioInput
from karmma_ros.bundle import Bundle, load_bundle
from karmma_ros.clips import ClipBuffer
from karmma_ros.detections import prepare_detections
from karmma_ros.errors import EngineError, SampleError, UsageError
from karmma_ros.manifest import ModalitySpec
from karmma_ros.runtime import Engine
from karmma_ros.samples import prepare_flow, prepare_image, to_mono
from karmma_ros.scoring import joint_probabilities, probabilities
from karmma_ros.window import TokenWindow, to_ns

__all__ = ["LIVE_AUDIO_LIMIT", "UNKNOWN", "Prediction", "Recognizer", "ScoredLabel", "Status"]

Float32Array = npt.NDArray[np.float32]

UNKNOWN = "unknown"  # name of the label, with id -1, that stands for a top score below `min_score`
LIVE_AUDIO_LIMIT = 2  # audio grid points that a node encodes at once: a chunk of sound must not hold up a frame
_AUDIO_SLACK_S = 2.0  # [s] of audio kept beyond what the window needs, for a worker that is late
_AUDIO_PIECE_S = 0.5  # [s] a long recording is stored and encoded in pieces
_AUDIO_BATCH = 16  # grid points encoded in one run


class Status(IntEnum):
    """The values of ActionPrediction.msg."""

    OK = 0
    NO_INPUT = 1  # no token in the window
    FAILED = 2  # inference failed


class ScoredLabel(NamedTuple):
    """One entry of a ranking."""

    id: int  # index into the bundle's labels; -1: unknown
    name: str
    score: float  # probability


@dataclass(frozen=True)
class Prediction:
    """What the recogniser says about one moment. The rankings are best first, and empty unless `status` is OK."""

    stamp_ns: int
    status: Status
    actions: tuple[ScoredLabel, ...]
    verbs: tuple[ScoredLabel, ...]  # empty with a bundle that has a single `action` head
    nouns: tuple[ScoredLabel, ...]
    coverage: float  # present slots / slots, over all of the bundle's modalities
    coverages: dict[str, float]  # the same for each modality
    logits: dict[str, Float32Array]  # head -> (C,)
    processing_s: float  # [s] that this call took
    error: str = ""  # one line, when FAILED
    scores: npt.NDArray[np.float64] | None = None  # (A,) probability of every action; None unless `status` is OK


class Recognizer:
    """Runs a bundle over streams of samples.

    One thread runs `push`, `encode_due_audio` and `predict`; meanwhile others may call `store_audio`, `evict`, `clear`,
    `reset` and set `modalities`. What those erase stays erased: tokens that were being computed are then dropped.

    `top_k` and `min_score` may be set at any time.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        *,
        providers: str | Sequence[str] = "auto",
        threads: int = 1,
        top_k: int = 5,
        min_score: float = 0.0,
        modalities: Iterable[str] | None = None,
    ) -> None:
        """:param bundle: a loaded one, a name or a folder.
        :param providers, threads: see `runtime.Engine`.
        :param top_k: entries of each ranking.
        :param min_score: below this score the top label is published as `unknown`.
        :param modalities: which to use; None: all of the bundle's.
        :raises BundleError: the bundle cannot be used.
        :raises EngineError: an execution provider cannot be used.
        :raises UsageError: a modality that the bundle does not have.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        self.top_k = top_k
        self.min_score = min_score
        self._names = {"action": self.bundle.action_names, **self.bundle.heads}
        self._pairs = np.asarray(self.bundle.actions, np.int64)  # (actions, 2); of thousands, making it costs
        self._lock = threading.Lock()  # guards all below, and is never held while a graph runs
        self._window = TokenWindow(self.bundle.slot_specs())
        self._clips = {
            name: ClipBuffer(spec.context, to_ns(spec.context_step_s))
            for name, spec in self.bundle.modalities.items()
            if name != "audio" and spec.context > 1
        }
        self._epoch: Counter[str] = Counter()  # per modality, counts erasures: tokens computed before one are dropped
        self._audio: AudioInput | None = None
        self._audio_spec = self.bundle.modalities.get("audio")
        self._next_grid: int | None = None  # the next audio grid point to encode [spacings since the epoch]
        if self._audio_spec is not None:
            spec = self._audio_spec
            context_s = spec.context / spec.rate
            self._audio = AudioInput(spec.rate, context_s + spec.slots * spec.spacing_s + _AUDIO_SLACK_S)
        self._modalities: frozenset[str] = frozenset()
        self.modalities = self.bundle.modalities if modalities is None else modalities
        # Last: it is what takes long, and a mistake in the settings should not have to wait for it.
        self.engine = Engine(self.bundle, providers, threads)

    @property
    def modalities(self) -> frozenset[str]:
        """The modalities in use. Taking one out erases what is held of it; its extractor no longer runs."""
        return self._modalities

    @modalities.setter
    def modalities(self, names: Iterable[str]) -> None:
        chosen = frozenset(names)
        unknown = sorted(chosen - set(self.bundle.modalities))
        if unknown:
            has = ", ".join(self.bundle.modalities)
            raise UsageError(f"bundle {self.bundle.name} has no modality {unknown[0]!r}: it has {has}")
        with self._lock:
            self._modalities = chosen
            for name in self.bundle.modalities:
                if name not in chosen:
                    self._clear(name)

    def push(self, modality: str, stamp_ns: int, sample: npt.NDArray[Any], rate: int | None = None) -> int:
        """Takes one sample and encodes it at once; for audio, everything that is due.

        :param modality: video, flow, audio or detections; a sample of one not in use is passed over.
        :param stamp_ns: of the image; of the flow field's newer image; of the audio's first sample; of the image whose
            objects were detected.
        :param sample: RGB uint8 (H, W, 3); float32 (H, W, 2) in image widths per second; audio (n,) or (n, channels);
            boxes (n, 6), see `detections.prepare_detections`.
        :param rate: [Hz] of the audio; None: the bundle's.
        :return: how many slots' worth of tokens it gave; 0 when none or when too old.
        :raises SampleError: the sample cannot be used.
        :raises EngineError: the extractor failed.
        :raises UsageError: the bundle does not have the modality.
        """
        spec = self.bundle.modalities.get(modality)
        if spec is None:
            raise UsageError(f"bundle {self.bundle.name} has no modality {modality!r}")
        if modality == "audio":
            return self._push_audio(stamp_ns, sample, rate)
        with self._lock:
            if modality not in self._modalities:
                return 0
            epoch = self._epoch[modality]
        prepared = _prepare(spec, sample)
        clips = self._clips.get(modality)
        if clips is None:
            return self._encode(modality, [stamp_ns], prepared[np.newaxis, np.newaxis], epoch)  # (1, 1, h, w, c)
        with self._lock:
            if self._epoch[modality] != epoch:
                return 0
            clip = clips.push(stamp_ns, prepared.copy() if prepared is sample else prepared)
        try:
            return self._encode(modality, [stamp_ns], clip[np.newaxis], epoch)  # (1, context, h, w, c)
        finally:
            clip.fill(0)  # a copy: nobody could erase it when the sensor is switched off

    def keep(self, modality: str, stamp_ns: int, sample: npt.NDArray[Any]) -> int:
        """Takes one sample for the clips of later ones, and encodes nothing: of a machine too slow for every sample.

        :param modality: one whose extractor sees clips; of others the sample is passed over.
        :return: 0, as `push` of what gave no tokens.
        :raises SampleError: the sample cannot be used.
        """
        clips = self._clips.get(modality)
        with self._lock:
            if clips is None or modality not in self._modalities:
                return 0
            epoch = self._epoch[modality]
        prepared = _prepare(self.bundle.modalities[modality], sample)
        with self._lock:
            if self._epoch[modality] == epoch:
                clips.keep(stamp_ns, prepared.copy() if prepared is sample else prepared)
        return 0

    @property
    def audio_gaps(self) -> int:
        """Places in the sound, since the last reset, where samples were missing when the next ones came."""
        return 0 if self._audio is None else self._audio.gaps

    def _push_audio(self, stamp_ns: int, samples: npt.NDArray[Any], rate: int | None) -> int:
        assert self._audio_spec is not None
        mono = to_mono(samples)
        rate = rate or self._audio_spec.rate
        piece = max(1, int(rate * _AUDIO_PIECE_S))
        encoded = 0
        for start in range(0, len(mono), piece):
            self.store_audio(stamp_ns + start * 10**9 // rate, mono[start : start + piece], rate)
            encoded += self.encode_due_audio()[0]
        return encoded

    def store_audio(self, stamp_ns: int, samples: npt.NDArray[Any], rate: int | None = None) -> int:
        """Takes a chunk of audio without encoding it; cheap, for the thread that receives.

        :return: how many samples are new; 0 when all are duplicates, and while a resampler fills up.
        :raises SampleError: the chunk cannot be used.
        :raises UsageError: the bundle has no audio.
        """
        if self._audio is None:
            raise UsageError(f"bundle {self.bundle.name} has no modality 'audio'")
        if "audio" not in self._modalities:
            return 0
        mono = to_mono(samples)
        with self._lock:
            if "audio" not in self._modalities:
                return 0
            return self._audio.push(stamp_ns, mono, rate)

    def encode_due_audio(self, limit: int | None = None) -> tuple[int, int]:
        """Encodes the audio grid points that have become due since the last call.

        Audio is encoded at multiples of its spacing since the epoch, so joining late gives the same tokens. A grid
        point is due once the samples up to it are there; one whose context has a gap is passed over.

        :param limit: encode at most so many, the newest; 0 passes over all (a microphone that is not live).
        :return: (encoded, skipped because of the limit).
        :raises EngineError: the extractor failed; the points do not come again.
        :raises SampleError: the extractor gave tokens that are not finite.
        """
        if self._audio is None:
            return 0, 0
        with self._lock:
            stamps, chunks, skipped = self._due_audio(limit)
            epoch = self._epoch["audio"]
        encoded = 0
        for start in range(0, len(stamps), _AUDIO_BATCH):
            batch = np.stack(chunks[start : start + _AUDIO_BATCH])
            encoded += self._encode("audio", stamps[start : start + _AUDIO_BATCH], batch, epoch)
        return encoded, skipped

    def _due_audio(self, limit: int | None) -> tuple[list[int], list[Float32Array], int]:
        """Stamps and contexts of the grid points to encode, oldest first; how many were skipped."""
        assert self._audio is not None
        assert self._audio_spec is not None
        spec, ring = self._audio_spec, self._audio.ring
        latest = ring.latest_ns
        if latest is None or "audio" not in self._modalities:
            return [], [], 0
        spacing = spec.slot_spec.spacing_ns
        newest = (latest + ring.half_sample_ns) // spacing
        # No point reaches further back than the ring.
        oldest = (latest - ring.capacity * 10**9 // ring.rate) // spacing
        first = oldest if self._next_grid is None else max(oldest, self._next_grid)
        self._next_grid = max(newest + 1, first)
        stamps: list[int] = []
        chunks: list[Float32Array] = []
        skipped = 0
        for grid in range(newest, first - 1, -1):
            chunk = ring.read(grid * spacing, spec.context)
            if chunk is None:
                continue
            if limit is not None and len(stamps) >= limit:
                skipped += 1
                continue
            stamps.append(grid * spacing)
            chunks.append(chunk)
        return stamps[::-1], chunks[::-1], skipped

    def _encode(self, modality: str, stamps_ns: list[int], batch: npt.NDArray[Any], epoch: int) -> int:
        """Runs the extractor and puts the tokens into the window, unless the modality was erased meanwhile."""
        tokens = self.engine.encode(modality, batch)  # (B, N, D)
        if not np.isfinite(tokens).all():
            # One such token would spoil every prediction until it leaves the window.
            raise SampleError(f"{modality} tokens are not finite")
        with self._lock:
            if self._epoch[modality] != epoch:
                return 0
            return sum(
                self._window.push(modality, stamp, token) for stamp, token in zip(stamps_ns, tokens, strict=True)
            )

    def predict(self, t_ns: int) -> Prediction:
        """What is being done at `t_ns`, from what the window holds for it. Never raises nor repeats an old result."""
        started = time.perf_counter()
        with self._lock:
            view = self._window.read(t_ns)
        status, error = Status.NO_INPUT, ""
        logits: dict[str, Float32Array] = {}
        scores: dict[str, npt.NDArray[np.float64]] = {}
        rankings: dict[str, tuple[ScoredLabel, ...]] = {"action": (), "verb": (), "noun": ()}
        if not view.empty:
            try:
                logits = self._fuse(view.tokens, view.present)
                scores = self._scores(logits)
                rankings |= self._rank(scores)
                status = Status.OK
            except Exception as exception:  # whatever it is, the robot must hear of it
                status, logits, scores = Status.FAILED, {}, {}
                error = " ".join(str(exception).split()) or type(exception).__name__
        return Prediction(
            stamp_ns=t_ns,
            status=status,
            actions=rankings["action"],
            verbs=rankings["verb"],
            nouns=rankings["noun"],
            coverage=view.coverage,
            coverages=view.coverages,
            logits=logits,
            processing_s=time.perf_counter() - started,
            error=error,
            scores=scores.get("action"),
        )

    def _fuse(
        self, tokens: dict[str, Float32Array], present: dict[str, npt.NDArray[np.bool_]]
    ) -> dict[str, Float32Array]:
        outputs = self.engine.fuse(
            {name: values[np.newaxis] for name, values in tokens.items()},
            {name: values[np.newaxis] for name, values in present.items()},
        )
        logits = {head: values[0] for head, values in outputs.items()}
        if not all(np.isfinite(values).all() for values in logits.values()):
            raise EngineError("logits are not finite")
        return logits

    def _scores(self, logits: dict[str, Float32Array]) -> dict[str, npt.NDArray[np.float64]]:
        """{head or "action": probabilities}."""
        bundle = self.bundle
        scores = {head: probabilities(values, bundle.temperature[head]) for head, values in logits.items()}
        if "action" not in scores:
            scores["action"] = joint_probabilities(
                logits["verb"][np.newaxis], logits["noun"][np.newaxis], self._pairs, bundle.temperature
            )[0]
        return scores

    def _rank(self, scores: dict[str, npt.NDArray[np.float64]]) -> dict[str, tuple[ScoredLabel, ...]]:
        return {kind: self._top(values, self._names[kind]) for kind, values in scores.items()}

    def _top(self, scores: npt.NDArray[np.float64], names: tuple[str, ...]) -> tuple[ScoredLabel, ...]:
        order = np.argsort(-scores, kind="stable")[: self.top_k]
        ranking = [ScoredLabel(int(i), names[i], float(scores[i])) for i in order]
        if ranking and ranking[0].score < self.min_score:
            ranking[0] = ScoredLabel(-1, UNKNOWN, ranking[0].score)
        return tuple(ranking)

    def evict(self, modality: str, since_ns: int) -> int:
        """Erases a modality's tokens with stamp >= `since_ns`, and any being computed; returns how many were held."""
        with self._lock:
            self._epoch[modality] += 1
            if modality in self._clips:
                self._clips[modality].evict(since_ns)
            return self._window.evict(modality, since_ns)

    def clear(self, modality: str) -> None:
        """Erases everything held of a modality."""
        with self._lock:
            self._clear(modality)

    def _clear(self, modality: str) -> None:
        self._epoch[modality] += 1
        self._window.clear(modality)
        if modality in self._clips:
            self._clips[modality].clear()
        if modality == "audio" and self._audio is not None:
            self._audio.clear()
            self._next_grid = None

    def reset(self) -> None:
        """Erases everything: a new recording, or a clock that jumped back."""
        with self._lock:
            for name in self.bundle.modalities:
                self._clear(name)


def _prepare(spec: ModalitySpec, sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A sample as the extractor takes it, without batch and context."""
    if spec.name == "video":
        return prepare_image(sample, spec.input.size)
    if spec.name == "flow":
        return prepare_flow(sample, spec.input.size)
    return prepare_detections(sample, spec.input.shape[-2], len(spec.categories))
