# SPDX-License-Identifier: Apache-2.0
"""One prediction per annotated action: its times, its crops, and what counts where a clip saw nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.errors import MediaError, UsageError  # noqa: E402
from karmma_ros.window import SlotSpec  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.recording import Context  # noqa: E402
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording  # noqa: E402
from karmma_training.evaluation import segment_report, segments  # noqa: E402
from karmma_training.evaluation.dropout_curve import by_key  # noqa: E402
from karmma_training.evaluation.plots import plot_segments  # noqa: E402
from karmma_training.evaluation.predictor import ModelPredictor  # noqa: E402
from karmma_training.evaluation.segments import (  # noqa: E402
    SegmentLogits,
    _Sums,
    _times_ns,
    crop_looks,
    join_segments,
    predict_segments,
)
from karmma_training.networks.model import build_model  # noqa: E402
from karmma_training.presets import preset  # noqa: E402


@pytest.mark.parametrize(("clips", "expected"), [(1, [2.0]), (4, [1.25, 1.75, 2.25, 2.75])])
def test_clips_of_an_action_lie_at_moments_spread_evenly_over_it(clips: int, expected: list[float]) -> None:
    actions = SimpleNamespace(starts=np.array([7.0, 1.0]), stops=np.array([8.0, 3.0]))
    assert _times_ns(actions, 1, clips) == [round(1e9 * second) for second in expected]  # type: ignore[arg-type]


LABELS = Labels.from_names({"action": ["a", "b"]}, [("a",), ("b",)])
Cut = Callable[..., StoredRecording]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """Four seconds of video and sound, to name some intervals of."""
    folder, form = tmp_path_factory.mktemp("noise") / "noise", StoreFormat.of(preset("tiny"))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (120, form.video_height, form.video_width, 3), np.uint8)
    write_recording(
        folder,
        form,
        frames=[(i * 10**9 // 30, picture) for i, picture in enumerate(pictures)],
        flows=(),
        sound=[rng.normal(0, 0.1, 4 * form.rate).astype(np.float32)],
        meta={"name": "noise", "intervals": []},
    )
    return lambda *spans: StoredRecording(folder, LABELS, [(*span, "a") for span in spans])


@pytest.fixture
def predictor() -> ModelPredictor:
    config = preset("tiny")
    config.modalities = ["video", "audio"]
    torch.manual_seed(0)
    return ModelPredictor(build_model(config, LABELS.sizes()).eval(), LABELS)


def test_clips_and_crops_are_the_mean_of_the_single_calls(
    noise: Cut, predictor: ModelPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(start: float, stop: float, **how: int) -> np.ndarray:
        return predict_segments(predictor, [noise((start, stop))], **how)["video+audio"].logits["action"][0]

    together = ask(1.0, 3.0, clips=2, crops=3)
    singles = []
    for look in crop_looks(3):
        monkeypatch.setattr(segments, "crop_looks", lambda crops, look=look: [look])
        singles += [ask(1.0, 2.0), ask(2.0, 3.0)]  # the middle of each half
    assert len(np.unique(np.round(singles, 4), axis=0)) == 6, "no two see the same"
    np.testing.assert_allclose(together, np.mean(singles, 0), rtol=1e-4)

    def read(self: StoredRecording, modality: str, which: np.ndarray) -> np.ndarray:
        raise MediaError("noise: a hole in the file")

    monkeypatch.undo()
    by_ear = ask(1.0, 3.0)
    monkeypatch.setattr(StoredRecording, "read", read)
    unseen = ask(1.0, 3.0)
    assert np.isfinite(unseen).all(), "what cannot be read is a missing modality"
    assert not np.allclose(unseen, by_ear)


def test_logits_that_are_added_as_they_come_are_those_of_all_that_are_kept(
    noise: Cut, predictor: ModelPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several batches and recordings, the last actions partly or wholly at times of which there is nothing."""
    recordings = [noise((0.5, 1.0), (1.5, 3.9), (3.9, 4.0)), noise((1.0, 3.0), (3.0, 9.0)), noise((-2.0, -1.0))]
    subsets, kept = ["video+audio", "video", "audio"], dict[str, list[np.ndarray]]()
    fuse = segments._fuse

    def keep(*arguments: object) -> dict[str, np.ndarray]:
        logits = fuse(*arguments)  # type: ignore[arg-type]
        kept.setdefault("+".join(arguments[-1]), []).append(logits["action"])  # type: ignore[arg-type]
        return logits

    monkeypatch.setattr(segments, "_fuse", keep)
    found = predict_segments(predictor, recordings, clips=4, crops=3, subsets=subsets)
    for subset in subsets:
        views = np.concatenate(kept[subset]).reshape(6, 4 * 3, 2)
        there = np.isfinite(views[..., 0])
        assert len(kept[subset]) > 3
        with np.errstate(invalid="ignore"):
            mean = np.where(there[..., None], views, 0).sum(1) / there.sum(1, dtype=np.float32)[:, None]
        np.testing.assert_array_equal(found[subset].logits["action"], mean)
        assert there.all(1).tolist() == [True] * 4 + [False] * 2
        assert there.any(1).tolist() == [True] * 5 + [False]


def test_a_clip_is_read_once_for_all_crops(
    noise: Cut, predictor: ModelPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = StoredRecording.read, list[tuple[str, ...]]()

    def count(self: StoredRecording, modality: str, which: np.ndarray) -> np.ndarray:
        asked.append((modality, *map(str, which)))
        return read(self, modality, which)

    monkeypatch.setattr(StoredRecording, "read", count)
    predict_segments(predictor, [noise((0.5, 1.0), (1.5, 3.9))], clips=4, crops=3)
    assert len(set(asked)) == len(asked) == 2 * 4


def test_memory_does_not_grow_with_clips_and_crops(noise: Cut) -> None:
    """On the field's data sets there would be gigabytes of logits to keep."""
    classes = 20_000
    blind = SimpleNamespace(
        specs={"video": SlotSpec(2, 0.1, 0.0, 1, 4)},
        contexts={"video": Context()},
        labels=LABELS,
        encode=lambda modality, samples: np.zeros((len(samples), 1, 4), np.float32),
        fuse=lambda tokens, present: {"action": np.zeros((len(present["video"]), classes), np.float32)},
    )
    recordings = [noise((1.0, 2.0), (2.0, 3.0))]
    peaks_mb = []
    for clips in (5, 100):
        tracemalloc.start()
        predict_segments(blind, recordings, clips=clips, crops=3)  # type: ignore[arg-type]
        peaks_mb.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    assert peaks_mb[1] < peaks_mb[0] + 3, "all logits would be 48 MB"


def test_clips_that_saw_nothing_do_not_count() -> None:
    logits = np.array([[1, 2], [3, 6], [np.nan, np.nan], [5, 1], [np.nan] * 2, [np.nan] * 2], np.float32)
    sums = _Sums(3, 2)
    for batch in (logits[:3], logits[3:]):
        sums.add({"verb": batch})
    found = sums.means()["verb"]
    np.testing.assert_allclose(found[:2], [[2, 4], [5, 1]])
    assert np.isnan(found[2]).all()


def test_crops_go_from_left_to_right_and_keep_to_the_image() -> None:
    assert crop_looks(1) == [None]
    image = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    seen = [look.video(image)[30, [0, -1], 0].astype(int).tolist() for look in crop_looks(3) if look is not None]
    (left, middle, right) = seen
    assert left[0] <= 1 < middle[0] < right[0]
    assert left[1] < middle[1] < 98 <= right[1]


def test_a_process_without_a_share_adds_nothing() -> None:
    full = {"video": SegmentLogits(["a"], {"verb": np.ones((1, 2), np.float32)}, np.array([[1]]))}
    none = {"video": SegmentLogits([], {}, np.zeros((0, 1), np.int64))}
    for parts in ([none, full], [full, none]):
        joined = join_segments(parts)["video"]
        assert (joined.ids, joined.logits["verb"].shape, joined.targets.tolist()) == (["a"], (1, 2), [[1]])
    assert join_segments([none])["video"].ids == []


def test_parts_of_several_processes_are_one() -> None:
    parts = [
        {"video": SegmentLogits([name], {"verb": np.full((1, 2), i, np.float32)}, np.array([[i]]))}
        for i, name in enumerate("ab")
    ]
    joined = join_segments(parts)["video"]
    assert joined.ids == ["a", "b"]
    assert joined.logits["verb"][:, 0].tolist() == [0, 1]
    logits, targets, settled = joined.arrays()
    assert (len(logits["verb"]), targets[:, 0].tolist(), settled.all()) == (2, [0, 1], True)


def test_the_dropout_curve_of_actions_counts_each_heads_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The camera always knows, flow never does, and half of the actions have no flow."""
    labels = Labels.from_names({"verb": ["a", "b"], "noun": ["c", "d"]}, [("a", "c"), ("b", "d")])
    count = 400
    flow = np.arange(count) % 2 == 0
    targets = np.zeros((count, 2), np.int64)
    # The nouns come out right either way; of the valid pairs (b, d) is never the best, since d is far off.
    answers = {"video": [3.0, 0.0], "flow": [0.0, 3.0], "video+flow": [3.0, 0.0]}

    def made(subset: str) -> SegmentLogits:
        verb = np.tile(np.float32(answers[subset]), (count, 1))
        noun = np.tile(np.float32([9.0, 0.0]), (count, 1))
        if subset == "flow":
            verb[~flow] = noun[~flow] = np.nan
        return SegmentLogits([str(i) for i in range(count)], {"verb": verb, "noun": noun}, targets)

    monkeypatch.setattr(segment_report, "predict_segments", lambda *_, subsets, **__: {s: made(s) for s in subsets})
    predictor = SimpleNamespace(specs={"video": None, "flow": None}, labels=labels, temperature={})
    recordings = [
        SimpleNamespace(starts=np.zeros(count // 2), targets=targets[: count // 2], key=key) for key in ("one", "two")
    ]
    console = Console(quiet=True)
    report, _ = segment_report.evaluate_segments(predictor, recordings, clips=1, crops=1, seed=0, console=console)  # type: ignore[arg-type]
    assert report["subsets"]["flow"]["action"] == 0.5, "the best valid pair is right wherever there is flow"
    assert report["subsets"]["flow"]["action_independent"] == 0.0
    curve = dict(zip(report["dropout_curve"]["p"], report["dropout_curve"]["mean"], strict=True))
    assert curve[0.0] == 1.0
    # Both recorded: the camera stays in 1/2, and in half of the 1/4 where all would go. Without flow it always stays.
    assert curve[0.5] == pytest.approx((0.625 + 1) / 2, abs=0.01)
    segment_report.print_segments(Console(), report, labels)
    assert "area" in capsys.readouterr().out
    plot_segments({"target": "run", "data": "made", "split": "val", **report}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_overlapping_actions_of_one_video_are_one_in_the_bootstrap() -> None:
    recordings = [SimpleNamespace(key=key) for key in ("first", "second", "first")]
    assert by_key(recordings).tolist() == [0, 1, 0]  # type: ignore[arg-type]


def test_actions_without_labels_are_refused_before_any_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(segment_report, "predict_segments", lambda *what, **_: asked.append(what))
    recordings = [SimpleNamespace(targets=np.array([[0]])), SimpleNamespace(targets=np.array([[0], [-1]]))]
    with pytest.raises(UsageError, match="these actions have no labels: choose another --split"):
        segment_report.evaluate_segments(
            SimpleNamespace(specs={"video": None}),  # type: ignore[arg-type]
            recordings,  # type: ignore[arg-type]
            clips=1,
            crops=1,
            seed=0,
            console=Console(quiet=True),
        )
    assert not asked
