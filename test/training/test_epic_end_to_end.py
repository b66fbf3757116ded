# SPDX-License-Identifier: Apache-2.0
"""A miniature EPIC-KITCHENS-100, every video in another layout: checked, trained on from teacher to student, evaluated,
submitted, and recognised by the exported bundle, all through the commands."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mini_epic import (
    NOUNS,
    SOUND_RATE,
    VERBS,
    Action,
    grey_flow,
    jpeg,
    tone_of,
    write_annotations,
    write_folder,
    write_movie,
    write_sound,
    write_tar,
)

pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.cli.main import main
from karmma_ros.recognizer import Recognizer

ACTION_S = 0.8
WIDTH, HEIGHT = 114, 64  # a quarter of the official size: most of the time goes into decoding
SETTINGS = [
    "train.windows_per_second=15",
    "train.validate_every=10",
    "pretrain.video=0",
    "pretrain.flow=0",
    "pretrain.audio=0",
]
SETTINGS += ["train.ema=0.9", "augment.brightness=0", "augment.contrast=0", "augment.colour=0"]
SETTINGS += ["augment.mirror_p=0", "augment.permute_p=0", "augment.gain_db=0", "sensors.loss_p=0", "train.batch=24"]


def script(video: str, count: int, first: int = 0) -> list[Action]:
    """One action after the other, all pairs of classes in turn."""
    pairs = [((first + i) % 3, (first + i) // 3 % 2) for i in range(count)]
    return [Action(video, i * ACTION_S, (i + 1) * ACTION_S, *pair) for i, pair in enumerate(pairs)]


def at(actions: list[Action], t: float) -> Action:
    return actions[min(int(t / ACTION_S), len(actions) - 1)]


def picture(action: Action) -> np.ndarray:
    """The noun is a bright half, the verb a bright stripe."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[:, action.noun * WIDTH // 2 :][:, : WIDTH // 2] += 80
    image[action.verb * HEIGHT // 3 :][: HEIGHT // 3] += 80
    return image


def sound(actions: list[Action]) -> np.ndarray:
    """Every pair of classes has its pitch."""
    return np.concatenate([tone_of(400.0 * 1.5 ** (a.verb + 3 * a.noun), ACTION_S) for a in actions])


class Builder:
    """Writes one video's files."""

    def __init__(self, root: Path, actions: list[Action]) -> None:
        self.actions, self.video = actions, actions[0].video
        self.folder = root / self.video[:3]
        rate = 50 if len(self.video) > 6 else 60
        self.seconds = actions[-1].stop_s
        encoded = {(a.verb, a.noun): jpeg(picture(a)) for a in actions}
        times = np.arange(int(self.seconds * rate)) / rate
        self.pictures = [encoded[at(actions, t).verb, at(actions, t).noun] for t in times]
        # the flow picture of the same index: every second one of 2018
        step, self.bound = (2, 25.0) if rate == 60 else (1, 8.0)
        spoken = [at(actions, t) for t in times[::step]]
        self.flow = {
            "u": [grey_flow((a.verb - 1) * 0.5 * self.bound, self.bound, (HEIGHT, WIDTH)) for a in spoken],
            "v": [grey_flow((a.noun - 0.5) * self.bound, self.bound, (HEIGHT, WIDTH)) for a in spoken],
        }

    def tar(self) -> Builder:
        write_tar(self.folder / "rgb_frames" / f"{self.video}.tar", {"": self.pictures})
        return self

    def frames(self) -> Builder:
        write_folder(self.folder / "rgb_frames" / self.video, self.pictures)
        return self

    def flow_tar(self) -> Builder:
        write_tar(self.folder / "flow_frames" / f"{self.video}.tar", self.flow)
        return self

    def flow_frames(self) -> Builder:
        for part, pictures in self.flow.items():
            write_folder(self.folder / "flow_frames" / self.video / part, pictures)
        return self

    def movie(self) -> Builder:
        frames = [picture(at(self.actions, i / 25)) for i in range(int(self.seconds * 25))]
        write_movie(self.folder / "videos" / f"{self.video}.MP4", frames, 25, sound(self.actions))
        return self

    def wav(self) -> Builder:
        write_sound(self.folder / "audio" / f"{self.video}.wav", sound(self.actions))
        return self


SPLITS: dict[str, dict[str, Callable[[Builder], object]]] = {
    "train": {
        "P01_01": lambda b: b.tar().flow_tar().wav(),
        "P01_02": lambda b: b.frames().flow_frames(),
        "P02_101": lambda b: b.movie(),
        "P02_102": lambda b: b.flow_tar().wav(),
        "P03_01": lambda b: b.wav(),
        "P03_02": lambda b: None,
    },
    "validation": {"P01_11": lambda b: b.frames().flow_tar().wav(), "P02_11": lambda b: b.tar().flow_frames().wav()},
    "test": {"P04_101": lambda b: b.tar().flow_frames().wav(), "P05_101": lambda b: b.movie()},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("epic") / "EPIC-KITCHENS"
    written: dict[str, list[Action]] = {}
    for split, videos in SPLITS.items():
        written[split] = []
        for number, (video, build) in enumerate(videos.items()):
            actions = script(video, 9, number)
            build(Builder(root, actions))
            written[split] += actions
    write_annotations(root / "epic-kitchens-100-annotations", **written)
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """A student of a teacher, both trained as briefly as can be."""
    teacher, student = root.parent / "teacher", root.parent / "run"
    briefly = ("train.epochs=1", "train.windows_per_second=3")
    train(root, teacher, "--system", "teacher", settings=briefly)
    train(root, student, "--teacher", str(teacher), settings=briefly)
    return student


def train(root: Path, out: Path, *options: str, settings: tuple[str, ...]) -> Path:
    command = ["train", "--preset", "tiny", *options, "--data", f"epic-kitchens-100:{root}"]
    command += ["--out", str(out), "--store", str(root.parent / "store")]
    assert main([*command, *(part for s in [*SETTINGS, *settings] for part in ("--set", s))]) == 0
    return out


@pytest.fixture(scope="module")
def submission(root: Path, run: Path) -> dict[str, Any]:
    """What the student's archive for the challenge holds."""
    path = root.parent / "epic.zip"
    command = ["evaluate", str(run), "--segments", "--split", "test", "--store", str(root.parent / "store")]
    command += ["--threads", "1"]
    assert main([*command, "--submission", str(path), "--sls", "0", "3", "3"]) == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["test.json"]
        return dict(json.loads(archive.read("test.json")))


def evaluate(root: Path, run: Path, out: Path) -> dict[str, Any]:
    command = ["evaluate", str(run), "--segments", "--split", "val", "--clips", "2", "--crops", "3", "--threads", "1"]
    assert main([*command, "--store", str(root.parent / "store"), "--out", str(out)]) == 0
    return dict(json.loads((out / "evaluation-segments.json").read_text()))


def test_the_check_says_what_every_video_lacks(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["data", "check", f"epic-kitchens-100:{root}", "--decode", "5", "--json", str(tmp_path / "c.json")]) == 0
    )
    text = capsys.readouterr().out
    assert "train: 5 of 6 videos on disk (video 3, flow 4, audio 4), with 45 of 54 actions" in text
    checks = json.loads((tmp_path / "c.json").read_text())
    train = {c["video"]: c for c in checks["train"]}
    assert train["P01_01"] == {
        "video": "P01_01",
        "actions": 9,
        "covered": 9,
        "has": ["video", "flow", "audio"],
        "findings": [],
    }
    assert train["P01_02"]["findings"] == ["no sound"]
    assert train["P02_101"]["findings"] == [
        "no rgb frames: the movie is read instead",
        "no flow: computed while training",
    ]
    assert train["P02_102"]["findings"] == ["no rgb frames and no movie"]
    assert train["P03_02"] == {
        "video": "P03_02",
        "actions": 9,
        "covered": 0,
        "has": [],
        "findings": ["no rgb frames and no movie", "no flow", "no sound"],
    }
    assert not any(c["findings"] for c in checks["val"])


@pytest.mark.full
def test_it_learns_from_all_of_them(root: Path, tmp_path: Path) -> None:
    """That every layout gives the right samples is for test_epic_kitchens.py."""
    trained = train(root, tmp_path / "run", "--system", "baseline-dropout", settings=("train.epochs=10",))
    report = evaluate(root, trained, tmp_path)
    chance = 1 / (len(VERBS) * len(NOUNS))
    for subset in ("video+flow+audio", "video", "flow", "audio"):
        assert report["subsets"][subset]["action_independent"] > 2 * chance, subset


def test_it_is_scored_as_the_challenge_does(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = evaluate(root, run, tmp_path)
    assert (report["actions"], report["annotated"]) == (18, 18)
    assert len(report["subsets"]) == 7
    full = report["subsets"]["video+flow+audio"]["action_independent"]
    assert report["dropout_curve"]["mean"][0] == pytest.approx(full)
    assert (tmp_path / "evaluation-segments.png").stat().st_size > 10_000
    challenge = report["challenge"]
    assert challenge["overall"]["action"] == report["subsets"]["video+flow+audio"]["action_independent"]
    assert set(challenge) == {"overall", "unseen", "tail"}
    assert "as the challenge counts" in capsys.readouterr().out


def test_the_student_hears_its_teacher(run: Path) -> None:
    """Of its loss the truth is 0.3, and of the rest there is little: neither knows anything yet."""
    losses = {}
    for folder in (run.parent / "teacher", run):
        with (folder / "metrics.csv").open(newline="") as file:
            losses[folder.name] = float(next(csv.DictReader(file))["loss"])
    assert 0.25 < losses["run"] / losses["teacher"] < 0.4


def test_a_submission_is_what_the_challenge_takes(submission: dict[str, Any]) -> None:
    tree = submission
    levels = {"sls_pt": 0, "sls_tl": 3, "sls_td": 3}
    assert {k: v for k, v in tree.items() if k != "results"} == {
        "version": "0.2",
        "challenge": "action_recognition",
        **levels,
    }
    assert set(tree["results"]) == {f"{v}_{i}" for n, v in enumerate(SPLITS["test"]) for i in range(9 * n, 9 * n + 9)}
    for result in tree["results"].values():
        assert set(result) == {"verb", "noun"}
        assert list(result["verb"]) == ["0", "1", "2"]
        assert list(result["noun"]) == ["0", "1"]
        assert all(np.isfinite(list(scores.values())).all() for scores in result.values())


def test_the_exported_student_says_on_the_robot_what_was_submitted(
    root: Path, run: Path, submission: dict[str, Any], tmp_path: Path
) -> None:
    """Fed sample by sample, at the rates of 2020, with what the files of a video of the test split were made of."""
    assert main(["export", str(run), "--out", str(tmp_path / "bundle")]) == 0
    video, rate, begin_ns = "P04_101", 50, 10**18
    built = Builder(tmp_path, script(video, 9))
    fields = [
        np.stack([cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) for data in parts], -1)
        for parts in zip(built.flow["u"], built.flow["v"], strict=True)
    ]
    pieces = np.split(sound(built.actions), len(built.pictures) // 5)  # of 0.1 s
    robot = Recognizer(tmp_path / "bundle", providers="cpu")
    said: dict[str, dict[str, np.ndarray]] = {}
    for i in range(len(built.pictures)):
        stamp = begin_ns + i * 10**9 // rate
        if i:  # the first field leads to the second frame
            pixels = fields[i - 1].astype(np.float32) * (2 * built.bound / 255) - built.bound
            robot.push("flow", stamp, pixels / np.float32(WIDTH / rate))
        if i % 5 == 0:
            robot.push("audio", stamp, pieces[i // 5], SOUND_RATE)
        robot.push("video", stamp, picture(at(built.actions, i / rate)))
        number, within = divmod(i / rate, ACTION_S)
        if within == pytest.approx(ACTION_S / 2):
            predicted = robot.predict(stamp)
            assert all(predicted.coverages.values())
            said[f"{video}_{int(number)}"] = predicted.logits
    submitted = {key: scores for key, scores in submission["results"].items() if key.startswith(video)}
    assert said.keys() == submitted.keys()
    for head in ("verb", "noun"):
        online = np.stack([said[key][head] for key in submitted])
        offline = np.array([list(scores[head].values()) for scores in submitted.values()])
        np.testing.assert_allclose(online, offline, atol=1e-4)
        assert offline.std(0).min() > 100e-4, "other actions are other scores"


def test_what_cannot_be_submitted_is_one_line(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(run), "--store", str(root.parent / "store"), "--split", "test", "--threads", "1"]
    for options, message in (
        ([], "has no labels in split 'test'"),
        (["--segments"], "these actions have no labels"),
        (["--segments", "--submission", str(tmp_path / "x.zip")], "--submission needs --sls"),
        (["--submission", str(tmp_path / "x.zip")], "--submission needs --segments"),
        (["--segments", "--submission", str(tmp_path / "x.zip"), "--sls", "0", "3", "9"], "supervision levels"),
    ):
        assert main([*command, *options]) == 2
        error = capsys.readouterr().err
        assert message in error, options
        assert not (tmp_path / "x.zip").exists()
