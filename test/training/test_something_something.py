# SPDX-License-Identifier: Apache-2.0
"""A miniature Something-Something v2: official JSON, WebM videos; read, checked, trained on, evaluated."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np
import pytest
from mini_epic import (
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

from rich.console import Console

from karmma_ros.cli.main import main
from karmma_ros.errors import UsageError
from karmma_ros.flow import FlowProducer
from karmma_ros.media import read_video
from karmma_ros.recognizer import Recognizer
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_ros.soak.watch import usage_of
from karmma_training.data.prefetch import prefetch
from karmma_training.data.recording import Recording
from karmma_training.data.store import StoreFormat
from karmma_training.data.windows import WindowSampler
from karmma_training.datasets.something_something.detections import find_detections, read_detections
from karmma_training.datasets.something_something.source import SomethingSomethingSource
from karmma_training.datasets.source import open_recordings, open_source
from karmma_training.presets import preset

LABELS = {"Lifting something up": "0", "Moving something, slowly": "1", "Something falling like a rock": "2"}
TEMPLATES = ["Lifting [something] up", "Moving [something], slowly", "[Something] falling like a rock"]
FRAMES, FPS = 24, 12


def picture(action: int, index: int, size: tuple[int, int] = (120, 212)) -> np.ndarray:
    """A block that goes up, right or down."""
    image = np.full((*size, 3), 70, np.uint8)
    rng = np.random.default_rng(action)
    block = rng.integers(120, 255, (40, 40, 3), dtype=np.uint8)
    x1, y1, x2, y2 = box(action, index)
    image[y1:y2, x1:x2] = block
    return image


def write_webm(path: Path, action: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        options = {"deadline": "realtime", "cpu-used": "8", "g": "12"}
        stream = container.add_stream("libvpx-vp9", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 212, 120, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(action, index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_flow(folder: Path, prefix: str, pixels: list[float], first: int) -> None:
    """One component of flow as denseflow writes it with `-b=20`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, value in enumerate(pixels, first):
        picture = np.full((120, 212), round((value + 20) * 255 / 40), np.uint8)
        assert cv2.imwrite(str(folder / f"{prefix}{number:05d}.jpg"), picture)


def write_labels(root: Path, **splits: list[tuple[str, int]]) -> None:
    """`train=[(video, action), ...]`; of the test split the ids alone."""
    folder = root / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(LABELS))
    for split, videos in splits.items():
        entries: list[dict[str, Any]] = [
            {"id": v}
            if split == "test"
            else {"id": v, "label": "lifting a cup up", "template": TEMPLATES[a], "placeholders": ["a cup"]}
            for v, a in videos
        ]
        (folder / f"{split}.json").write_text(json.dumps(entries))


def box(action: int, index: int) -> tuple[int, int, int, int]:
    """Where the block is: x1, y1, x2, y2 in pixels."""
    y, x = [(76 - 3 * index, 80), (40, 10 + 6 * index), (4 + 3 * index, 80)][action]
    return x, y, x + 40, y + 40


def something_else(root: Path, videos: list[tuple[str, int]]) -> None:
    """Boxes as Something-Else has them, in two files; a hand in every second frame."""
    tree = {}
    for video, action in videos:
        frames = []
        for index in range(FRAMES):
            corners = dict(zip(("x1", "y1", "x2", "y2"), box(action, index), strict=True))
            labels = [{"box2d": corners, "category": "bottle", "standard_category": "0000"}]
            if index % 2:
                labels.append({"box2d": {"x1": 100.5, "y1": 0, "x2": 212, "y2": 60}, "category": "hand"})
            frames.append({"name": f"{video}/{index + 1:04d}.jpg", "nr_instances": len(labels), "labels": labels})
        tree[video] = frames
    for part, names in enumerate((list(tree)[::2], list(tree)[1::2]), 1):
        text = json.dumps({name: tree[name] for name in names})
        (root / f"bounding_box_smthsmth_part{part}.json").write_text(text)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ssv2") / "ssv2"
    train = [(str(100 + i), i % 3) for i in range(12)]
    validation = [(str(200 + i), i % 3) for i in range(3)]
    for video, action in train + validation:
        write_webm(root / "20bn-something-something-v2" / f"{video}.webm", action)
    something_else(root, train + validation)
    write_labels(root, train=[*train, ("999", 0)], validation=validation, test=[("200", 0), ("201", 1)])
    return root


def open_split(root: Path, split: str) -> list[Recording]:
    config = preset("tiny")
    config.data.source = f"something-something-v2:{root}"
    return open_recordings(open_source(config), split, root.parent / "store", workers=1, console=Console(quiet=True))


def test_samples_are_those_of_the_videos(root: Path) -> None:
    recordings = open_split(root, "train")
    assert [r.ids for r in recordings] == [[str(100 + i)] for i in range(12)]
    assert [r.targets.tolist() for r in recordings[:3]] == [[[0]], [[1]], [[2]]]
    form = StoreFormat.of(preset("tiny"))
    with read_video(root / "20bn-something-something-v2" / "101.webm") as reader:
        frames = list(reader)
    producer = FlowProducer((form.producer_width, form.producer_height), form.producer_preset)
    flows = [producer.push(f.stamp_ns, f.rgb) for f in frames]
    recording = recordings[1]
    assert recording.modalities == {"video", "flow", "detections"}
    assert recording.stamps["video"].tolist() == [f.stamp_ns for f in frames]
    assert recording.stamps["flow"].tolist() == [f.stamp_ns for f in frames[1:]]
    size = (form.video_height, form.video_width)
    expected = np.stack([prepare_image(frames[k].rgb, size) for k in (23, 0, 7)]).astype(int)
    away = np.abs(recording.read("video", np.array([23, 0, 7])) - expected)
    assert away.max() <= 4, "shrunk before it is converted: rounding"
    size = (form.flow_height, form.flow_width)
    np.testing.assert_allclose(
        recording.read("flow", np.array([22, 3])), [prepare_flow(flows[k], size) for k in (23, 4)], atol=1e-6
    )
    assert len(open_split(root, "train")) == 12, "and the second time from the store"


def kitchen(root: Path, layout: str) -> str:
    """A few videos of EPIC-KITCHENS-100 in one of its layouts; what `--data` takes."""
    videos = [f"P01_{number:02d}" for number in range(1, 5)]
    write_annotations(root / "annotations", train=[Action(video, 0.0, 4.0, 0, 0) for video in videos])
    images = [picture(1, index) for index in range(FRAMES)]
    pictures = [jpeg(image) for image in images] * 10  # four seconds at 60 a second
    flows = {part: [grey_flow(pixels, 25.0, (120, 212)) for pixels in range(-20, 20)] * 3 for part in "uv"}
    for video in videos:
        rgb, flow = (root / "P01" / f"{kind}_frames" / video for kind in ("rgb", "flow"))
        if layout == "folders":
            write_folder(rgb, pictures)
            for part, fields in flows.items():
                write_folder(flow / part, fields)
            write_sound(root / "P01" / "audio" / f"{video}.wav", tone_of(500.0, 4.0))
        elif layout == "tars":
            write_tar(rgb.with_suffix(".tar"), {"": pictures})
            write_tar(flow.with_suffix(".tar"), flows)
        else:
            write_movie(root / "P01" / "videos" / f"{video}.MP4", images * 2, FPS, tone_of(500.0, 4.0))
    return f"epic-kitchens-100:{root}"


READERS = {
    "webm": ["video", "flow"],  # which is computed
    "folders": ["video", "flow", "audio"],
    "tars": ["video", "flow"],
    "movies": ["video", "audio"],
}


@pytest.mark.parametrize("files", list(READERS))
def test_memory_is_steady_from_epoch_to_epoch(root: Path, tmp_path: Path, files: str) -> None:
    """Decoders, pictures and windows of one epoch are gone in the next, threads and all."""
    config = preset("tiny")
    config.modalities = READERS[files]
    config.video.height = config.flow.height = 112  # so that much is read
    config.video.width = config.flow.width = 200
    config.audio.context = 16_000
    config.data.source = f"something-something-v2:{root}" if files == "webm" else kitchen(tmp_path / "epic", files)
    recordings = open_recordings(
        open_source(config), "train", tmp_path / "store", workers=1, console=Console(quiet=True)
    )
    assert all(recording.decodes for recording in recordings)
    sampler, steps = WindowSampler(recordings, config, batch=4, seed=0), 24
    resident_mb = []
    for epoch in range(6):
        read = set()
        for batch in prefetch(sampler.batch, epoch * steps, steps, threads=2):
            read |= {m for m, samples in batch.samples.items() if samples.any()}
        assert read == set(config.modalities)
        ctypes.CDLL(None).malloc_trim(0)  # what threads have freed is not always given back by itself
        resident_mb.append(usage_of(os.getpid(), 0.0).resident_mb)
    # a reader that keeps what it gave, whichever of them, loses 30 MB or more
    assert median(resident_mb[3:]) - median(resident_mb[1:3]) < 20, resident_mb


@pytest.mark.parametrize("first", [0, 1], ids=["numbered from 0", "numbered from 1"])
def test_given_flow_is_that_to_the_next_frame(root: Path, tmp_path: Path, first: int) -> None:
    other = tmp_path / "ssv2"
    write_labels(other, train=[("100", 0), ("101", 1)])
    for video in ("100", "101"):
        write_webm(other / "20bn-something-something-v2" / f"{video}.webm", int(video) - 100)
    (before, _) = open_split(other, "train")
    speeds = np.linspace(-18, 18, FRAMES - 1).tolist()
    folder = other / "rawframes" / "100"
    write_flow(folder, "flow_x_", [*speeds, 0.0, 0.0], first)  # more than there are frames
    write_flow(folder, "flow_y_", [s / 2 for s in speeds], first)
    source = SomethingSomethingSource(other, StoreFormat.of(preset("tiny")))
    given, computed = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
    assert "flow of 1 given" in source.notes[-1]
    assert given.stamps["flow"].tolist() == given.stamps["video"][1:].tolist() == before.stamps["flow"].tolist()
    assert given.key != before.key, "what was made of computed flow is not that of given flow"
    gap_s = np.median(np.diff(given.stamps["video"])) / 1e9
    which = np.array([0, 22, 7])
    flow = given.read("flow", which)
    step = 40 / 255 / 212 / gap_s  # of one grey level
    for field, speed in zip(flow, np.array(speeds)[which], strict=True):
        np.testing.assert_allclose(field[..., 0], speed / 212 / gap_s, atol=1.1 * step)
        np.testing.assert_allclose(field[..., 1], speed / 2 / 212 / gap_s, atol=1.1 * step)
    assert np.abs(computed.read("flow", which)).max() > 0
    for number in (3, 9):
        (folder / f"flow_x_{number:05d}.jpg").unlink()
    (found, _) = source.check("train", 0, 1, Console(quiet=True))
    assert found.findings == (f"flow: {FRAMES - 3} of {FRAMES - 1} pictures are there",)


def test_detections_are_shares_of_the_image_at_their_frames(root: Path) -> None:
    recording = open_split(root, "train")[1]
    assert recording.stamps["detections"].tolist() == recording.stamps["video"].tolist()
    found = recording.read("detections", np.array([4, 7]))
    assert found.shape == (2, 14, 6)
    scale = np.array([212, 120, 212, 120])
    np.testing.assert_allclose(found[0, 0], [*(np.array(box(1, 4)) / scale), 1, 1], atol=1e-6)
    assert (found[0, 1:, 5] == -1).all()
    assert sorted(found[1, :2, 5].tolist()) == [0, 1], "a hand beside the object"
    hand = found[1, found[1, :, 5] == 0][0]
    np.testing.assert_allclose(hand[:4], [100.5 / 212, 0, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize("wrapped", [True, False], ids=["frame_objects", "lists"])
@pytest.mark.parametrize("beside", [True, False], ids=["sizes beside", "sizes inside"])
def test_the_other_kind_of_detections(root: Path, tmp_path: Path, wrapped: bool, beside: bool) -> None:
    folder = tmp_path / "detections"
    folder.mkdir()
    entry = {"x1": 106, "y1": 30, "x2": 53, "y2": 60, "score": 0.7, "category": "right hand"}
    frames: list[Any] = [[entry] if i else [] for i in range(FRAMES)]
    video: dict[str, Any] = {"id": "100", "frames": [{"frame_objects": f} for f in frames] if wrapped else frames}
    if beside:
        (folder / "videoid2size.json").write_text(json.dumps({"100": [106, 60]}))
    else:
        video["size"] = [106, 60]
    (folder / "train_dataset.json").write_text(json.dumps([video, {**video, "id": "5"}]))
    found = read_detections(find_detections(tmp_path), ["100"], tmp_path / "store")
    assert list(found) == ["100"]
    boxes, size = found["100"]
    assert (len(boxes), size, len(boxes[0])) == (FRAMES, (106, 60), 0)
    np.testing.assert_allclose(boxes[3], [[53, 30, 106, 60, 0.7, 0]])
    assert read_detections(find_detections(tmp_path), ["77"], tmp_path / "store") == {}, "none of ours"
    again = read_detections(find_detections(tmp_path), ["100"], tmp_path / "store")
    np.testing.assert_array_equal(again["100"][0][3], boxes[3])


OTHER_FILES = ["[1]", '{"1": [{"labels": [{}]}]}', "[", '[{"id": 1, "frames": 3}]', '{"1": 5}']
OTHER_FILES += ['[{"id": "1", "size": [0, 9], "frames": []}]']


@pytest.mark.parametrize("text", OTHER_FILES)
def test_detections_that_are_something_else_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "detections.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"detections\.json: no detections of a known kind") as error:
        read_detections([path], ["1"], tmp_path / "store")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").glob("*"))


def test_the_user_is_told_what_is_missing_or_broken(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "ssv2"
    write_labels(other, train=[("100", 0), ("101", 1), ("102", 2)])
    folder = other / "20bn-something-something-v2"
    write_webm(folder / "100.webm", 0)
    (folder / "101.webm").write_bytes(b"<html>" * 100)
    source = SomethingSomethingSource(other, StoreFormat.of(preset("tiny")))
    found = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
    assert len(found) == 1
    assert source.notes[0].startswith("train: 1 of 3 videos, 1 not on disk, 1 broken (")
    assert "101.webm: not a readable video" in source.notes[0]


def test_a_video_that_was_cut_off_is_told(tmp_path: Path) -> None:
    other = tmp_path / "ssv2"
    write_labels(other, train=[("100", 0), ("101", 1)])
    folder = other / "20bn-something-something-v2"
    for video in ("100", "101"):
        write_webm(folder / f"{video}.webm", int(video) - 100)
    os.truncate(folder / "101.webm", (folder / "101.webm").stat().st_size // 2)
    source = SomethingSomethingSource(other, StoreFormat.of(preset("tiny")))
    whole, part = source.check("train", 0, 1, Console(quiet=True))
    assert (whole.findings, part.has) == ((), ("video", "flow"))
    ends = re.fullmatch(r"101\.webm ends early, at (\d\.\d) s of 2\.0 s", part.findings[0])
    assert ends
    assert 0.2 < float(ends[1]) < 1.6
    found = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
    assert source.notes[-1] == f"train: 2 of 2 videos, 1 without the rest of their action ({part.findings[0]})"
    assert len(found[1].stamps["video"]) < FRAMES


def test_a_video_that_was_replaced_is_another_recording(tmp_path: Path) -> None:
    """Its tokens are kept under the key: neither those of the old file nor of another root are its own."""
    first, other = (tmp_path / name / "ssv2" for name in ("a", "b"))
    write_labels(first, train=[("100", 0), ("101", 1)])
    for video in ("100", "101"):
        write_webm(first / "20bn-something-something-v2" / f"{video}.webm", int(video) - 100)
    shutil.copytree(first, other)  # with the times of its files
    keys = [[r.key for r in open_split(root, "train")] for root in (first, other)]
    path = other / "20bn-something-something-v2" / "100.webm"
    before = path.stat()
    write_webm(path, 2)
    os.truncate(path, before.st_size)  # as large, by chance
    changed = open_split(other, "train")
    assert [r.key == key for r, key in zip(changed, keys[1], strict=True)] == [False, True]
    assert not set(keys[0]) & set(keys[1])
    assert [r.key for r in open_split(other, "train")] == [r.key for r in changed]


@pytest.mark.parametrize("lacks", ["flow_x_", "flow_y_"])
def test_flow_without_one_component_is_told_and_computed(tmp_path: Path, lacks: str) -> None:
    other = tmp_path / "ssv2"
    write_labels(other, train=[("100", 1)])
    write_webm(other / "20bn-something-something-v2" / "100.webm", 1)
    (given,) = {"flow_x_", "flow_y_"} - {lacks}
    write_flow(other / "rawframes" / "100", given, [5.0] * (FRAMES - 1), 1)
    told = f"rawframes/100: no pictures of {lacks}"
    source = SomethingSomethingSource(other, StoreFormat.of(preset("tiny")))
    (found,) = source.check("train", 0, 1, Console(quiet=True))
    assert (found.has, found.findings) == (("video", "flow"), (told, "no flow: computed while training"))
    for _ in ("indexed", "out of the store"):
        (recording,) = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
        assert f"1 with half of their flow, which is computed instead ({told})" in source.notes[-1]
        assert np.abs(recording.read("flow", np.array([4]))).max() > 0
    write_flow(other / "rawframes" / "100", lacks, [5.0] * (FRAMES - 1), 1)
    assert source.check("train", 0, 1, Console(quiet=True))[0].findings == ()


@pytest.mark.parametrize("video", ["007", "9" * 30])
def test_the_id_of_a_video_is_a_name(tmp_path: Path, video: str) -> None:
    """What is checked is what is trained on, zeros in front and all."""
    other = tmp_path / "ssv2"
    write_labels(other, train=[(video, 0), ("7", 1)])
    write_webm(other / "20bn-something-something-v2" / f"{video}.webm", 0)
    source = SomethingSomethingSource(other, StoreFormat.of(preset("tiny")))
    assert [bool(c.has) for c in source.check("train", 0, 1, Console(quiet=True))] == [True, False]
    for _ in ("indexed", "out of the store"):
        found = open_recordings(source, "train", tmp_path / "store", workers=1, console=Console(quiet=True))
        assert [recording.ids for recording in found] == [[video]]


def test_the_check_counts_detections_where_there_are_files_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "ssv2"
    write_labels(other, train=[("100", 0), ("101", 1)])
    for video in ("100", "101"):
        write_webm(other / "20bn-something-something-v2" / f"{video}.webm", int(video) - 100)
    report = tmp_path / "check.json"
    command = ["data", "check", f"something-something-v2:{other}", "--workers", "1", "--json", str(report)]
    assert main(command) == 0
    assert "detections" not in capsys.readouterr().out
    something_else(other, [("101", 1), ("200", 0)])
    assert main(command) == 0
    assert "(video 2, flow 2, audio 0, detections 1)" in capsys.readouterr().out
    without, detected = json.loads(report.read_text())["train"]
    assert (without["video"], without["has"], without["findings"]) == ("100", ["video", "flow"], ["no detections"])
    assert (detected["has"], detected["findings"]) == (["video", "flow", "detections"], [])


def test_the_check_lists_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", f"something-something-v2:{root}", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "train: 12 of 13 videos on disk (video 12, flow 12, audio 0, detections 12), with 12 of 13 actions" in out
    assert "not on disk" in out


def test_names_of_2018_and_published_answers_are_known(root: Path, tmp_path: Path) -> None:
    labels = root / "labels"
    for path in labels.glob("*.json"):
        (tmp_path / f"something-something-v2-{path.name}").write_bytes(path.read_bytes())
    source = SomethingSomethingSource(tmp_path, StoreFormat.of(preset("tiny")))
    assert len(source.clips("train")) == 13
    assert [c.label for c in source.clips("test")] == ["", ""]
    (tmp_path / "test-answers.csv").write_text("201;Moving something, slowly\n200;Lifting something up\n")
    answered = SomethingSomethingSource(tmp_path, StoreFormat.of(preset("tiny"))).clips("test")
    assert [c.label for c in answered] == ["Lifting something up", "Moving something, slowly"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train", '[{"id": "1", "template": "Eating [something]"}]', "entry 0, video 1: 'Eating something' is not in"),
        ("train", '[{"id": "../x", "template": "Lifting [something] up"}]', "entry 0: id '../x' is not a number"),
        ("train", f'[{{"id": "{"1" * 101}"}}]', "' is not a number of up to 100 digits"),
        (
            "train",
            json.dumps([{"id": n, "template": TEMPLATES[0]} for n in (7, "7")]),
            "entry 1: id 7 is there already",
        ),
        ("train", "{}", "not a list of videos"),
        ("train", '[{"id"', "cannot read"),
        ("labels", '{"a": "1"}', "not the official list"),
    ],
)
def test_broken_labels_are_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_labels(tmp_path, train=[("100", 0)])
    (tmp_path / "labels" / f"{name}.json").write_text(text)
    with pytest.raises(UsageError) as error:
        SomethingSomethingSource(tmp_path, StoreFormat.of(preset("tiny"))).clips("train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def learn(root: Path, out: Path, modalities: str, epochs: int) -> dict[str, Any]:
    """Train, and evaluate on the annotated actions."""
    store = ["--store", str(root.parent / "store")]
    command = ["train", "--preset", "tiny", "--system", "baseline-dropout", "--modalities", modalities]
    command += ["--data", f"something-something-v2:{root}", "--out", str(out / "run"), *store]
    settings = ["data.draw=actions", f"train.epochs={epochs}", "train.batch=12", "augment.mirror_p=0", "train.ema=0.9"]
    settings += [f"train.validate_every={epochs}", *(f"pretrain.{m}=0" for m in modalities.split(","))]
    assert main([*command, *(part for s in settings for part in ("--set", s))]) == 0
    command = ["evaluate", str(out / "run"), "--segments", "--split", "val", "--clips", "3", "--threads", "1", *store]
    assert main([*command, "--out", str(out)]) == 0
    report = json.loads((out / "evaluation-segments.json").read_text())
    assert report["actions"] == 3
    return dict(report["subsets"])


def test_it_learns_to_tell_the_actions_apart(root: Path, tmp_path: Path) -> None:
    assert learn(root, tmp_path, "video,flow", 40)["video+flow"]["action"] == 1.0


def test_video_flow_and_boxes_are_distilled_together_and_run_on_the_robot(root: Path, tmp_path: Path) -> None:
    """A teacher of its own first; then every subset of the three is evaluated, and the bundle hears all of them."""
    store = ["--store", str(root.parent / "store")]
    modalities = ("video", "flow", "detections")
    command = [
        "train",
        "--preset",
        "tiny",
        "--modalities",
        ",".join(modalities),
        "--out",
        str(tmp_path / "run"),
        *store,
    ]
    settings = ["data.draw=actions", "train.epochs=30", "train.batch=12", "augment.mirror_p=0", "train.ema=0.9"]
    settings += ["train.validate_every=30", *(f"pretrain.{m}=4" for m in modalities)]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert main([*command, "--data", f"something-something-v2:{root}", *arguments]) == 0
    teacher = json.loads((tmp_path / "run" / "teacher" / "best.json").read_text())
    assert teacher["system"] == "teacher"
    assert set(teacher["validation"]) == {
        "video+flow+detections", "video+flow", "video+detections", "flow+detections", *modalities
    }  # fmt: skip
    command = ["evaluate", str(tmp_path / "run"), "--segments", "--split", "val", "--threads", "1", *store]
    assert main([*command, "--out", str(tmp_path)]) == 0
    subsets = json.loads((tmp_path / "evaluation-segments.json").read_text())["subsets"]
    assert set(subsets) == set(teacher["validation"])
    assert subsets["video+flow+detections"]["action"] > 0.6, "of three; two by chance is one time in four"
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    robot = Recognizer(tmp_path / "bundle", providers="cpu")
    for index in range(FRAMES // 2):
        stamp = index * 10**9 // FPS
        robot.push("video", stamp, picture(2, index))
        boxes = [[*np.array(box(2, index)) / [212, 120, 212, 120], 1, 1]]
        robot.push("detections", stamp, np.array(boxes, np.float32))
    said = robot.predict((FRAMES // 2 - 1) * 10**9 // FPS)
    assert said.coverages["video"] > 0 < said.coverages["detections"]
    assert said.actions


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="the paper's backbones need torchvision")
def test_the_papers_layout_goes_from_a_teacher_to_the_robot(root: Path, tmp_path: Path) -> None:
    """At reduced size, and trained as briefly as can be."""
    modalities = ("video", "flow", "detections")
    settings = ["train.epochs=1", "train.batch=3", "train.threads=1", "train.precision=fp32"]
    settings += ["detections.context=4", "detections.tokens=4"]
    for m in ("video", "flow"):
        settings += [f"{m}.height=32", f"{m}.width=32", f"{m}.context=4"]
        settings += [f"{m}.weights=''", f"{m}.backbone=torchvision:mc3_18", f"{m}.dim=512"]
    store = ["--store", str(root.parent / "store")]
    command = ["train", "--preset", "paper", "--modalities", ",".join(modalities)]
    command += ["--data", f"something-something-v2:{root}", *store, *(p for s in settings for p in ("--set", s))]
    pretrained = [part for m in modalities for part in ("--set", f"pretrain.{m}=1")]
    assert main([*command, *pretrained, "--system", "teacher", "--out", str(tmp_path / "teacher")]) == 0
    assert main([*command, "--teacher", str(tmp_path / "teacher"), "--out", str(tmp_path / "student")]) == 0
    command = ["evaluate", str(tmp_path / "student"), "--segments", "--split", "val", "--clips", "2", "--crops", "3"]
    assert main([*command, "--threads", "1", *store, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "evaluation-segments.json").read_text())
    assert (report["actions"], len(report["subsets"])) == (3, 7)
    assert main(["export", str(tmp_path / "student"), "--out", str(tmp_path / "bundle")]) == 0
    robot = Recognizer(tmp_path / "bundle", providers="cpu")
    for index in range(FRAMES):
        stamp = index * 10**9 // FPS
        robot.push("video", stamp, picture(2, index))
        robot.push("flow", stamp, np.zeros((32, 32, 2), np.float32))
        boxes = [[*np.array(box(2, index)) / [212, 120, 212, 120], 1, 1]]
        robot.push("detections", stamp, np.array(boxes, np.float32))
    said = robot.predict(stamp)
    assert set(said.coverages) == set(modalities)
    assert min(said.coverages.values()) > 0
    assert said.actions


def test_what_is_said_of_the_test_split(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(root.parent / "store")]
    command = ["train", "--preset", "tiny", "--system", "baseline-dropout", "--modalities", "detections"]
    command += ["--data", f"something-something-v2:{root}", "--out", str(tmp_path / "run"), *store]
    assert main([*command, "--set", "train.epochs=1", "--set", "pretrain.detections=0"]) == 0
    capsys.readouterr()
    command = ["evaluate", str(tmp_path / "run"), "--segments", "--split", "test", "--out", str(tmp_path), *store]
    command += ["--threads", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "its actions have no labels here: put test-answers.csv" in error
    assert not list(tmp_path.glob("*.json"))
    guesses = tmp_path / "guesses.csv"
    assert main([*command, "--submission", str(guesses)]) == 0
    rows = [line.split(";") for line in guesses.read_text().splitlines()]
    assert [video for video, *_ in rows] == ["200", "201"]
    for _, *classes in rows:
        assert sorted(classes) == [str(i) for i in range(len(classes))], (
            "fewer than five actions: all of them, each once"
        )
    answers = root / "labels" / "test-answers.csv"
    answers.write_text("201;Moving something, slowly\n200;Lifting something up\n")
    try:
        assert main(command) == 0
    finally:
        answers.unlink()
    report = json.loads((tmp_path / "evaluation-segments.json").read_text())
    assert report["actions"] == 2
    truth = {"201": "1", "200": "0"}
    right = sum(classes[0] == truth[video] for video, *classes in rows)
    assert report["subsets"]["detections"]["action"] == pytest.approx(right / 2), (
        "the file's first guesses are the report's"
    )


def test_boxes_alone_name_actions_and_run_on_the_robot(root: Path, tmp_path: Path) -> None:
    assert learn(root, tmp_path, "detections", 200)["detections"]["action"] == 1.0
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    robot = Recognizer(tmp_path / "bundle", providers="cpu")
    for index in range(FRAMES // 2):
        found = [[*np.array(box(2, index)) / [212, 120, 212, 120], 1, 1], [100.5 / 212, 0, 1, 0.5, 1, 0]]
        robot.push("detections", index * 10**9 // FPS, np.array(found[: 1 + index % 2], np.float32))
    said = robot.predict((FRAMES // 2 - 1) * 10**9 // FPS)
    assert said.actions[0].name == "Something falling like a rock"
