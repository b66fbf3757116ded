# SPDX-License-Identifier: Apache-2.0
"""EPIC-KITCHENS-100 in miniature: every layout on disk gives the samples it holds, at the time they are about."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from mini_epic import (
    HEIGHT,
    NOUNS,
    SOUND_RATE,
    VERBS,
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

from karmma_ros.errors import UsageError
from karmma_training.config import AugmentConfig, Config, DropoutConfig, SensorsConfig
from karmma_training.data.recording import Recording
from karmma_training.data.windows import WindowBatch, WindowSampler
from karmma_training.datasets.epic_kitchens.annotations import read_classes, read_segments
from karmma_training.datasets.epic_kitchens.source import EpicKitchensSource
from karmma_training.datasets.source import open_recordings, open_source
from karmma_training.presets import preset

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "epic-kitchens-100"
OLD, NEW = "P01_01", "P02_102"  # of 2018: 60 frames a second; of 2020: 50
REAL_PICTURES = sorted((OFFICIAL / OLD / "rgb").glob("*.jpg"))
SECONDS = 2


def greys(count: int) -> list[bytes]:
    """Pictures of one grey level each: the number of the frame, from 1."""
    return [jpeg(np.full((HEIGHT, WIDTH, 3), number, np.uint8)) for number in range(1, count + 1)]


def open_split(root: Path, split: str = "train", **changes: object) -> list[Recording]:
    config = preset("tiny")
    config.data.source = f"epic-kitchens-100:{root}"
    return open_recordings(open_source(config), split, root.parent / "store", workers=1, console=Console(quiet=True))


def annotate(root: Path, *videos: str) -> None:
    write_annotations(root / "annotations", train=[Action(v, 0.5, 1.5, i % 3, i % 2) for i, v in enumerate(videos)])


def levels(recording: Recording, which: Sequence[int]) -> list[int]:
    """Grey levels of some frames."""
    return recording.read("video", np.array(which))[:, 18, 24, 1].tolist()


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official annotations are not here")
def test_the_official_validation_annotations_load_completely() -> None:
    verbs, nouns = (read_classes(OFFICIAL / f"EPIC_100_{head}_classes.csv") for head in ("verb", "noun"))
    segments = read_segments(OFFICIAL / "EPIC_100_validation.csv", verbs=len(verbs), nouns=len(nouns))
    assert (len(segments), len(verbs), len(nouns)) == (9668, 97, 300)
    assert len({s.narration_id for s in segments}) == 9668
    first = segments[0]
    assert (first.narration_id, first.video, first.start_s, first.stop_s) == ("P01_11_0", "P01_11", 0.0, 1.89)
    assert (verbs[first.verb], nouns[first.noun], first.nouns) == ("take", "plate", (2,))
    assert all(s.nouns[0] == s.noun for s in segments)
    assert any(len(s.nouns) > 1 for s in segments)


# Videos of the validation split, all of which is of 2018, and the number of the last frame of each that is on disk:
# that of its first action, of P04_24 that of the second, which overlaps it. P09_07 was filmed at 29.97 frames a second,
# P17_02 at 47.95; the frames of both were taken at 60.
ON_DISK = {"P01_13": 105, "P04_24": 100, "P28_21": 89, "P09_07": 116, "P17_02": 164}


def write_official_layout(root: Path) -> None:
    """Frames and flow whose colours say their number, and sound that rises by a quarter a second."""
    for video, last in ON_DISK.items():
        rgb, flow = (root / video[:3] / f"{kind}_frames" / video for kind in ("rgb", "flow"))
        numbers = range(1, last + 1)
        images = [jpeg(np.full((HEIGHT, WIDTH, 3), (8 + n // 16 * 16, 8 + n % 16 * 16, 40), np.uint8)) for n in numbers]
        if video in ("P04_24", "P09_07"):
            write_folder(rgb, images)
        elif video in ("P01_13", "P28_21"):
            write_tar(rgb.with_suffix(".tar"), {"": images})
        greys = [jpeg(np.full((HEIGHT, WIDTH), 3 * n, np.uint8)) for n in range(86)]
        parts = {"u": greys[1 : last // 2 + 1], "v": greys[84 : 84 - last // 2 : -1]}
        if video in ("P04_24", "P28_21"):
            for part, pictures in parts.items():
                write_folder(flow / part, pictures)
        elif video in ("P01_13", "P17_02"):
            write_tar(flow.with_suffix(".tar"), parts)
        if video in ("P01_13", "P17_02"):
            ramp = np.arange(last * SOUND_RATE // 60) / SOUND_RATE / 4
            write_sound(root / video[:3] / "audio" / f"{video}.wav", ramp.astype(np.float32))


def unvaried(config: Config) -> Config:
    """Of windows nothing is drawn but the time."""
    config.data.draw = "actions"
    config.dropout = DropoutConfig(modality_p=0, runs_p=0, full_share=1)
    config.sensors = SensorsConfig(
        rate_divisors=[1], rate_weights=[1.0], jitter_s=0, loss_p=0, audio_phase=False, audio_lag_s=0, snap_p=0
    )
    off = ("brightness", "contrast", "colour", "permute_p", "mirror_p", "shift", "scale", "gain_db", "noise_p")
    config.augment = AugmentConfig(**dict.fromkeys(off, 0.0))
    return config


def seconds_of(timestamp: str) -> float:
    """Of `00:00:01.50`."""
    hours, minutes, rest = timestamp.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@dataclass(frozen=True)
class OfficialWindows:
    """rows: {narration_id: row} of the official file; batch: windows of the recordings, by the configuration."""

    rows: dict[str, dict[str, str]]
    config: Config
    source: EpicKitchensSource
    recordings: list[Recording]
    batch: WindowBatch


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> OfficialWindows:
    """Windows of five videos of the official validation split, each in another layout, drawn as for training."""
    if not OFFICIAL.is_dir():
        pytest.skip("the official annotations are not here")
    base = tmp_path_factory.mktemp("official")
    annotations = base / "EPIC-KITCHENS" / "epic-kitchens-100-annotations"
    annotations.mkdir(parents=True)
    for path in OFFICIAL.glob("*.csv"):
        shutil.copy(path, annotations)
    write_official_layout(base / "EPIC-KITCHENS")
    with (OFFICIAL / "EPIC_100_validation.csv").open(newline="") as file:
        rows = {row["narration_id"]: row for row in csv.DictReader(file)}
    config = unvaried(preset("tiny"))
    source = EpicKitchensSource(base / "EPIC-KITCHENS", form_of(config))
    recordings = open_recordings(source, "val", base / "store", workers=1, console=Console(quiet=True))
    return OfficialWindows(
        rows, config, source, recordings, WindowSampler(recordings, config, batch=64, seed=0).batch(0)
    )


def test_the_official_validation_split_is_found_where_it_is_on_disk(official: OfficialWindows) -> None:
    source, rows = official.source, official.rows
    assert {head: len(names) for head, names in source.labels().heads.items()} == {"verb": 97, "noun": 300}
    assert len(source.segments("val")) == len(rows) == 9668
    there = [name for name, row in rows.items() if int(row["start_frame"]) < ON_DISK.get(row["video_id"], 0)]
    assert len(there) > len(ON_DISK), "two of a video overlap"
    assert sorted(i for r in official.recordings for i in r.ids) == sorted(there)
    beyond = sum(row["video_id"] in ON_DISK for row in rows.values()) - len(there)
    assert source.notes[-1] == (
        "val: 138 videos with annotated actions, 1 flow computed while training, 133 not on disk, 3 without audio, "
        f"1 without video; {beyond} actions beyond what was recorded are left out"
    )


def test_windows_of_the_official_validation_split_have_its_labels(official: OfficialWindows) -> None:
    seen = set()
    for (number, t_ns), target in zip(official.batch.origin, official.batch.targets, strict=True):
        (name,) = official.recordings[number].ids
        row = official.rows[name]
        assert target.tolist() == [int(row["verb_class"]), int(row["noun_class"])]
        assert seconds_of(row["start_timestamp"]) <= t_ns / 1e9 < seconds_of(row["stop_timestamp"])
        seen.add(name)
    assert seen == {name for r in official.recordings for name in r.ids}, "each had its turn"


def time_of_frame(sample: np.ndarray) -> float:
    """What a frame's colour says."""
    assert sample.std((0, 1, 2)).max() < 1, "one colour"
    red, green, blue = sample.mean((0, 1, 2))
    assert abs(blue - 40) < 4
    return (round((red - 8) / 16) * 16 + round((green - 8) / 16) - 1) / 60


def time_of_field(sample: np.ndarray) -> float:
    """What a flow field says, which leads over 0.1 s to the frame of twice its number and one."""
    u, v = (sample.mean((0, 1, 2)) * (WIDTH * 0.1) + 25) * (255 / 50)  # grey levels
    number = round(u / 3)
    np.testing.assert_allclose([u, v], [3 * number, 255 - 3 * number], atol=1.2)
    return 2 * number / 60


def time_of_chunk(sample: np.ndarray) -> float:
    """When a chunk of sound ended."""
    end_s = 4 * float(sample[-1]) + 1 / 16000
    np.testing.assert_allclose(4 * sample, end_s - np.arange(len(sample), 0, -1) / 16000, atol=1e-3)
    return end_s


# which times there are, by the number of the last frame on disk; of which videos; what a sample says
OFFICIAL_TIMES = {
    "video": (lambda n: np.arange(n) / 60, {"P01_13", "P04_24", "P28_21", "P09_07"}, time_of_frame),
    "flow": (lambda n: np.arange(1, n // 2 + 1) / 30, {"P01_13", "P04_24", "P28_21", "P17_02"}, time_of_field),
    "audio": (lambda n: np.arange(0.4, n / 60, 0.2), {"P01_13", "P17_02"}, time_of_chunk),
}


@pytest.mark.parametrize("modality", list(OFFICIAL_TIMES))
def test_windows_of_the_official_validation_split_hold_what_their_times_ask_for(
    official: OfficialWindows, modality: str
) -> None:
    """Of every slot: that there is something if there could be, and that it is what is nearest to its middle."""
    times_of, videos, time_of = OFFICIAL_TIMES[modality]
    c, batch, seen = official.config.slots(modality), official.batch, set()
    samples = iter(batch.samples[modality])
    for (number, t_ns), present in zip(batch.origin, batch.present[modality], strict=True):
        video, t_s = official.recordings[number].name[-6:], t_ns / 1e9
        if modality == "flow" and video == "P09_07":  # computed
            assert np.isfinite([next(samples) for _ in range(present.sum())]).all()
            continue
        times_s = times_of(ON_DISK[video]) if video in videos else np.zeros(0)
        times_s = times_s[times_s <= t_s]
        for slot, filled in enumerate(present):
            away_s = np.abs(times_s - (t_s - c.delay_s - slot * c.spacing_s))
            assert filled == (away_s <= c.spacing_s / 2).any()
            if filled:
                assert time_of(next(samples)) == pytest.approx(times_s[away_s.argmin()], abs=1e-3)
                seen.add((video, int(away_s.argmin())))
    assert {video for video, _ in seen} == videos
    assert len(seen) > (8 if modality == "audio" else 100)
    assert next(samples, None) is None


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
@pytest.mark.parametrize(("video", "rate"), [(OLD, 60), (NEW, 50)])
def test_frames_have_the_time_of_their_number(tmp_path: Path, video: str, rate: int, packed: bool) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, video)
    place = root / video[:3] / "rgb_frames" / video
    pictures = greys(SECONDS * rate)
    write_tar(place.with_suffix(".tar"), {"": pictures}) if packed else write_folder(place, pictures)
    (recording,) = open_split(root)
    stamps = recording.stamps["video"]
    assert len(stamps) == SECONDS * rate
    np.testing.assert_allclose(stamps / 1e9, np.arange(SECONDS * rate) / rate, atol=1e-8)
    which = [0, rate, 3, SECONDS * rate - 1, 3]
    np.testing.assert_allclose(levels(recording, which), [k + 1 for k in which], atol=1)
    assert recording.modalities == {"video", "flow"}, "flow is computed where it was not downloaded"
    assert recording.read("flow", np.array([5])).shape == (1, 30, 40, 2)
    assert recording.ids == [f"{video}_0"]


@pytest.mark.parametrize("name", ["frame_{:07d}.jpg", "frame_{}.jpg", "frame_{:010d}.jpeg", "frame_{:06d}.JPG"])
def test_pictures_are_read_whatever_the_width_of_their_number(tmp_path: Path, name: str) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD)
    folder = root / "P01" / "rgb_frames" / OLD
    write_folder(folder, greys(120), name)
    (folder / "frame_0000000033.png.jpg").write_bytes(b"")
    (folder / "frame_00000000000099.jpg").write_bytes(b"")  # a stray of another name
    write_folder(root / "P01" / "flow_frames" / OLD / "u", [grey_flow(10.0, 25.0)] * 60, name)
    write_folder(root / "P01" / "flow_frames" / OLD / "v", [grey_flow(-5.0, 25.0)] * 50)
    (recording,) = open_split(root)
    assert len(recording.stamps["video"]) == 120
    np.testing.assert_allclose(levels(recording, [3, 98, 119]), [4, 99, 120], atol=1)
    assert len(recording.stamps["flow"]) == 50
    flow = recording.read("flow", np.array([3, 49]))
    np.testing.assert_allclose(flow[..., 0], 10.0 / WIDTH / 0.1, atol=0.005)
    np.testing.assert_allclose(flow[..., 1], -5.0 / WIDTH / 0.1, atol=0.005)


@pytest.mark.parametrize("kind", ["rgb", "flow"])
def test_pictures_that_are_unpacked_later_are_found(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD)
    folders = [root / "P01" / f"{kind}_frames" / OLD / part for part in ({"rgb": [""], "flow": ["u", "v"]}[kind])]
    for folder in folders:
        write_folder(folder, [grey_flow(0.0, 25.0)] * 40)
    modality = {"rgb": "video", "flow": "flow"}[kind]
    (before,) = open_split(root)
    assert len(before.stamps[modality]) == 40
    for folder in folders:
        for number in range(41, 61):
            (folder / f"frame_{number:010d}.jpg").write_bytes(grey_flow(0.0, 25.0))
    (after,) = open_split(root)
    assert len(after.stamps[modality]) == 60
    assert after.key != before.key, "and what was made of the samples is made anew"


@pytest.mark.parametrize(
    ("video", "bound", "gap_s", "newest"),
    [(OLD, 25, 0.1, lambda n: 2 * n / 60), (NEW, 8, 0.02, lambda n: n / 50)],
    ids=["2018", "2020"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_flow_is_in_image_widths_per_second_at_its_newer_frame(
    tmp_path: Path, video: str, bound: float, gap_s: float, newest: object, packed: bool
) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, video)
    speeds = np.linspace(-0.8, 0.8, 40) * bound
    parts = {"u": [grey_flow(s, bound) for s in speeds], "v": [grey_flow(-s / 2, bound) for s in speeds]}
    place = root / video[:3] / "flow_frames" / video
    if packed:
        write_tar(place.with_suffix(".tar"), parts)
    else:
        for part, pictures in parts.items():
            write_folder(place / part, pictures)
    (recording,) = open_split(root)
    assert recording.modalities == {"flow"}
    wanted = [newest(number) for number in range(1, 41)]  # type: ignore[operator]
    np.testing.assert_allclose(recording.stamps["flow"] / 1e9, wanted, atol=1e-8)
    flow = recording.read("flow", np.array([0, 39, 10]))
    for field, speed in zip(flow, speeds[[0, 39, 10]], strict=True):
        expected = speed / WIDTH / gap_s
        step = 2 * bound / 255 / WIDTH / gap_s  # of one grey level
        np.testing.assert_allclose(field[..., 0], expected, atol=1.1 * step)
        np.testing.assert_allclose(field[..., 1], -expected / 2, atol=1.1 * step)


@pytest.mark.parametrize("kind", ["pictures", "movie"])
def test_red_is_red(tmp_path: Path, kind: str) -> None:
    """OpenCV gives blue first; networks that know ImageNet or Kinetics want red first."""
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD)
    red = np.full((HEIGHT, WIDTH, 3), (200, 60, 20), np.uint8)
    if kind == "pictures":
        write_folder(root / "P01" / "rgb_frames" / OLD, [jpeg(red)] * 120)
    else:
        write_movie(root / "P01" / "videos" / f"{OLD}.MP4", [red] * 60, 30, None)
    (recording,) = open_split(root)
    np.testing.assert_allclose(recording.read("video", np.array([7]))[0, 18, 24], (200, 60, 20), atol=6)


@pytest.mark.parametrize("place", ["P01/videos/P01_01.MP4", "videos/train/P01/P01_01.MP4"])
def test_a_movie_gives_images_flow_and_sound(tmp_path: Path, place: str) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD)
    frames = [np.full((HEIGHT, WIDTH, 3), 40 + 2 * i, np.uint8) for i in range(60)]
    write_movie(root / place, frames, 30, tone_of(600.0, 2.0))
    (recording,) = open_split(root)
    assert recording.modalities == {"video", "flow", "audio"}
    assert (len(recording.stamps["video"]), len(recording.stamps["flow"])) == (60, 59)
    np.testing.assert_allclose(levels(recording, [0, 59, 30]), [40, 158, 100], atol=3)
    chunk = recording.sound(1_000_000_000, 1600)
    assert 0.2 < np.abs(chunk).max() < 0.6


def hdf5(root: Path, samples: np.ndarray) -> None:
    h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")
    with h5py.File(root / "EPIC_audio.hdf5", "w") as file:
        file.create_dataset(OLD, data=samples)


SOUNDS = {
    "wav of the person": lambda root, samples: write_sound(root / "P01" / "audio" / "P01_01.wav", samples),
    "wav": lambda root, samples: write_sound(root / "audio" / "P01_01.wav", samples),
    "hdf5": hdf5,
}


@pytest.mark.parametrize("kind", list(SOUNDS))
def test_sound_is_resampled_and_keeps_its_time(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD)
    silence = np.zeros(SOUND_RATE // 2, np.float32)
    SOUNDS[kind](root, np.concatenate([silence, tone_of(500.0, 1.0)]))
    (recording,) = open_split(root)
    assert recording.modalities == {"audio"}
    assert abs(recording.sound_stop_ns / 1e9 - 1.5) < 0.001
    assert np.abs(recording.sound(490_000_000, 6400)).max() < 0.01
    tone = recording.sound(1_200_000_000, 8000)
    spectrum = np.abs(np.fft.rfft(tone))
    assert abs(spectrum.argmax() * 16000 / 8000 - 500) <= 2


def test_a_video_lacks_what_is_not_on_disk_and_the_user_is_told(tmp_path: Path) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD, NEW, "P03_01")
    write_folder(root / "P01" / "rgb_frames" / OLD, greys(120))
    write_sound(root / "P02" / "audio" / f"{NEW}.wav", tone_of(500.0, 2.0))
    source = EpicKitchensSource(root, form_of(preset("tiny")))
    found = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
    assert {r.name: set(r.modalities) for r in found} == {
        f"epic-kitchens-100/{OLD}": {"video", "flow"},
        f"epic-kitchens-100/{NEW}": {"audio"},
    }
    assert source.notes[-1] == (
        "train: 3 videos with annotated actions, 1 flow computed while training, 1 not on disk, 1 without audio, "
        "1 without flow, 1 without video"
    )


def form_of(config: Config) -> object:
    from karmma_training.data.store import StoreFormat

    return StoreFormat.of(config)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """About 100 frames of P01_01, almost black until frame 85. There RGB and flow share one index, which the official
    layout does not: frame n becomes the official 2n and 2n + 1."""
    if not OFFICIAL.is_dir():
        pytest.skip("the real frames are not here")
    root = tmp_path_factory.mktemp("real") / "EPIC-KITCHENS"
    write_annotations(root, train=[Action(OLD, 0.5, 3.0, 0, 0)])
    place = root / "P01" / "rgb_frames" / OLD
    place.mkdir(parents=True)
    for i, picture in enumerate(REAL_PICTURES):
        for twin in (2 * i + 1, 2 * i + 2):
            shutil.copy(picture, place / f"frame_{twin:010d}.jpg")
    for part in "uv":
        folder = root / "P01" / "flow_frames" / OLD / part
        folder.mkdir(parents=True)
        for i, picture in enumerate(sorted((OFFICIAL / OLD / "flow").glob(f"*_{part}_*.jpg")), 1):
            shutil.copy(picture, folder / f"frame_{i:010d}.jpg")
    (recording,) = open_split(root)
    return recording


def test_real_frames_and_flow_of_the_data_set(real: Recording) -> None:
    assert real.modalities == {"video", "flow"}
    assert len(real.stamps["video"]) == 2 * len(REAL_PICTURES)
    light = real.read("video", np.arange(0, 2 * len(REAL_PICTURES), 2)).mean((1, 2, 3))
    assert light[:80].max() < light[-5:].min(), "the lights go on"
    flow = real.read("flow", np.arange(len(real.stamps["flow"])))
    assert 0.001 < np.abs(flow).mean() < 0.5, "image widths per second"


def test_real_flow_goes_where_the_real_frames_do(real: Recording) -> None:
    """Against OpenCV's, where it is light and much moves; how far is not compared, a flow of 0.1 s being longer."""
    lit = [cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (228, 128)) for path in REAL_PICTURES[86:]]
    opencv = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    given = real.read("flow", np.arange(87, len(REAL_PICTURES)))
    size = given.shape[2:0:-1]
    own = np.stack([cv2.resize(opencv.calc(*pair, None), size, interpolation=cv2.INTER_AREA) for pair in pairwise(lit)])
    speed = np.linalg.norm(given, axis=-1)
    given, own = (flow[speed > np.quantile(speed, 0.8)] for flow in (given, own))

    def alike(flow: np.ndarray) -> float:
        """Cosine of the angle between both, over all of them together."""
        return float((flow * own).sum() / np.sqrt((flow**2).sum() * (own**2).sum()))

    others = [given * signs for signs in ([-1, 1], [1, -1], [-1, -1])] + [given[:, ::-1]]
    assert alike(given) > 0.5
    assert alike(given) > max(map(alike, others)) + 0.2


def test_labels_are_the_official_classes_and_the_pairs_of_training(tmp_path: Path) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD, NEW)
    write_annotations(
        root / "annotations",
        train=[Action(OLD, 0, 1, 2, 1), Action(OLD, 1, 2, 0, 0), Action(NEW, 0, 1, 2, 1)],
        validation=[Action("P02_01", 0, 1, 1, 1)],
    )
    labels = EpicKitchensSource(root, form_of(preset("tiny"))).labels()
    assert labels.heads == {"verb": VERBS, "noun": NOUNS}
    assert labels.actions.tolist() == [[0, 0], [2, 1]]


def test_overlapping_actions_share_their_samples(tmp_path: Path) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    actions = [Action(OLD, 0.0, 1.0, 0, 0), Action(OLD, 0.5, 1.5, 1, 1), Action(OLD, 1.0, 1.9, 2, 0)]
    write_annotations(root, train=actions)
    write_folder(root / "P01" / "rgb_frames" / OLD, greys(120))
    first, second = open_split(root)
    assert first.ids == [f"{OLD}_0", f"{OLD}_2"]
    assert second.ids == [f"{OLD}_1"]
    assert first.key == second.key
    assert first.targets.tolist() == [[0, 0], [2, 0]]


def test_actions_beyond_the_end_of_a_truncated_video_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    write_annotations(root, train=[Action(OLD, 0.2, 1.5, 0, 0), Action(OLD, 5.0, 6.0, 1, 1)])
    place = root / "P01" / "rgb_frames" / f"{OLD}.tar"
    write_tar(place, {"": greys(120)})
    os.truncate(place, place.stat().st_size // 2)
    (recording,) = open_split(root)
    assert recording.ids == [f"{OLD}_0"]
    count = len(recording.stamps["video"])
    assert 40 < count < 70
    assert recording.stops[0] == recording.stamps["video"][-1] / 1e9
    np.testing.assert_allclose(levels(recording, [0, count - 1]), [1, count], atol=1)


@pytest.mark.parametrize("kind", ["movie", "wav"])
def test_what_a_file_that_was_cut_off_no_longer_has_is_told(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    write_annotations(root, train=[Action(OLD, 0.2, 1.0, 0, 0), Action(OLD, 4.0, 5.0, 1, 1)])
    if kind == "movie":
        path = root / "P01" / "videos" / f"{OLD}.MP4"
        write_movie(path, noise(150), 25, None)
    else:
        path = root / "audio" / f"{OLD}.wav"
        write_sound(path, tone_of(500.0, 6.0))
    cut(path, 0.5)
    source = EpicKitchensSource(root, form_of(preset("tiny")))
    (recording,) = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
    assert recording.ids == [f"{OLD}_0"]
    note = source.notes[-1]
    assert "1 with files that are damaged or end early" in note
    assert note.endswith("; 1 actions beyond what was recorded are left out")


def test_a_damaged_picture_is_replaced_by_its_neighbour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "EPIC-KITCHENS"
    annotate(root, OLD)
    pictures = greys(120)
    pictures[30] = pictures[30][:100]
    write_folder(root / "P01" / "rgb_frames" / OLD, pictures)
    (root / "P01" / "rgb_frames" / OLD / "frame_0000000050.jpg").unlink()
    (recording,) = open_split(root)
    assert len(recording.stamps["video"]) == 119, "a frame that is not there has no time"
    np.testing.assert_allclose(levels(recording, [30, 60]), [30, 62], atol=1)
    assert "image 30 is damaged" in caplog.text


FAULTS = {
    "no column": (("verb_class", "verbclass"), "no column verb_class"),
    "time": (("00:00:00.50,00:00:01.50", "0.5,00:00:01.50"), "row 2, start_timestamp: '0.5' is not"),
    "order": (("00:00:00.50,00:00:01.50", "00:00:01.50,00:00:00.50"), "row 2, stop_timestamp: "),
    "class": (("take,0,", "take,7,"), "row 2, verb_class: '7' is none of 3 classes"),
    "word for a class": (("take,0,", "take,zero,"), "row 2, verb_class: 'zero'"),
    "nouns": (("[0]", "[0"), "row 2, all_noun_classes"),
    "path": (("P01,P01_01", "P01,../../x"), "row 2, video_id: '../../x' is not like P01_01"),
    "twice": (("P02_102_1,", "P01_01_0,"), "row 3, narration_id: P01_01_0 is there already"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_broken_rows_are_named(tmp_path: Path, fault: str) -> None:
    annotate(tmp_path, OLD, NEW)
    path = tmp_path / "annotations" / "EPIC_100_train.csv"
    (before, after), message = FAULTS[fault]
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(UsageError, match=r"EPIC_100_train\.csv") as error:
        EpicKitchensSource(tmp_path, form_of(preset("tiny")))
    assert message in str(error.value)


def test_all_broken_rows_are_named_at_once(tmp_path: Path) -> None:
    annotate(tmp_path, *(f"P01_{i:02d}" for i in range(30)))
    path = tmp_path / "annotations" / "EPIC_100_train.csv"
    path.write_text(path.read_text().replace("00:00:01.50", "later"))
    with pytest.raises(UsageError, match=r"row 2, .*row 3, .*and 40 more"):
        EpicKitchensSource(tmp_path, form_of(preset("tiny")))


def test_without_annotations_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clone github\.com/epic-kitchens/epic-kitchens-100-annotations"):
        EpicKitchensSource(tmp_path, form_of(preset("tiny")))
