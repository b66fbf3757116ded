# SPDX-License-Identifier: Apache-2.0
"""Video and sound files: real ones, encoded here, read back with their own timing."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from karmma_ros.errors import MediaError
from karmma_ros.media import VideoWriter, read_audio, read_video, write_wav

NS = 1_000_000_000


def picture(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """A smooth picture that differs from its neighbours: its left edge's red is 20 x number."""
    width, height = size
    rgb = np.full((height, width, 3), (40, 90, 160), np.uint8)
    rgb[:, : width // 2, 0] = 20 * (number % 12)
    return rgb


def encode(
    path: Path, stamps: list[int], time_base: Fraction, size: tuple[int, int] = (96, 64), **options: Any
) -> Path:
    """A video made with PyAV directly, not with our writer, so that one does not vouch for the other."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(options.get("codec", "libx264"), rate=options.get("rate", 30))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = options.get("gop", 250)
        if "turn" in options:
            stream.set_display_rotation(options["turn"])
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(options.get("picture", picture)(number, size), format="rgb24")
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tone(seconds: float, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_a_film_rate_of_23_976_keeps_its_stamps(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", [1001 * i for i in range(48)], Fraction(1, 24000), rate=Fraction(24000, 1001))
    with read_video(path) as video:
        stamps = [frame.stamp_ns for frame in video]
    assert video.rate == pytest.approx(23.976, abs=0.01)
    assert stamps == [round(Fraction(i * 1001, 24000) * NS) for i in range(48)]


def test_a_variable_frame_rate_keeps_its_stamps(tmp_path: Path) -> None:
    ticks = [0, 33, 100, 117, 400, 433, 1000]
    with read_video(encode(tmp_path / "phone.mkv", ticks, Fraction(1, 1000))) as video:
        assert [frame.stamp_ns for frame in video] == [tick * 1_000_000 for tick in ticks]


def test_frames_are_decoded_in_order_of_time_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "b_frames.mp4", list(range(12)), Fraction(1, 30))
    with av.open(str(path)) as container:
        decode_order = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert decode_order != sorted(decode_order), "this file was meant to have B-frames"
    with read_video(path) as video:
        reds = [int(frame.rgb[32, 8, 0]) for frame in video]
    assert reds == pytest.approx([20 * i for i in range(12)], abs=6)


def test_full_hd_at_50_frames_a_second(tmp_path: Path) -> None:
    path = encode(tmp_path / "hd.mp4", list(range(8)), Fraction(1, 50), (1920, 1080), rate=50)
    with read_video(path) as video:
        assert (video.width, video.height, video.rate) == (1920, 1080, 50.0)
        frames = list(video)
    assert [frame.stamp_ns for frame in frames] == [i * 20_000_000 for i in range(8)]
    assert frames[0].rgb.shape == (1080, 1920, 3)


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_a_video_that_was_filmed_on_its_side_is_shown_upright(tmp_path: Path, turn: int) -> None:
    def marked(number: int, size: tuple[int, int]) -> np.ndarray:
        rgb = np.zeros((size[1], size[0], 3), np.uint8)
        rgb[:24, :24] = 255  # the stored picture's top left
        return rgb

    path = encode(tmp_path / "side.mp4", [0, 1], Fraction(1, 30), turn=turn, picture=marked)
    with read_video(path) as video:
        rgb = next(iter(video)).rgb
    assert (video.width, video.height) == ((96, 64) if turn == 180 else (64, 96))
    # `turn` is counter-clockwise in ffmpeg's display matrix, which says how to turn the picture for showing it.
    row, column = {90: (-1, 0), -90: (0, -1), 180: (-1, -1)}[turn]
    assert rgb[row, column].min() > 200
    assert (rgb[0, 0].max(), rgb[-row - 1, -column - 1].max()) < (60, 60)


def test_decoding_is_lazy(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", list(range(90)), Fraction(1, 30), (640, 480))
    tracemalloc.start()
    with read_video(path) as video:
        count = sum(1 for _ in video)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 90
    assert peak < 10 * 640 * 480 * 3  # all of them would be nine times that


def test_a_reader_that_is_closed_early_ends(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", list(range(60)), Fraction(1, 30))
    with read_video(path) as video:
        frames = iter(video)
        assert next(frames).stamp_ns == 0
    assert list(frames) == []


def test_written_video_plays_everywhere_and_carries_sound(tmp_path: Path) -> None:
    path = tmp_path / "out" / "film.mp4"
    sound = tone(2.0)
    with VideoWriter(path, (97, 65), 25.0, sound=(16000, 1)) as writer:
        for i in range(50):
            writer.write(picture(i, (97, 65)), i * NS // 25)
            writer.write_sound(sound[i * 640 : (i + 1) * 640])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (98, 66)  # even, as H.264 wants it
    with read_video(path) as video:
        assert [frame.stamp_ns for frame in video] == [i * NS // 25 for i in range(50)]
    audio = read_audio(path)
    assert audio is not None
    with audio:
        heard = np.concatenate([chunk.samples for chunk in audio])[:, 0]
    assert (audio.rate, audio.channels) == (16000, 1)
    assert len(heard) == pytest.approx(32000, abs=2048)
    spectrum = np.abs(np.fft.rfft(heard[4000:20000]))
    assert int(spectrum.argmax()) == 440  # 16000 samples at 16 kHz: one bin a hertz


def test_lossless_video_is_bit_exact_and_the_same_every_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (49, 67, 3), np.uint8) for _ in range(9)]
    digests = set()
    for run in range(2):
        path = tmp_path / f"{run}.avi"
        with VideoWriter(path, (67, 49), 30.0, codec="lossless") as writer:
            for i, frame in enumerate(frames):
                writer.write(frame, round(i * NS / 30))
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    with read_video(path) as video:
        read = list(video)
    assert [frame.stamp_ns for frame in read] == [round(i * NS / 30) for i in range(9)]
    for frame, written in zip(read, frames, strict=True):
        np.testing.assert_array_equal(frame.rgb, written)


def test_a_video_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "half.mp4"
    path.write_bytes(b"what was there before")
    writer = VideoWriter(path, (96, 64), 30.0)

    def fail() -> None:
        with writer:
            writer.write(picture(0), 0)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert path.read_bytes() == b"what was there before"
    assert os.listdir(tmp_path) == ["half.mp4"]


def test_sound_of_every_sample_format(tmp_path: Path) -> None:
    sound = tone(0.5)
    write_wav(tmp_path / "16.wav", sound, 16000)
    with wave.open(str(tmp_path / "8.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(1)
        file.setframerate(16000)
        stereo = np.stack([sound, -sound], 1)
        file.writeframes(np.round(stereo * 127 + 128).astype(np.uint8).tobytes())
    for name, channels, error in (("16.wav", 1, 1 / 32768), ("8.wav", 2, 1 / 64)):
        audio = read_audio(tmp_path / name)
        assert audio is not None
        with audio:
            chunks = list(audio)
        assert (audio.rate, audio.channels) == (16000, channels)
        samples = np.concatenate([chunk.samples for chunk in chunks])
        assert samples.dtype == np.float32
        assert samples.shape == (8000, channels)
        np.testing.assert_allclose(samples[:, 0], sound, atol=error)
        starts = np.cumsum([0, *(len(chunk.samples) for chunk in chunks)])[:-1]
        assert [chunk.stamp_ns for chunk in chunks] == [round(int(n) * NS / 16000) for n in starts]


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    assert read_audio(encode(tmp_path / "mute.mp4", [0, 1], Fraction(1, 30))) is None


def test_bad_files_are_one_clear_line(tmp_path: Path) -> None:
    sound_only = tmp_path / "sound.wav"
    write_wav(sound_only, tone(0.1), 16000)
    whole = encode(tmp_path / "whole.mp4", list(range(20)), Fraction(1, 30)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index was at the end
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "empty.mp4").touch()
    cases = {
        "missing.mp4": "no such file",
        "": "folder",
        "text.mp4": "not a readable",
        "empty.mp4": "not a readable",
        "cut.mp4": "not a readable",
        "sound.wav": "no video",
    }
    for name, part in cases.items():
        with pytest.raises(MediaError, match=part) as caught:
            read_video(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


def test_damage_in_the_middle_costs_frames_but_not_the_rest(tmp_path: Path) -> None:
    path = encode(tmp_path / "scratched.ts", [3000 * i for i in range(60)], Fraction(1, 90000), gop=10)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    with read_video(path) as video:
        stamps = [frame.stamp_ns for frame in video]
    assert stamps == sorted(set(stamps))
    assert stamps[0] == 0  # though such a file's own time starts at 1.4 s
    assert stamps[-1] == round(59 * NS / 30)
    assert 40 <= len(stamps) <= 60


def test_frames_whose_stamps_begin_again_are_counted(tmp_path: Path) -> None:
    """As in two recordings written one after the other into one file."""
    parts = [encode(tmp_path / f"{i}.ts", list(range(30)), Fraction(1, 30)).read_bytes() for i in range(2)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    with read_video(tmp_path / "both.ts") as video:
        seen = len(list(video))
    assert seen + video.late == 60
    assert seen == 60 or video.late > 0


def test_a_file_that_cannot_be_read_to_its_end_says_so(tmp_path: Path) -> None:
    """A disk that fails: the demuxer gives packets, then an error, and as a generator nothing more."""
    path = encode(tmp_path / "a.mp4", list(range(30)), Fraction(1, 30))
    with read_video(path) as video:
        real = video._container

        class Failing:
            def demux(self, stream: Any) -> Any:
                for number, packet in enumerate(real.demux(stream)):
                    if number == 10:
                        raise av.error.OSError(5, "Input/output error")
                    yield packet

        video._container = Failing()  # type: ignore[assignment]
        video._first, video._frames = None, video._read()
        real.seek(0)
        seen = len(list(video))
        video._container = real
        assert 0 < seen < 30
        assert video.ended_early
