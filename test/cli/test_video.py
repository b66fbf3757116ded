# SPDX-License-Identifier: Apache-2.0
"""`karmma video` on real encoded files: with and without sound, at any frame rate and size."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import Outcome, make_video, noise, said

from karmma_ros.flow import FlowProducer
from karmma_ros.media import read_audio, read_video
from karmma_ros.recognizer import Recognizer

NS = 1_000_000_000


@pytest.fixture
def recognise(karmma: Any, bundle: Path, tmp_path: Path) -> Any:
    """Runs the command on a file and reads what it wrote."""

    def run(path: Path, *options: str) -> Outcome:
        out = tmp_path / "results" / path.stem
        result = karmma("video", path, "--bundle", bundle, "--out", out, *options)
        assert result.status == 0, result.err
        assert result.err == ""
        return Outcome(out)

    return run


def test_one_prediction_for_every_frame_with_all_sensors(recognise: Any, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=2.0, sound=noise(2.0))
    outcome = recognise(path)
    with read_video(path) as video:
        stamps = [frame.stamp_ns for frame in video]
    assert [record.stamp_ns for record in outcome.records] == stamps
    assert {record.status for record in outcome.records} == {"OK"}
    for modality in ("video", "flow", "audio"):
        assert outcome.states(modality)[-1] == "OK"
        assert outcome.coverages(modality)[-1] > 0.7
    assert outcome.summary["overall"]["predictions"] == outcome.summary["overall"]["due"] == 50
    assert "accuracy" not in outcome.summary["overall"]


def test_it_says_what_the_recogniser_says(recognise: Any, bundle: Path, tmp_path: Path) -> None:
    """The same samples, pushed by hand in order of time, give the same scores."""
    path = make_video(tmp_path / "a.mp4", seconds=1.2, sound=noise(1.2, 2))
    recognizer, flow = Recognizer(bundle), FlowProducer((160, 120))
    spec = recognizer.bundle.modalities["flow"].producer
    if spec is not None:
        flow = FlowProducer(spec.size, spec.preset)
    audio = read_audio(path)
    assert audio is not None
    with audio:
        chunks = list(audio)
    expected = []
    with read_video(path) as video:
        for frame in video:
            while chunks and chunks[0].stamp_ns + len(chunks[0].samples) * NS // audio.rate <= frame.stamp_ns:
                chunk = chunks.pop(0)
                recognizer.push("audio", chunk.stamp_ns, chunk.samples, audio.rate)
            recognizer.push("video", frame.stamp_ns, frame.rgb)
            field = flow.push(frame.stamp_ns, frame.rgb)
            if field is not None:
                recognizer.push("flow", frame.stamp_ns, field)
            expected.append([(label.id, round(label.score, 6)) for label in recognizer.predict(frame.stamp_ns).actions])
    assert [said(record) for record in recognise(path).records] == expected


def test_a_file_without_sound_is_a_microphone_that_never_came(recognise: Any, tmp_path: Path) -> None:
    outcome = recognise(make_video(tmp_path / "mute.mp4"))
    assert set(outcome.states("audio")) == {"WAITING"}
    assert set(outcome.coverages("audio")) == {0.0}
    assert {record.status for record in outcome.records} == {"OK"}
    assert read_audio(outcome.folder / "overlay.mp4") is None


def test_a_silent_track_is_a_muted_microphone(recognise: Any, tmp_path: Path) -> None:
    outcome = recognise(make_video(tmp_path / "silent.mp4", sound=np.zeros((44100, 1), np.float32)))
    assert outcome.states("audio")[-1] == "MUTED"
    assert outcome.coverages("audio")[-1] == 0
    assert {record.status for record in outcome.records} == {"OK"}


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(15), Fraction(50)])
def test_odd_frame_rates(recognise: Any, tmp_path: Path, rate: Fraction) -> None:
    outcome = recognise(make_video(tmp_path / "odd.mp4", seconds=1.0, rate=rate, sound=noise(1.0)))
    assert len(outcome.records) == round(rate)
    steps = np.diff([record.stamp_ns for record in outcome.records])
    np.testing.assert_allclose(steps, float(NS / rate), atol=12_000)  # a tick of 1/90000 s
    assert outcome.summary["overall"]["due"] == len(outcome.records)


def test_a_variable_frame_rate_keeps_its_times(recognise: Any, tmp_path: Path) -> None:
    times = [0.0, 0.03, 0.1, 0.12, 0.4, 0.43, 0.9]
    outcome = recognise(make_video(tmp_path / "vfr.mp4", stamps_s=times))
    assert [record.t_s for record in outcome.records] == pytest.approx(times, abs=1e-4)
    with read_video(outcome.folder / "overlay.mp4") as film:
        assert [frame.stamp_ns / NS for frame in film] == pytest.approx(times, abs=1e-4)


def test_full_hd_at_50_frames_a_second(recognise: Any, tmp_path: Path) -> None:
    path = make_video(tmp_path / "hd.mp4", seconds=0.3, rate=Fraction(50), size=(1920, 1080), sound=noise(0.3))
    outcome = recognise(path)
    assert len(outcome.records) == 15
    with read_video(outcome.folder / "overlay.mp4") as film:
        assert (film.width, film.height, film.rate) == (1920, 1080, 50.0)


def test_a_video_that_was_filmed_on_its_side_is_seen_upright(recognise: Any, tmp_path: Path) -> None:
    outcome = recognise(make_video(tmp_path / "side.mp4", seconds=0.4, turn=90))
    with read_video(outcome.folder / "overlay.mp4") as film:
        assert (film.width, film.height) == (120, 160)


def test_sound_that_goes_on_after_the_picture_is_left_out(recognise: Any, tmp_path: Path) -> None:
    outcome = recognise(make_video(tmp_path / "long.mp4", seconds=1.0, sound=noise(3.0)))
    assert outcome.records[-1].t_s == pytest.approx(0.96)
    sound = read_audio(outcome.folder / "overlay.mp4")
    assert sound is not None
    with sound:
        assert sum(len(chunk.samples) for chunk in sound) / sound.rate < 1.1


def test_the_film_has_the_picture_the_sound_and_the_overlay(recognise: Any, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1.0, size=(320, 240), sound=noise(1.0, 2))
    outcome = recognise(path)
    with read_video(path) as video, read_video(outcome.folder / "overlay.mp4") as film:
        before, after = [frame.rgb for frame in video], [frame.rgb for frame in film]
    assert len(after) == len(before)
    middle = slice(70, 160)
    assert np.abs(after[10][middle].astype(int) - before[10][middle]).mean() < 6  # the picture
    assert after[10][200:].mean() < 0.75 * before[10][200:].mean()  # the panel
    sound = read_audio(outcome.folder / "overlay.mp4")
    assert sound is not None
    with sound:
        heard = np.concatenate([chunk.samples for chunk in sound])
    assert (sound.rate, heard.shape[1]) == (44100, 2)
    assert heard.std() == pytest.approx(0.1, rel=0.3)


def test_no_overlay_and_the_summary_once_more(recognise: Any, tmp_path: Path) -> None:
    outcome = recognise(make_video(tmp_path / "a.mp4"), "--no-overlay", "--json", str(tmp_path / "summary.json"))
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["events.csv", "predictions.jsonl", "summary.json"]
    assert json.loads((tmp_path / "summary.json").read_text()) == outcome.summary


def test_a_truth_file_nearby_changes_nothing(recognise: Any, tmp_path: Path) -> None:
    """What is said follows from the samples alone: with the answers lying about, or gone, it is the same."""
    path = make_video(tmp_path / "a.mp4", sound=noise(1.0))
    truth = tmp_path / "results" / "a" / "truth.jsonl"
    truth.parent.mkdir(parents=True)
    truth.write_text('{"start_s": 0, "stop_s": 1, "verb": "cut", "noun": "bread", "action": "cut bread"}\n')
    with_truth = recognise(path).records
    truth.unlink()
    without = recognise(path).records
    assert [(r.stamp_ns, r.actions, r.verbs, r.nouns) for r in with_truth] == [
        (r.stamp_ns, r.actions, r.verbs, r.nouns) for r in without
    ]


def test_real_clips_of_a_kitchen(recognise: Any) -> None:
    clips = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"
    if not clips.is_dir():
        pytest.skip("../shared/data/clips is not here")
    outcome = recognise(clips / "cut_onion.mp4")
    assert len(outcome.records) == 125
    assert outcome.states("audio")[-1] == "OK"
    assert outcome.coverages("audio")[-1] > 0.9
