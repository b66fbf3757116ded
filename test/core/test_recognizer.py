# SPDX-License-Identifier: Apache-2.0
"""The recogniser over streams of samples, with a toy bundle and real ONNX Runtime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from toy_bundle import make_toy_bundle

from karmma_ros.bundle import load_bundle
from karmma_ros.errors import BundleError, EngineError, SampleError, UsageError
from karmma_ros.recognizer import Prediction, Recognizer, Status
from karmma_ros.runtime import FUSION
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_ros.scoring import joint_probabilities
from karmma_ros.window import assign_slots

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
FRAME = 33_333_333
RATE = 16_000


@pytest.fixture
def recognizer(toy: Path) -> Recognizer:
    return Recognizer(toy, providers="cpu")


def image(seed: int, size: tuple[int, int] = (48, 64)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def field(seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((48, 64, 2)).astype(np.float32)


def sound(seconds: float = 4.0) -> npt.NDArray[np.float32]:
    """Noise and a rising tone: no two moments sound alike."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(9).standard_normal(len(time_s)) * 0.05
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s) + noise).astype(np.float32)


def fill(recognizer: Recognizer, seconds: float = 1.5) -> int:
    """Pushes all modalities without loss from T0 on; returns the stamp of the last frame."""
    samples = sound(seconds)
    stamp = T0
    for i in range(round(seconds * 30)):
        stamp = T0 + i * FRAME
        recognizer.push("audio", T0 + i * 533 * 10**9 // RATE, samples[i * 533 : (i + 1) * 533])
        recognizer.push("flow", stamp, field(i))
        recognizer.push("video", stamp, image(i))
    return stamp


def same(one: Prediction, two: Prediction, tolerance: float = 1e-5) -> bool:
    return one.coverages == two.coverages and all(
        np.allclose(one.logits[head], two.logits[head], atol=tolerance) for head in one.logits
    )


def test_a_full_window_names_an_action(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    prediction = recognizer.predict(t)
    assert prediction.status is Status.OK
    assert prediction.stamp_ns == t
    assert prediction.coverage >= 0.98
    assert set(prediction.coverages) == {"video", "flow", "audio"}
    assert len(prediction.actions) == 5
    scores = [label.score for label in prediction.actions]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1.0)
    names = recognizer.bundle.action_names
    assert all(label.name == names[label.id] for label in prediction.actions)
    expected = joint_probabilities(
        prediction.logits["verb"][np.newaxis], prediction.logits["noun"][np.newaxis], recognizer.bundle.actions
    )[0]
    assert [label.score for label in sorted(prediction.actions)] == pytest.approx(expected.tolist())
    assert prediction.verbs[0].id == int(np.argmax(prediction.logits["verb"]))
    assert prediction.nouns[0].id == int(np.argmax(prediction.logits["noun"]))
    assert prediction.processing_s > 0


def test_without_any_token_nothing_is_run_and_that_is_said(recognizer: Recognizer) -> None:
    prediction = recognizer.predict(T0)
    assert prediction.status is Status.NO_INPUT
    assert (prediction.actions, prediction.verbs, prediction.nouns, prediction.logits) == ((), (), (), {})
    assert prediction.coverage == 0.0
    assert recognizer.engine.runs[FUSION] == 0


def test_an_old_result_is_never_repeated(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    assert recognizer.predict(t).status is Status.OK
    late = recognizer.predict(t + 2_000 * MS)
    assert late.status is Status.NO_INPUT
    assert late.actions == ()
    assert recognizer.engine.runs[FUSION] == 1


def test_every_prediction_runs_fusion_and_every_sample_its_extractor_once(recognizer: Recognizer) -> None:
    for i in range(10):
        recognizer.push("video", T0 + i * FRAME, image(i))
        recognizer.predict(T0 + i * FRAME)
    assert recognizer.engine.runs == {"video": 10, FUSION: 10}


def test_a_changed_frame_changes_its_own_prediction(toy: Path) -> None:
    logits = []
    for last in (3, 4):
        recognizer = Recognizer(toy)
        recognizer.push("video", T0, image(1))
        recognizer.push("video", T0 + FRAME, image(last))
        logits.append((recognizer.predict(T0), recognizer.predict(T0 + FRAME)))
    assert same(logits[0][0], logits[1][0])
    assert not same(logits[0][1], logits[1][1])


def test_a_missing_modality_casts_no_vote_and_the_others_decide(toy: Path) -> None:
    alone, together = Recognizer(toy, modalities=["video"]), Recognizer(toy)
    for each in (alone, together):
        for i in range(30):
            each.push("video", T0 + i * FRAME, image(i))
    one, two = alone.predict(T0 + 29 * FRAME), together.predict(T0 + 29 * FRAME)
    assert same(one, two)
    assert one.coverages["video"] == 1.0
    assert one.coverage == pytest.approx(30 / 70)
    together.push("flow", T0 + 28 * FRAME, field(0))
    assert not np.allclose(together.predict(T0 + 29 * FRAME).logits["verb"], two.logits["verb"])


def test_streaming_equals_encoding_everything_afresh(toy: Path) -> None:
    """Drops, jitter, disorder and odd chunks: the tokens kept from before are those that a fresh look would give."""
    rng = np.random.default_rng(7)
    bundle = load_bundle(toy)
    recognizer = Recognizer(bundle)
    engine = recognizer.engine
    samples = sound()
    seen: dict[str, dict[int, npt.NDArray[Any]]] = {"video": {}, "flow": {}}
    events: list[tuple[int, str, int]] = []
    stamps = {i: T0 + i * FRAME + int(rng.integers(-4 * MS, 4 * MS)) for i in range(110)}
    for i, stamp in stamps.items():
        for name in ("video", "flow"):
            if rng.random() < 0.6 and not (name == "video" and 40 <= i < 60):
                events.append((stamp + int(rng.integers(0, 60 * MS)), name, i))
    position = 0
    while position < 3.6 * RATE:
        events.append((T0 + position * 10**9 // RATE, "audio", position))
        position += 400
    lost = range(24_000, 30_000)
    heard = np.zeros(len(samples), dtype=bool)
    checked = 0
    for arrival, name, i in sorted(events):
        if name == "audio":
            if i in lost:
                continue
            recognizer.push("audio", T0 + i * 10**9 // RATE, samples[i : i + 400])
            heard[i : i + 400] = True
            continue
        sample = image(i) if name == "video" else field(i)
        recognizer.push(name, stamps[i], sample)
        seen[name][stamps[i]] = sample
        if name == "video" and i % 3 == 0:
            t = max(*seen["video"], arrival if i % 2 else 0)
            checked += 1
            prediction = recognizer.predict(t)
            tokens: dict[str, npt.NDArray[np.float32]] = {}
            present: dict[str, npt.NDArray[np.bool_]] = {}
            for modality, spec in bundle.modalities.items():
                inputs: dict[int, npt.NDArray[Any]] = {}
                if modality == "audio":
                    ends = np.flatnonzero(heard)[-1] + 1
                    for grid in range(T0, T0 + int(ends) * 10**9 // RATE + 1, 100 * MS):
                        end = (grid - T0) * RATE // 10**9
                        if end >= spec.context and heard[end - spec.context : end].all():
                            inputs[grid] = samples[end - spec.context : end]
                else:
                    prepare = prepare_image if modality == "video" else prepare_flow
                    inputs = {s: prepare(x, spec.input.size)[np.newaxis] for s, x in sorted(seen[modality].items())}
                held = np.array(list(inputs), dtype=np.int64)
                rows = assign_slots(held, t, spec.slot_spec)
                tokens[modality] = np.zeros((1, spec.slots, spec.tokens, spec.dim), dtype=np.float32)
                for slot, row in enumerate(rows):
                    if row >= 0:
                        tokens[modality][0, slot] = engine.encode(modality, inputs[int(held[row])][np.newaxis])[0]
                tokens[modality] = tokens[modality].reshape(1, spec.slots * spec.tokens, spec.dim)
                present[modality] = np.repeat(rows >= 0, spec.tokens)[np.newaxis]
                assert prediction.coverages[modality] == pytest.approx(np.mean(rows >= 0))
            logits = engine.fuse(tokens, present)
            for head in logits:
                assert prediction.logits[head] == pytest.approx(logits[head][0], abs=1e-4)
    assert checked > 10


def test_all_sensors_on_fill_the_window(toy: Path) -> None:
    rng = np.random.default_rng(3)
    recognizer = Recognizer(toy)
    coverages: list[dict[str, float]] = []
    samples = sound()
    for i in range(110):
        stamp = T0 + i * FRAME + int(rng.integers(-2 * MS, 2 * MS))
        # The microphone's chunk that reaches past the frame has not come yet.
        recognizer.push("audio", T0 + i * 533 * 10**9 // RATE, samples[i * 533 : (i + 1) * 533])
        recognizer.push("flow", stamp, field(i))
        recognizer.push("video", stamp, image(i))
        if i >= 45:
            coverages.append(recognizer.predict(stamp).coverages)
    for modality in ("video", "flow", "audio"):
        assert np.mean([c[modality] for c in coverages]) >= 0.98


@pytest.mark.parametrize("size", [160, 533, 1_601, 20_000])
def test_the_size_of_audio_chunks_does_not_matter(toy: Path, size: int) -> None:
    samples = sound(2.0)
    whole, cut = Recognizer(toy), Recognizer(toy)
    assert whole.push("audio", T0, samples) == 19
    for i in range(0, len(samples), size):
        cut.push("audio", T0 + i * 10**9 // RATE, samples[i : i + size])
    assert same(whole.predict(T0 + 2_000 * MS), cut.predict(T0 + 2_000 * MS))


def test_joining_late_gives_the_same_audio_tokens(toy: Path) -> None:
    samples = sound(4.0)
    early, late = Recognizer(toy), Recognizer(toy)
    early.push("audio", T0, samples)
    late.push("audio", T0 + 1_234 * MS + 56_789, samples[round(1.234056789 * RATE) :])
    assert late.predict(T0 + 4_000 * MS).coverages["audio"] == 1.0
    one, two = early.predict(T0 + 4_000 * MS), late.predict(T0 + 4_000 * MS)
    # The late one begins between two samples: up to half a sample's difference.
    assert same(one, two, tolerance=0.02)
    assert not same(one, early.predict(T0 + 3_000 * MS), tolerance=0.02)


def test_audio_of_another_rate_and_more_channels_is_understood(toy: Path) -> None:
    time_s = np.arange(48_000 * 2) / 48_000
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    one, two = Recognizer(toy), Recognizer(toy)
    one.push("audio", T0, tone[::3])
    for i in range(0, len(tone), 960):
        two.push("audio", T0 + i * 10**9 // 48_000, np.stack([tone[i : i + 960]] * 2, axis=1), 48_000)
    t = T0 + 1_990 * MS
    assert same(one.predict(t), two.predict(t), tolerance=0.01)


def test_live_audio_is_stored_first_and_encoded_newest_first(recognizer: Recognizer) -> None:
    samples = sound(1.0)
    assert recognizer.store_audio(T0, samples) == RATE
    assert recognizer.engine.runs["audio"] == 0
    assert recognizer.encode_due_audio(limit=2) == (2, 7)  # 0.2 to 1.0 s: nine grid points
    assert recognizer.engine.runs["audio"] == 1  # in one batch
    assert recognizer.encode_due_audio(limit=2) == (0, 0)
    assert recognizer.predict(T0 + 1_000 * MS).coverages["audio"] == pytest.approx(
        1 / 10
    )  # 0.9; 1.0 is newer than the delay
    assert recognizer.predict(T0 + 1_100 * MS).coverages["audio"] == pytest.approx(2 / 10)


def test_a_limit_of_zero_passes_over_what_is_due(recognizer: Recognizer) -> None:
    recognizer.store_audio(T0, sound(1.0))
    assert recognizer.encode_due_audio(limit=0) == (0, 9)
    assert recognizer.encode_due_audio() == (0, 0)
    assert recognizer.engine.runs["audio"] == 0


def test_grid_points_across_a_gap_are_neither_encoded_nor_counted(recognizer: Recognizer) -> None:
    samples = sound(1.0)
    recognizer.store_audio(T0, samples[:8_000])
    recognizer.store_audio(T0 + 550 * MS, samples[8_800:])
    # 0.2 .. 0.5 before the gap, 0.8, 0.9 and 1.0 after it.
    assert recognizer.encode_due_audio(limit=5) == (5, 2)


def test_a_stalled_worker_does_not_scan_forever(recognizer: Recognizer) -> None:
    recognizer.store_audio(T0, sound(0.5))
    recognizer.encode_due_audio()
    recognizer.store_audio(T0 + 86_400 * 10**9, sound(0.5))
    assert recognizer.encode_due_audio() == (4, 0)


def test_a_modality_switched_off_is_erased_and_its_extractor_does_not_run(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    recognizer.modalities = ["flow"]
    prediction = recognizer.predict(t)
    assert prediction.coverages["video"] == prediction.coverages["audio"] == 0.0
    assert prediction.coverages["flow"] > 0.9
    runs = dict(recognizer.engine.runs)
    assert recognizer.push("video", t + FRAME, image(0)) == 0
    assert recognizer.push("audio", t + FRAME, sound(1.0)) == 0
    assert recognizer.encode_due_audio() == (0, 0)
    assert {name: recognizer.engine.runs[name] for name in runs} == runs
    recognizer.modalities = ["video", "flow", "audio"]
    assert recognizer.encode_due_audio() == (0, 0)  # nothing was kept in secret
    assert recognizer.predict(t).coverages["audio"] == 0.0


def test_evicting_erases_back_to_a_moment(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    assert recognizer.evict("video", t - 9 * FRAME) == 10
    assert recognizer.predict(t).coverages["video"] == pytest.approx(20 / 30)


def test_clearing_and_resetting_forget(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    recognizer.clear("audio")
    assert recognizer.predict(t).coverages["audio"] == 0.0
    assert recognizer.predict(t).coverages["video"] == 1.0
    recognizer.reset()
    assert recognizer.predict(t).status is Status.NO_INPUT
    fill(recognizer)  # the same stamps again
    assert recognizer.predict(t).coverage >= 0.98


@pytest.mark.parametrize("erase", ["clear", "evict", "reset", "disable"])
def test_what_is_being_computed_when_it_is_erased_stays_erased(
    recognizer: Recognizer, erase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = recognizer.engine.encode
    computing, erased = threading.Event(), threading.Event()

    def slow(modality: str, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        tokens = encode(modality, batch)
        computing.set()
        assert erased.wait(10)
        return tokens

    monkeypatch.setattr(recognizer.engine, "encode", slow)
    worker = threading.Thread(target=recognizer.push, args=("video", T0, image(0)))
    worker.start()
    assert computing.wait(10)
    if erase == "clear":
        recognizer.clear("video")
    elif erase == "evict":
        recognizer.evict("video", T0)
    elif erase == "reset":
        recognizer.reset()
    else:
        recognizer.modalities = ["flow"]
    erased.set()
    worker.join(10)
    assert not worker.is_alive()
    assert recognizer.predict(T0).status is Status.NO_INPUT


def test_a_failing_fusion_is_said_and_the_next_prediction_is_tried_again(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = fill(recognizer)
    fuse = recognizer.engine.fuse
    good = recognizer.predict(t)

    def broken(*_: Any) -> Any:
        raise EngineError("out of\nmemory")

    monkeypatch.setattr(recognizer.engine, "fuse", broken)
    failed = recognizer.predict(t)
    assert failed.status is Status.FAILED
    assert failed.error == "out of memory"
    assert (failed.actions, failed.verbs, failed.nouns, failed.logits) == ((), (), (), {})
    assert failed.coverage == good.coverage
    monkeypatch.setattr(recognizer.engine, "fuse", fuse)
    assert same(recognizer.predict(t), good)


def test_logits_that_are_not_finite_are_a_failure(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    t = fill(recognizer)
    fuse = recognizer.engine.fuse

    def poisoned(*arguments: Any) -> Any:
        logits = fuse(*arguments)
        logits["noun"][0, 1] = np.nan
        return logits

    monkeypatch.setattr(recognizer.engine, "fuse", poisoned)
    assert recognizer.predict(t).status is Status.FAILED


def test_bad_samples_raise_their_cause_and_leave_no_trace(recognizer: Recognizer) -> None:
    bad: list[tuple[str, Any]] = [
        ("video", np.zeros((4, 4), np.uint8)),
        ("flow", np.full((48, 64, 2), np.nan, np.float32)),
        ("audio", np.full(8_000, np.inf, np.float32)),
    ]
    for modality, sample in bad:
        with pytest.raises(SampleError):
            recognizer.push(modality, T0, sample)
    assert recognizer.predict(T0).status is Status.NO_INPUT


def test_tokens_that_are_not_finite_do_not_enter_the_window(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer.engine, "encode", lambda *_: np.full((1, 2, 6), np.nan, np.float32))
    with pytest.raises(SampleError, match="not finite"):
        recognizer.push("video", T0, image(0))
    assert recognizer.predict(T0).status is Status.NO_INPUT


def test_below_the_minimum_score_the_top_label_is_unknown(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    before = recognizer.predict(t)
    recognizer.min_score = before.actions[0].score + 0.01
    after = recognizer.predict(t)
    assert after.actions[0] == (-1, "unknown", before.actions[0].score)
    assert after.actions[1:] == before.actions[1:]
    recognizer.min_score = before.actions[0].score - 0.01
    assert recognizer.predict(t).actions == before.actions


def test_top_k_limits_the_rankings(recognizer: Recognizer) -> None:
    t = fill(recognizer)
    recognizer.top_k = 2
    prediction = recognizer.predict(t)
    assert [len(x) for x in (prediction.actions, prediction.verbs, prediction.nouns)] == [2, 2, 2]


def test_temperatures_soften_the_scores(tmp_path: Path) -> None:
    tops = []
    for temperature in (0.2, 5.0):
        recognizer = Recognizer(make_toy_bundle(tmp_path / str(temperature), temperature=temperature))
        recognizer.push("video", T0, image(0))
        tops.append(recognizer.predict(T0))
    assert tops[0].verbs[0].score > tops[1].verbs[0].score
    assert tops[0].actions[0].score > tops[1].actions[0].score
    assert np.allclose(tops[0].logits["verb"], tops[1].logits["verb"])


def test_a_bundle_with_one_head_names_actions_only(tmp_path: Path) -> None:
    recognizer = Recognizer(make_toy_bundle(tmp_path / "one", single_head=True))
    recognizer.push("video", T0, image(0))
    prediction = recognizer.predict(T0)
    assert {label.name for label in prediction.actions} == {"idle", "pour bottle", "cut bread"}
    assert prediction.actions[0].id == int(np.argmax(prediction.logits["action"]))
    assert prediction.verbs == prediction.nouns == ()


def test_a_bundle_may_lack_modalities(tmp_path: Path) -> None:
    recognizer = Recognizer(make_toy_bundle(tmp_path / "silent", modalities=("flow", "video")))
    assert recognizer.encode_due_audio() == (0, 0)
    for call in (lambda: recognizer.push("audio", T0, sound(0.1)), lambda: recognizer.store_audio(T0, sound(0.1))):
        with pytest.raises(UsageError, match="audio"):
            call()
    recognizer.push("video", T0, image(0))
    assert recognizer.predict(T0).status is Status.OK


def test_settings_that_make_no_sense_are_refused(toy: Path) -> None:
    with pytest.raises(UsageError, match="smell"):
        Recognizer(toy, modalities=["smell"])
    with pytest.raises(EngineError, match="unknown"):
        Recognizer(toy, providers="abacus")
    with pytest.raises(BundleError):
        Recognizer("no-such-bundle")
