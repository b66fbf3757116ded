# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is in the files is what is in the store; faults are told all at once, with row and column."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from fractions import Fraction
from io import StringIO
from pathlib import Path

import av
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
from karmma_training.evaluation.evaluate import Logits, encode_recording
from karmma_training.evaluation.predictor import ModelPredictor
from karmma_training.networks.model import Student
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


def test_faults_of_rows_files_and_times_are_told_together(folder: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    rows = [
        "c1,train,broken.mp4,,,0,1,pour,mug",
        "c2,train,a.avi,,,0,1,pour,mug",
        "c3,train,,,a.avi,0,1,pour,mug",
        "c4,train,,,a.wav,900,901,pour,mug",
    ]
    with pytest.raises(UsageError) as error:
        recordings(config_for(folder, *rows), folder)
    text = str(error.value)
    for part in ("row 2, video: ", "row 4, audio: ", "has no sound", "row 5, start_s: 900 s, but its files end at"):
        assert part in text
    with pytest.raises(UsageError) as error:
        recordings(config_for(folder, "c0,train,a.avi,,,2,1,pour,", *rows), folder)
    text = str(error.value)
    for part in (
        "row 2, stop_s: must be later",
        "row 2, noun: no label",
        "row 3, video: ",
        "row 5, audio: ",
        "no sound",
    ):
        assert part in text
    assert "\n" not in text


def test_a_label_seen_only_in_validation_is_reported_and_left_out(folder: Path) -> None:
    config = config_for(
        folder,
        "c1,train,,,a.wav,0,1,idle,none",
        "c2,train,,,a.wav,1,1.2,cut,bread",
        "c3,val,,,a.wav,0,1,juggle,bread",
        "c4,val,,,a.wav,1,1.2,cut,bread",
        "c5,val,,,a.wav,1.2,1.4,cut,none",
    )
    source = ManifestSource(folder / "manifest.csv", StoreFormat.of(config))
    assert source.notes == [
        "verb never seen in training, its clips are left out: juggle",
        "action never seen in training, its clips count as wrong: cut none",
    ]
    said = StringIO()
    for _ in range(2):
        open_recordings(source, "val", folder / "store", workers=1, console=Console(file=said, width=200))
    assert said.getvalue().count("its clips are left out: juggle") == 1, "whichever split is opened first, once"
    labels = source.labels()
    assert labels.heads == {"verb": ("idle", "cut"), "noun": ("none", "bread")}
    assert [labels.action_name(i) for i in range(2)] == ["idle", "cut bread"]
    (recording,) = recordings(config, folder, "val")
    assert recording.starts.tolist() == [1.0, 1.2], "what is wrong in any case is counted, not left out"


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


def break_off_header(path: Path) -> None:
    """The flow's header begins a tuple that never ends."""
    header = b"{'descr': '<f2', ('".ljust(117) + b"\n"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(path.with_suffix(".new"), "w") as made:
        made.writestr("stamps_ns.npy", archive.read("stamps_ns.npy"))
        made.writestr("flow.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (break_off_header, "not a flow file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "not a flow file"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000] + b"x" + path.read_bytes()[3001:]), "not a flow file"),
        (lambda path: np.savez(path, stamps_ns=np.array([2, 1]), flow=np.zeros((2, 3, 4, 2))), "not ascending"),
    ],
    ids=["header", "cut short", "a byte changed", "stamps"],
)
def test_a_damaged_flow_file_is_named(folder: Path, spoil: Callable[[Path], object], fault: str) -> None:
    spoil(folder / "a.npz")
    config = config_for(folder, "c1,train,,a.npz,,0,1,pour,mug")
    with pytest.raises(UsageError, match=f"row 2, flow: .*{fault}"):
        recordings(config, folder)


def test_rows_beyond_the_end_of_their_files_are_told(folder: Path) -> None:
    late = config_for(
        folder, "c1,train,a.avi,,,0,1,pour,mug", "c2,train,a.avi,,,100,101,stir,mug", "c3,train,,,a.wav,2,3,stir,mug"
    )
    with pytest.raises(UsageError) as error:
        recordings(late, folder)
    for part in (
        "row 3, start_s: 100 s, but its files end at 1.45 s",
        "row 4, start_s: 2 s, but its files end at 1.50",
    ):
        assert part in str(error.value)
    assert "row 2" not in str(error.value)
    config = config_for(folder, "c1,train,a.avi,,,0,1.5,pour,mug", "c2,train,,,a.wav,0.5,60,pour,mug")
    source = open_source(config)
    seen, heard = open_recordings(source, "train", folder / "store", workers=1, console=Console(quiet=True))
    assert (seen.stops[0], heard.stops[0]) == (1.45, 1.5)
    assert source.notes == ["train: row 3 end where their files do, not at stop_s"]


def test_a_manifest_may_have_one_head(folder: Path) -> None:
    (folder / "manifest.csv").write_text(HEADER.replace("verb,noun", "action") + "c1,train,a.avi,,,0,1,wave\n")
    config = preset("tiny")
    config.data.source = str(folder)
    source = open_source(config)
    assert source.labels().heads == {"action": ("wave",)}
    (one,) = open_recordings(source, "train", folder / "store", workers=1, console=Console(quiet=True))
    assert one.targets.tolist() == [[0]]


def test_sound_of_any_rate_keeps_its_times(folder: Path) -> None:
    """48 kHz, stereo, in a file whose sound begins later than its picture."""
    loud = np.zeros((48_000, 2), np.float32)
    loud[24_000:24_480] = 0.8 * np.sin(np.arange(480) * 0.3)[:, np.newaxis]
    with VideoWriter(folder / "b.mp4", (64, 48), FPS, sound=(48_000, 2)) as writer:
        for i in range(FRAMES):
            writer.write(np.zeros((48, 64, 3), np.uint8), round(i * 1e9 / FPS))
        writer.write_sound(loud)
    with av.open(str(folder / "b.mp4")) as source, av.open(str(folder / "late.mkv"), "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                delay = round(0.4 / packet.time_base) if packet.stream.type == "audio" else 0
                packet.pts, packet.dts, packet.stream = packet.pts + delay, packet.dts + delay, streams[packet.stream]
                target.mux(packet)
    config = config_for(folder, "c1,train,late.mkv,,late.mkv,0,1,pour,mug")
    (one,) = recordings(config, folder)
    heard = one.pcm(0, round((one.sound_stop_ns - one.sound_start_ns) * one.rate / 1e9))
    middle = np.flatnonzero(np.abs(heard) > 0.3).mean() / one.rate + one.sound_start_ns / 1e9
    assert one.rate == 16_000
    assert middle == pytest.approx(0.4 + 0.505, abs=0.03)


@pytest.mark.parametrize(
    ("container", "picture", "fps", "sound", "rate"),
    [
        ("mp4", "libx264", Fraction(30000, 1001), "aac", 44_100),
        ("mkv", "libx265", Fraction(25), "flac", 96_000),
        ("webm", "libvpx-vp9", Fraction(24), "libopus", 48_000),
        ("ogv", "libvpx", Fraction(15), "libopus", 24_000),
        ("mkv", "mpeg4", Fraction(25, 2), "libmp3lame", 22_050),
        ("ts", "mpeg2video", Fraction(25), "mp2", 48_000),
        ("mov", "mjpeg", Fraction(60), "pcm_s16le", 8_000),
        ("mp4", "libsvtav1", Fraction(50), "aac", 16_000),
    ],
)
def test_flash_and_bang_of_any_codec_are_found_where_they_were(
    folder: Path, container: str, picture: str, fps: Fraction, sound: str, rate: int
) -> None:
    """Dark, then bright from 0.6 s on; the same of the sound."""
    path = folder / f"b.{container}"
    write_flash_and_bang(path, picture, fps, sound, rate)
    config = config_for(folder, f"c1,train,{path.name},,{path.name},0,1,pour,mug")
    (one,) = recordings(config, folder)
    pictures = one.read("video", np.arange(len(one.stamps["video"])))
    bright = pictures.mean((1, 2, 3)) > 128
    assert len(pictures) >= 1.1 * fps
    assert not bright[0]
    first = one.stamps["video"][np.argmax(bright)] / 1e9
    assert bright[np.argmax(bright) :].all()
    # time 0 is the start of the file, in a .ts the encoder's lead-in before the sound
    assert first == pytest.approx(np.ceil(0.6 * fps) / float(fps), abs=0.015)
    heard = np.abs(one.pcm(0, round((one.sound_stop_ns - one.sound_start_ns) * one.rate / 1e9)))
    assert one.rate == 16_000
    begin = np.argmax(heard > 0.2) / one.rate + one.sound_start_ns / 1e9
    assert begin == pytest.approx(0.6, abs=0.015)
    assert heard[: round((0.55 - one.sound_start_ns / 1e9) * one.rate)].max() < 0.05


def test_pictures_that_come_as_they_like_keep_their_times(folder: Path) -> None:
    """A variable frame rate, as phones and screen recorders write it."""
    times_ms = [0, 33, 66, 100, 350, 383, 700, 711, 950, 1200]
    with av.open(str(folder / "v.mkv"), "w") as file:
        video = file.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for i, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 22 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    (one,) = recordings(config_for(folder, "c1,train,v.mkv,,,0,1.3,pour,mug"), folder)
    np.testing.assert_allclose(one.stamps["video"] / 1e6, times_ms, atol=1.0)
    grey = one.read("video", np.arange(len(times_ms))).mean((1, 2, 3))
    np.testing.assert_allclose(grey, 20 + 22 * np.arange(len(times_ms)), atol=4)


def write_flash_and_bang(path: Path, picture: str, fps: Fraction, sound: str, rate: int) -> None:
    """1.2 s, encoded."""
    with av.open(str(path), "w") as file:
        video = file.add_stream(picture, rate=fps)
        video.width, video.height = 64, 48
        video.pix_fmt = "yuvj420p" if picture == "mjpeg" else "yuv420p"
        audio = file.add_stream(sound, rate=rate)
        audio.layout = "mono"
        for i in range(int(1.2 * fps)):
            value = 230 if i >= 0.6 * fps else 20
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, 1 / fps
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        t = np.arange(int(1.2 * rate)) / rate
        values = np.where(t >= 0.6, 0.5 * np.sin(2 * np.pi * 700 * t), 0).astype(np.float32)
        chunk = av.AudioFrame.from_ndarray(values[np.newaxis], format="fltp", layout="mono")
        chunk.rate, chunk.pts, chunk.time_base = rate, 0, Fraction(1, rate)
        queue = av.AudioFifo()
        resampler = av.AudioResampler(audio.codec_context.format, "mono", rate)
        for part in [*resampler.resample(chunk), *resampler.resample(None)]:
            queue.write(part)
        size = audio.codec_context.frame_size or 1024
        while part := queue.read(size) or queue.read():
            file.mux(audio.encode(part))
        file.mux(audio.encode(None))


def test_the_faults_of_both_splits_are_told_before_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    config_for(folder, "c1,train,broken.mp4,,,0,1,pour,mug", "c2,val,a.avi,,,7,8,pour,mug")
    command = ["train", "--preset", "tiny", "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main([*command, "--store", str(folder / "store"), "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert "row 2, video: " in said
    assert "row 3, start_s: 7 s" in said
    assert not (tmp_path / "run").exists()


def test_clips_shorter_than_the_steps_of_validation_are_asked_about_once(folder: Path) -> None:
    config = config_for(folder, "c1,train,a.avi,,,0,0.3,pour,mug", "c2,train,a.avi,,a.wav,0.9,1.0,pour,mug")
    source = open_source(config)
    found = open_recordings(source, "train", folder / "store", workers=1, console=Console(quiet=True))
    student = Student(config, source.labels().sizes())
    predictor = ModelPredictor(student.eval(), source.labels())
    for recording in found:
        times = encode_recording(predictor, recording, every=40).times_ns / 1e9
        assert len(times) == 1
        assert recording.starts[0] <= times[0] < recording.stops[0]
    with pytest.raises(UsageError, match="not a single frame of these recordings has a label"):
        Logits().arrays()


def test_what_is_heard_when_the_camera_has_ended_is_asked_about_too(folder: Path) -> None:
    write_wav(folder / "long.wav", np.zeros(16000 * 5, np.float32), 16000)
    config = config_for(folder, "c1,train,a.avi,,long.wav,0,4,pour,mug")
    source = open_source(config)
    (recording,) = open_recordings(source, "train", folder / "store", workers=1, console=Console(quiet=True))
    student = Student(config, source.labels().sizes())
    times_s = encode_recording(ModelPredictor(student.eval(), source.labels()), recording, every=1).times_ns / 1e9
    assert times_s[0] == 0
    assert (np.diff(times_s) > 0).all()
    assert 3.9 < times_s[-1] < 4.0
