# SPDX-License-Identifier: Apache-2.0
"""Single frames of a video file are those that decoding all of it gives, whatever the codec and the order asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from karmma_ros.errors import MediaError
from karmma_ros.media import read_video
from karmma_training.data.video_frames import index_video, read_frames

COUNT = 90


def numbered(index: int) -> np.ndarray:
    """A picture that says its number in eight stripes, black or white."""
    bits = [(index >> bit) & 1 for bit in range(8)]
    return np.repeat(np.repeat(np.array(bits, np.uint8) * 200 + 20, 8)[None, :, None], 48, 0).repeat(3, 2)


def number_of(image: np.ndarray) -> int:
    return sum(int(image[24, 8 * bit + 4, 1] > 110) << bit for bit in range(8))


def encode(path: Path, codec: str, options: dict[str, str], stamps: list[int]) -> Path:
    """Frames at `stamps`, in ms."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


EVEN = [round(i * 1000 / 30) for i in range(COUNT)]
UNEVEN = [stamp + (i % 7) * 3 for i, stamp in enumerate(EVEN)]
FILES = {
    "h264": ("a.mp4", "libx264", {"g": "12", "bf": "3"}, EVEN),
    "h264 open groups": ("b.mp4", "libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}, EVEN),
    "h264 one group": ("c.mp4", "libx264", {"g": "1000", "bf": "2", "b-pyramid": "normal"}, EVEN),
    "h264 uneven": ("d.mkv", "libx264", {"g": "25"}, UNEVEN),
    "vp9": ("e.webm", "libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16"}, EVEN),
    "mpeg4": ("f.mp4", "mpeg4", {"g": "10", "bf": "2"}, EVEN),
}


@pytest.fixture(params=list(FILES))
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, codec, options, stamps = FILES[request.param]
    return encode(tmp_path / name, codec, options, stamps)


def test_frames_are_those_of_the_whole_file(video: Path) -> None:
    with read_video(video) as reader:
        everything = list(reader)
    index = index_video(video)
    assert len(everything) == len(index.pts) == COUNT
    assert index.stamps_ns.tolist() == [frame.stamp_ns for frame in everything]
    assert [number_of(frame.rgb) for frame in everything] == list(range(COUNT))
    for which in ([0], [COUNT - 1], [40, 41, 42], [80, 3, 3, 55], list(range(5, 90, 4)), list(range(COUNT))):
        found = read_frames(video, index, np.array(which))
        assert {k: number_of(image) for k, image in found.items()} == {k: k for k in which}
        for k, image in found.items():
            np.testing.assert_array_equal(image, everything[k].rgb)


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mkv", "libx264", {"g": "12"}, EVEN)
    index = index_video(whole)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    found = read_frames(whole, index, np.arange(COUNT))
    assert 20 < len(found) < 70
    assert all(number_of(image) == k for k, image in found.items())
    assert 20 < len(index_video(whole).pts) < 70


def test_what_is_no_video_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(MediaError, match=r"a\.mp4: not a readable video"):
        index_video(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="no such file"):
        index_video(tmp_path / "b.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_that_nothing_refers_to_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One frame at the end of a group of 30: most of those before it are of no use to it."""
    from karmma_training.data import video_frames

    path = encode(tmp_path / name, "libx264", {"g": "30", "bf": "2", "b_strategy": "0"}, EVEN)
    index = index_video(path)
    decoded: list[object] = []
    real = video_frames._decoded

    def counting(packet: object, stream: object = None) -> list[object]:
        frames = real(packet, stream)
        decoded.extend(frames)
        return frames

    monkeypatch.setattr(video_frames, "_decoded", counting)
    assert list(read_frames(path, index, np.array([58]))) == [58]
    assert len(decoded) < 10
