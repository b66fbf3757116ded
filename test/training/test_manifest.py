# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is in the files is what is in the store; faults are told all at once, with row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console

from karmma_ros.cli.main import main
from karmma_ros.errors import UsageError
from karmma_ros.flow import FlowProducer
from karmma_ros.media import VideoWriter, write_wav
from karmma_ros.samples import prepare_flow, prepare_image
from karmma_training.config import Config
from karmma_training.data.store import StoredRecording, StoreFormat
from karmma_training.datasets.manifest import ManifestSource
from karmma_training.datasets.source import open_recordings, open_source
from karmma_training.presets import preset

HEADER = "clip_id,split,video,flow,audio,start_s,stop_s,verb,noun\n"
FPS, FRAMES = 20, 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a lossless video, a flow file and a sound."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "frames.npy", rng.integers(0, 256, (FRAMES, 48, 64, 3), dtype=np.uint8))
    with VideoWriter(tmp_path / "a.avi", (64, 48), FPS, codec="lossless") as writer:
        for i, frame in enumerate(np.load(tmp_path / "frames.npy")):
            writer.write(frame, round(i * 1e9 / FPS))
    stamps = np.arange(1, FRAMES) * 10**9 // FPS
    np.savez(tmp_path / "a.npz", stamps_ns=stamps, flow=rng.normal(0, 0.3, (FRAMES - 1, 30, 40, 2)).astype(np.float16))
    sound = np.round(rng.uniform(-0.5, 0.5, 24000) * 32767) / 32768
    write_wav(tmp_path / "a.wav", sound.astype(np.float32), 16000)
    np.save(tmp_path / "sound.npy", sound.astype(np.float32))
    return tmp_path


def config_for(folder: Path, *rows: str) -> Config:
    (folder / "manifest.csv").write_text(HEADER + "".join(row + "\n" for row in rows))
    config = preset("tiny")
    config.data.source = str(folder)
    return config


def recordings(config: Config, folder: Path, split: str = "train") -> list[StoredRecording]:
    return open_recordings(open_source(config), split, folder / "store", workers=1, console=Console(quiet=True))


def test_samples_in_the_store_are_those_of_the_files(folder: Path) -> None:
    config = config_for(
        folder, "c1,train,a.avi,a.npz,a.wav,0.1,0.6,pour,mug", "c2,train,a.avi,a.npz,a.wav,0.8,1.4,stir,bowl"
    )
    (recording,) = recordings(config, folder)
    frames = np.load(folder / "frames.npy")
    size = (config.video.height, config.video.width)
    np.testing.assert_array_equal(recording.arrays["video"], [prepare_image(f, size) for f in frames])
    np.testing.assert_array_equal(recording.stamps["video"], np.arange(FRAMES) * 10**9 // FPS)
    with np.load(folder / "a.npz") as file:
        np.testing.assert_allclose(recording.arrays["flow"], file["flow"], atol=1e-3)
        np.testing.assert_array_equal(recording.stamps["flow"], file["stamps_ns"])
    np.testing.assert_allclose(recording.arrays["audio"], np.load(folder / "sound.npy"), atol=1 / 32000)
    labels = open_source(config).labels()
    k = recording.interval_at(np.array([0.05, 0.1, 0.59, 0.7, 0.8, 1.4]))
    assert k.tolist() == [-1, 0, 0, -1, 1, -1], "half-open, and nothing is known in between"
    assert [labels.heads["verb"][v] for v in recording.targets[:, 0]] == ["pour", "stir"]
    assert recording.labelled_s == pytest.approx(1.1)
    times = np.array([recording.time_at(share) for share in (0.0, 0.3, 0.4545, 0.4546, 1.0 - 1e-12)])
    assert recording.interval_at(np.round(times * 1e9) / 1e9).tolist() == [0, 0, 0, 1, 1]


def test_missing_flow_is_computed_and_missing_modalities_stay_missing(folder: Path) -> None:
    config = config_for(
        folder,
        "c1,train,a.avi,,,0.1,1,pour,mug",
        "c2,train,,a.npz,,0.1,1,pour,mug",
        "c3,train,,,a.wav,0.1,1,pour,mug",
    )
    video, flow, audio = recordings(config, folder)
    assert set(video.arrays) == {"video", "flow"}
    assert set(flow.arrays) == {"flow"}
    assert set(audio.arrays) == {"audio"}
    c = config.flow
    producer = FlowProducer((c.producer_width, c.producer_height), c.producer_preset)
    fields = [producer.push(round(i * 1e9 / FPS), f) for i, f in enumerate(np.load(folder / "frames.npy"))]
    wanted = np.stack([prepare_flow(f, (c.height, c.width)) for f in fields if f is not None]).astype(np.float16)
    np.testing.assert_array_equal(video.arrays["flow"], wanted)


def test_overlapping_intervals_become_recordings_of_their_own(folder: Path) -> None:
    config = config_for(
        folder,
        "c1,train,,,a.wav,0.1,1,pour,mug",
        "c2,train,,,a.wav,0.5,1.2,stir,mug",
        "c3,train,,,a.wav,1.0,1.4,pour,mug",
    )
    first, second = recordings(config, folder)
    assert (len(first.starts), len(second.starts)) == (2, 1)
    assert first.key == second.key, "decoded once"


def test_a_corrected_label_does_not_decode_the_file_again(folder: Path) -> None:
    (before,) = recordings(config_for(folder, "c1,train,a.avi,,,0,1,pour,mug"), folder)
    stamp = (folder / "store" / before.key / "meta.json").stat().st_mtime_ns
    (after,) = recordings(config_for(folder, "c1,train,a.avi,,,0.2,1,stir,mug"), folder)
    assert after.key == before.key
    assert (folder / "store" / after.key / "meta.json").stat().st_mtime_ns == stamp
    assert after.starts[0] == 0.2


def test_every_fault_is_told_with_row_and_column(folder: Path) -> None:
    config = config_for(
        folder,
        "c1,train,gone.mp4,,,0,1,pour,mug",
        "c2,holdout,a.avi,,,0,1,pour,mug",
        "c3,train,,,,0,1,pour,mug",
        "c4,train,a.avi,,,2,1,pour,",
        "c5,train,a.avi,,,x,1,pour,mug",
        f"c6,train,{'v' * 5000},,,0,1,pour,mug",
        "c7,train,a\0.avi,,,0,1,pour,mug",
    )
    with pytest.raises(UsageError) as error:
        open_source(config)
    text = str(error.value)
    for part in (
        "row 2, video: no file gone.mp4",
        "row 3, split: 'holdout'",
        "row 4, video: a clip needs",
        "row 5, stop_s: must be later",
        "row 5, noun: no label",
        "row 6, start_s: 'x' is not a time",
        "row 7, video: no file vvv",
        "row 8, video: no file a",
    ):
        assert part in text
    assert "\n" not in text


def test_files_that_cannot_be_read_are_all_named_before_training(folder: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "flow.npz").write_bytes(b"no flow")
    config = config_for(
        folder,
        "c1,train,broken.mp4,,,0,1,pour,mug",
        "c2,train,,flow.npz,,0,1,pour,mug",
        "c3,train,a.avi,,,0,1,pour,mug",
        "c4,train,,,a.avi,0,1,pour,mug",
    )
    with pytest.raises(UsageError) as error:
        recordings(config, folder)
    text = str(error.value)
    for part in ("row 2, video: ", "row 3, flow: ", "row 5, audio: ", "has no sound: leave the cell empty"):
        assert part in text
    assert "row 4" not in text
    assert "\n" not in text


def test_a_label_seen_only_in_validation_is_reported_and_left_out(folder: Path) -> None:
    config = config_for(
        folder,
        "c1,train,,,a.wav,0,1,idle,none",
        "c2,train,,,a.wav,1,1.2,cut,bread",
        "c3,val,,,a.wav,0,1,juggle,bread",
        "c4,val,,,a.wav,1,1.2,cut,bread",
    )
    source = ManifestSource(folder / "manifest.csv", StoreFormat.of(config))
    assert source.notes == ["verb never seen in training, its clips are left out: juggle"]
    labels = source.labels()
    assert labels.heads == {"verb": ("idle", "cut"), "noun": ("none", "bread")}
    assert [labels.action_name(i) for i in range(2)] == ["idle", "cut bread"]
    (recording,) = recordings(config, folder, "val")
    assert recording.starts.tolist() == [1.0]


def test_the_store_is_reused_and_made_anew_when_a_file_changes(folder: Path) -> None:
    config = config_for(folder, "c1,train,,,a.wav,0,1,pour,mug")
    recordings(config, folder)
    (meta,) = (folder / "store").rglob("meta.json")
    made = meta.stat().st_mtime_ns
    recordings(config, folder)
    assert meta.stat().st_mtime_ns == made
    write_wav(folder / "a.wav", np.zeros(20000, np.float32), 16000)
    (recording,) = recordings(config, folder)
    assert len(recording.arrays["audio"]) == 20000


def test_what_synth_writes_can_be_trained_on(tmp_path: Path) -> None:
    out = tmp_path / "synth"
    assert main(["synth", str(out), "--clips", "2", "--seed", "3", "--split-shares", "1", "0", "0"]) == 0
    config = preset("tiny")
    config.data.source = str(out)
    found = recordings(config, tmp_path)
    assert len(found) == 2
    for recording in found:
        assert set(recording.arrays) == {"video", "flow", "audio"}
        assert len(recording.arrays["flow"]) == len(recording.arrays["video"]) - 1
        assert abs(len(recording.arrays["audio"]) / 16000 - len(recording.arrays["video"]) / 30) < 0.05
        assert recording.labelled_s > 1
