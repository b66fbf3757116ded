# SPDX-License-Identifier: Apache-2.0
"""What is missing or broken of EPIC-KITCHENS-100 is named, and `karmma data check` tells it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import av
import numpy as np
import pytest
from mini_epic import (
    HEIGHT,
    SOUND_RATE,
    WIDTH,
    Action,
    cut,
    grey_flow,
    jpeg,
    noise,
    tone_of,
    write_annotations,
    write_folder,
    write_movie,
    write_sound,
    write_tar,
)

pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console

from karmma_ros.cli.main import main
from karmma_ros.media import to_pcm16
from karmma_training.data.recording import Recording
from karmma_training.datasets.check import VideoCheck
from karmma_training.datasets.epic_kitchens.annotations import Segment, read_segments
from karmma_training.datasets.epic_kitchens.check import check_video
from karmma_training.datasets.epic_kitchens.index import facts
from karmma_training.datasets.epic_kitchens.layout import find_files
from karmma_training.datasets.source import open_recordings, open_source
from karmma_training.presets import preset

VIDEO = "P01_01"
PERSON = "P01"
SEGMENTS = [Segment("a", PERSON, VIDEO, 0.5, 1.5), Segment("b", PERSON, VIDEO, 2.0, 2.9)]
GREY = jpeg(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
STILL = grey_flow(0.0, 25.0)


def check(root: Path, tries: int = 0) -> VideoCheck:
    return check_video(VIDEO, find_files(root, VIDEO), SEGMENTS, tries)


def rgb(root: Path) -> Path:
    return root / PERSON / "rgb_frames" / VIDEO


def flow(root: Path) -> Path:
    return root / PERSON / "flow_frames" / VIDEO


def complete(root: Path) -> None:
    """Three seconds of everything; at the end a frame and a flow picture fewer than the annotations could ask for."""
    write_folder(rgb(root), [GREY] * 179)
    for part in "uv":
        write_folder(flow(root) / part, [STILL] * 88)
    write_sound(root / PERSON / "audio" / f"{VIDEO}.wav", tone_of(500.0, 3.0))


def test_files_that_can_be_read_again_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete(tmp_path)
    before = facts(find_files(tmp_path, VIDEO))
    assert facts(find_files(tmp_path, VIDEO)) == before
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read whatever the mode says
    assert facts(find_files(tmp_path, VIDEO)) != before


def test_a_complete_video_has_no_findings(tmp_path: Path) -> None:
    complete(tmp_path)
    assert check(tmp_path, tries=20) == VideoCheck(VIDEO, 2, 2, ("video", "flow", "audio"), ())


def some_flow(root: Path) -> None:
    for part, count in (("u", 80), ("v", 20)):
        write_folder(flow(root) / part, [STILL] * count)


def some_pictures(root: Path) -> None:
    write_folder(rgb(root), [GREY] * 155)
    for number in range(1, 150):  # until 2.5 s
        (rgb(root) / f"frame_{number:010d}.jpg").unlink()


PARTS = {
    "pictures until 2 s": (lambda root: write_folder(rgb(root), [GREY] * 120), 1),
    "pictures after 2.5 s": (some_pictures, 1),
    "pictures of before": (lambda root: write_folder(rgb(root), [GREY] * 30), 0),
    "flow until 0.7 s": (some_flow, 1),
    "a movie of 1.6 s": (
        lambda root: write_movie(root / PERSON / "videos" / f"{VIDEO}.MP4", noise(40), 25, tone_of(500.0, 1.6)),
        1,
    ),
    "sound of 3 s": (lambda root: write_sound(root / "audio" / f"{VIDEO}.wav", tone_of(500.0, 3.0)), 2),
    "nothing": (lambda root: None, 0),
}


@pytest.mark.parametrize("part", list(PARTS))
def test_actions_are_covered_where_samples_lie_within_them(tmp_path: Path, part: str) -> None:
    write, covered = PARTS[part]
    write(tmp_path)
    assert (check(tmp_path).actions, check(tmp_path).covered) == (2, covered)


def test_missing_pictures_of_the_actions_are_counted(tmp_path: Path) -> None:
    complete(tmp_path)
    for number in (10, 40, 41, 130):  # the first belongs to no action
        (rgb(tmp_path) / f"frame_{number:010d}.jpg").unlink()
    (flow(tmp_path) / "v" / "frame_0000000070.jpg").unlink()
    assert check(tmp_path).findings == (
        "rgb: 3 of 116 pictures of the actions are missing, 40 is the first",
        "flow v: 1 of 59 pictures of the actions are missing, 70 is the first",
    )


def test_a_video_that_ends_early_lacks_the_rest(tmp_path: Path) -> None:
    write_folder(rgb(tmp_path), [GREY] * 120)
    write_sound(tmp_path / "audio" / f"{VIDEO}.wav", tone_of(500.0, 1.0))
    assert check(tmp_path).findings == (
        "rgb: 54 of 116 pictures of the actions are missing, 121 is the first",
        "no flow: computed while training",
        f"sound of {VIDEO}.wav ends at 1.0 s: 1 of 2 actions come later",
    )


def test_a_truncated_tar_is_told(tmp_path: Path) -> None:
    path = rgb(tmp_path).with_suffix(".tar")
    write_tar(path, {"": [GREY] * 180})
    os.truncate(path, path.stat().st_size // 2)
    found = check(tmp_path)
    assert found.has == ("video", "flow")
    assert f"{path} ends early" in found.findings[0]
    assert "pictures of the actions are missing" in found.findings[1]


def test_damaged_frames_of_a_movie_are_found_by_trying(tmp_path: Path) -> None:
    movie = tmp_path / PERSON / "videos" / f"{VIDEO}.MP4"
    write_movie(movie, noise(180), 60.0, None)
    assert not [text for text in check(tmp_path, tries=20).findings if "damaged" in text]
    data = bytearray(movie.read_bytes())
    begin = data.index(b"mdat") + 4
    end = begin + (len(data) - begin) * 2 // 3
    data[begin + (end - begin) // 3 : end] = bytes(end - begin - (end - begin) // 3)  # as a file system leaves them
    movie.write_bytes(data)
    assert not [text for text in check(tmp_path).findings if "damaged" in text], "not tried"
    (finding,) = [text for text in check(tmp_path, tries=20).findings if "damaged" in text]
    assert re.search(rf"{VIDEO}.MP4: \d+ of 20 frames tried are damaged, the first at \d", finding)


def test_damaged_pictures_are_found_by_trying(tmp_path: Path) -> None:
    complete(tmp_path)
    for number in range(1, 180, 2):
        (rgb(tmp_path) / f"frame_{number:010d}.jpg").write_bytes(GREY[:200])
    assert not check(tmp_path).findings
    (finding,) = check(tmp_path, tries=30).findings
    assert "of 30 pictures tried are damaged: " in finding
    assert "picture 1: image is truncated" in finding


def test_files_that_are_something_else_count_as_missing(tmp_path: Path) -> None:
    for place in (rgb(tmp_path).with_suffix(".tar"), tmp_path / PERSON / "videos" / f"{VIDEO}.MP4"):
        place.parent.mkdir(parents=True)
        place.write_bytes(b"<html>404</html>" * 200)
    (flow(tmp_path) / "u").mkdir(parents=True)
    (flow(tmp_path) / "v").mkdir()
    found = check(tmp_path)
    assert found.has == ()
    text = "; ".join(found.findings)
    for part in ("not a readable video", "no pictures of u, v", "no sound", "cannot read"):
        assert part in text, text


def test_a_movie_that_is_too_short_is_told(tmp_path: Path) -> None:
    frames = [np.full((64, 96, 3), 90, np.uint8)] * 40
    write_movie(tmp_path / PERSON / "videos" / f"{VIDEO}.MP4", frames, 25, tone_of(500.0, 1.6))
    found = check(tmp_path)
    assert found.has == ("video", "flow", "audio")
    assert found.findings[1] == f"{VIDEO}.MP4 ends at 1.6 s: 1 of 2 actions come later"


def test_a_movie_that_was_cut_off_is_told_with_its_sound(tmp_path: Path) -> None:
    """Its header lies at the front, and says how long the movie was."""
    path = tmp_path / PERSON / "videos" / f"{VIDEO}.MP4"
    write_movie(path, noise(150), 25, tone_of(500.0, 6.0))
    assert not [f for f in check(tmp_path).findings if "ends" in f]
    cut(path, 0.3)
    found = check(tmp_path)
    assert found.has == ("video", "flow", "audio")
    for finding, what in zip(found.findings[1::2], ("", "sound of "), strict=True):
        end = re.fullmatch(
            rf"{what}{VIDEO}\.MP4 ends early, at (\d\.\d) s of 6\.0 s: 1 of 2 actions come later", finding
        )
        assert end, found.findings
        assert 1.6 <= float(end[1]) <= 2.0


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le", "pcm_s24le"])
def test_a_wav_that_was_cut_off_is_told(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "audio" / f"{VIDEO}.wav"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=SOUND_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone_of(500.0, 6.0).reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, 0
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=SOUND_RATE)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    assert not [f for f in check(tmp_path).findings if "ends" in f]
    cut(path, 0.25)
    assert check(tmp_path).findings[-1] == (
        f"sound of {VIDEO}.wav ends early, at 1.5 s of 6.0 s: 1 of 2 actions come later"
    )


def test_a_wav_out_of_a_pipe_is_whole_whatever_it_claims(tmp_path: Path) -> None:
    path = tmp_path / "audio" / f"{VIDEO}.wav"
    write_sound(path, tone_of(500.0, 3.0))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    path.write_bytes(data)
    assert not [f for f in check(tmp_path).findings if "ends" in f]


def hdf5(path: Path, video: str, make: str, **what: object) -> None:
    """A file with one entry."""
    h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        getattr(file, f"create_{make}")(video, **what)


def recorded(root: Path) -> Recording:
    """The video as training has it."""
    write_annotations(root / "annotations", train=[Action(VIDEO, 0.5, 1.5, 0, 0)])
    config = preset("tiny")
    config.data.source = f"epic-kitchens-100:{root}"
    store = root.parent / f"{root.name}-store"
    (found,) = open_recordings(open_source(config), "train", store, workers=1, console=Console(quiet=True))
    return found


ENTRIES: dict[str, tuple[str, dict[str, object], str]] = {
    "group": ("group", {}, "a group"),
    "number": ("dataset", {"data": np.float32(3)}, "float32 ()"),
    "words": ("dataset", {"data": [b"a", b"b"]}, "object (2,)"),
    "none": ("dataset", {"data": np.zeros(0, np.float32)}, "float32 (0,)"),
    "channels first": ("dataset", {"data": np.zeros((2, 24_000), np.float32)}, "float32 (2, 24000)"),
}


@pytest.mark.parametrize("entry", list(ENTRIES))
def test_what_is_no_sound_in_an_hdf5_file_is_named_and_left_out(tmp_path: Path, entry: str) -> None:
    make, what, told = ENTRIES[entry]
    root = tmp_path / "epic"
    write_folder(rgb(root), [GREY] * 179)
    hdf5(root / "a.hdf5", VIDEO, make, **what)
    found = check(root)
    assert found.has == ("video", "flow")
    assert found.findings[1:] == (
        f"{root / 'a.hdf5'}: {VIDEO} is {told}, expected a data set of samples (n,) or (n, channels)",
        "no sound",
    )
    assert recorded(root).modalities == {"video", "flow"}


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_stereo_in_an_hdf5_file_is_mixed_as_that_of_a_wav_is(tmp_path: Path, kind: type) -> None:
    tone = tone_of(500.0, 3.0)
    stereo = np.stack([tone, tone / 3], 1)
    write_sound(tmp_path / "wav" / "audio" / f"{VIDEO}.wav", stereo)
    hdf5(tmp_path / "hdf5" / "a.hdf5", VIDEO, "dataset", data=stereo if kind is np.float32 else to_pcm16(stereo))
    roots = [tmp_path / name for name in ("wav", "hdf5")]
    assert check(roots[0]) == check(roots[1])
    assert check(roots[0]).has == ("audio",)
    plain, mixed = (recorded(root) for root in roots)
    assert plain.sound_stop_ns == mixed.sound_stop_ns > 2.9e9
    chunks = [recording.sound(2 * 10**9, 16_000) for recording in (plain, mixed)]
    assert 0.25 < np.abs(chunks[0]).max() < 0.3
    np.testing.assert_allclose(*chunks, atol=1e-4)


@pytest.mark.parametrize("folder", ["", "audio"])
def test_a_video_may_be_in_any_of_several_hdf5_files(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "epic"
    for name, video in (("a_test", "P09_01"), ("b_train", VIDEO), ("c_more", "P09_02")):
        hdf5(root / folder / f"{name}.hdf5", video, "dataset", data=tone_of(500.0, 3.0))
    found = check(root)
    assert (found.has, found.findings) == (("audio",), ("no rgb frames and no movie", "no flow"))
    assert recorded(root).modalities == {"audio"}


ROWS = {
    "verb of 5000 digits": (",take,0,", f",take,{'9' * 5000},", "verb_class: '9999"),
    "hour of 400 digits": ("00:00:01.50", f"{'9' * 400}:00:01.50", "stop_timestamp: '9999"),
    "years": ("00:00:01.50", "99999:00:01.50", "stop_timestamp: '99999:00:01.50' is not hours:minutes:seconds"),
    "another person": (",P01,P01_01,", ",P02,P01_01,", "participant_id: 'P02' is not that of P01_01"),
    "no id": ("P01_01_0,", ",", "narration_id: there is none"),
    "noun that is none": ("[0]", '"[0, 2]"', "all_noun_classes: '[0, 2]' has ids that are none of 2 classes"),
    "negative noun": ("[0]", "[-1]", "all_noun_classes: '[-1]' has ids that are none of 2 classes"),
    "endless noun": ("[0]", "[1e999]", "all_noun_classes: '[1e999]' is not a list of ids"),
    "noun without a list": ("['tap']", "tap", "all_nouns: 'tap' is not a list of names"),
}


@pytest.mark.parametrize("fault", list(ROWS))
def test_a_row_that_makes_no_sense_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    write_annotations(tmp_path / "annotations", train=[Action(VIDEO, 0.5, 1.5, 0, 0)])
    path = tmp_path / "annotations" / "EPIC_100_train.csv"
    before, after, message = ROWS[fault]
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    assert main(["data", "check", f"epic-kitchens-100:{tmp_path}", "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert f"{path}: row 2, {message}" in error
    assert len(error) < 500


def test_all_nouns_are_kept_with_their_names(tmp_path: Path) -> None:
    write_annotations(tmp_path, train=[Action(VIDEO, 0.5, 1.5, 0, 0)])
    path = tmp_path / "EPIC_100_train.csv"
    path.write_text(path.read_text().replace("['tap'],[0]", "\"['tap', 'plate:small']\",\"[0, 1]\""))
    (segment,) = read_segments(path, verbs=3, nouns=2)
    assert (segment.noun, segment.nouns, segment.noun_names) == (0, (0, 1), ("tap", "plate:small"))


@pytest.mark.parametrize("workers", ["-1", "0"])
@pytest.mark.parametrize("command", ["data check", "train"])
def test_no_processes_at_all_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, workers: str
) -> None:
    write_annotations(tmp_path / "annotations", train=[Action(VIDEO, 0.5, 1.0, 0, 0)])
    data = f"epic-kitchens-100:{tmp_path}"
    options = {
        "data check": ["data", "check", data],
        "train": ["train", "--preset", "tiny", "--data", data, "--out", str(tmp_path / "run")],
    }
    assert main([*options[command], "--workers", workers]) == 2
    assert f"--workers must be at least 1, not {workers}" in capsys.readouterr().err


def test_nothing_on_disk_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_annotations(tmp_path / "annotations", train=[Action(VIDEO, 0.5, 1.0, 0, 0)])
    assert main(["data", "check", f"epic-kitchens-100:{tmp_path}", "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "no rgb frames and no movie" in out
    assert "train: 0 of 1 videos on disk (video 0, flow 0, audio 0), with 0 of 1 actions" in out


def test_actions_of_which_nothing_is_on_disk_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_annotations(tmp_path / "annotations", train=[Action(VIDEO, float(t), t + 0.5, 0, 0) for t in range(9)])
    write_folder(rgb(tmp_path), [GREY] * 150)
    assert main(["data", "check", f"epic-kitchens-100:{tmp_path}", "--workers", "1"]) == 0
    assert "(video 1, flow 1, audio 0), with 3 of 9 actions that samples lie within" in capsys.readouterr().out


def test_a_data_set_without_a_check_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "tabletop"]) == 2
    assert "nothing to check" in capsys.readouterr().err
