# SPDX-License-Identifier: Apache-2.0
"""A sensor that is switched off leaves nothing behind: the process's own memory is searched for what it sent.

Most cases search a worker's process, whose messages come from within it: so that some wait and one is in work in the
moment when their sensor is switched off, and nothing but our own code has held them. One case searches a running node.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from node.harness import PATIENCE_S, jpeg, node_and_robot
from node.marked_worker import AT_ONCE_S, HEIGHT, WIDTH, half, picture
from toy_bundle import make_toy_bundle

from karmma_ros.content import probe
from karmma_ros.decode import compressed_to_rgb, scale_flow
from karmma_ros.recognizer import Recognizer
from karmma_ros.resample import Resampler
from karmma_ros.samples import prepare_image

NUMBER = 20_240_817


def memory(pid: int, *, shared: bool = False) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every piece of writable memory that a process has for itself, or shares with others."""
    access = "rw.s" if shared else "rw.p"
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as content:
        for line in maps:
            match = re.match(rf"([0-9a-f]+)-([0-9a-f]+) {access} \S+ \S+ \S+ *(\S*)", line)
            if match is None or match[3].startswith("[v"):
                continue
            begin, end = int(match[1], 16), int(match[2], 16)
            content.seek(begin)
            with suppress(OSError):  # gone meanwhile
                yield match[3], content.read(end - begin)


def occurrences(pid: int, markers: Mapping[str, bytes]) -> Counter[str]:
    """How often each of the markers is in the memory that a process has for itself."""
    found = Counter(dict.fromkeys(markers, 0))
    for _, content in memory(pid):
        found.update({name: content.count(marker) for name, marker in markers.items()})
    return found


LENGTH = 8256  # bytes: just more than two pages, see karmma_ros/memory.py
DIM = 48  # of a token, so that those of a second are longer than that
SENT = np.tile(2 * half(NUMBER), 30_000)  # the pattern, for longer than anything below looks at
TOKENS = np.tile(3 * half(NUMBER), 1000)
COMPRESSED = picture(NUMBER)


def part(values: np.ndarray) -> bytes:
    """The middle of an array, no longer than what has to be gone."""
    content = values.tobytes()
    begin = (len(content) - LENGTH) // 2
    return content[begin : begin + LENGTH]


def frame(kind: type) -> np.ndarray:
    """The pattern as pixels, or as a flow field in pixels."""
    channels = {np.uint8: 3, np.float32: 2}[kind]
    return SENT.view(kind)[: HEIGHT * WIDTH * channels].reshape(HEIGHT, WIDTH, channels)


def markers(encoding: str = "rgb8", flow: str = "", rate: int = 16_000) -> dict[str, bytes]:
    """What is searched for: what was sent, and what a sensor's samples become on their way."""
    found = {"sent": part(SENT), "tokens": TOKENS.tobytes()[:LENGTH]}
    rgb = frame(np.uint8)
    if encoding == "bgr8":
        found["decoded"] = part(rgb := rgb[..., ::-1])
    if encoding == "jpeg":
        found["compressed"] = part(COMPRESSED)
        found["decoded"] = part(rgb := compressed_to_rgb(SimpleNamespace(format="jpeg", data=COMPRESSED)))
    found["probe of the camera's gate"] = part(probe(rgb))
    if flow == "fields":
        field = scale_flow(frame(np.float32), "pixels_per_second")
        found["scaled"], found["probe of the flow's gate"] = part(field), part(probe(field))
    if rate != 16_000:
        found["resampled"] = part(Resampler(rate, 16_000).process(SENT))
    return found


CASES: dict[str, dict[str, Any]] = {
    "rgb8": {},
    "bgr8": {"encoding": "bgr8"},
    "jpeg, sound at 44.1 kHz": {"encoding": "jpeg", "rate": 44_100},
    "flow computed inside": {"flow": "computed"},
    "flow fields": {"flow": "fields"},
}


@pytest.mark.parametrize(
    ("case", "clip", "how"),
    [
        *[(case, 1, "switched off") for case in CASES],
        ("rgb8", 4, "switched off"),
        ("flow fields", 4, "switched off"),
        ("flow fields", 4, "stopped"),
    ],
)
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_nothing_that_sensors_sent_stays_when_they_are_switched_off_or_the_node_is(
    tmp_path: Path, case: str, clip: int, how: str
) -> None:
    script = Path(__file__).with_name("marked_worker.py")
    size = (HEIGHT, WIDTH) if clip > 1 else (24, 32)  # images of the network's own size would be kept as they are
    bundle = make_toy_bundle(tmp_path / "toy", clip=clip, size=size, dim=DIM)
    searched = markers(**CASES[case])
    options = [f"--{name}={value}" for name, value in CASES[case].items()] + ["--stop"] * (how == "stopped")
    with subprocess.Popen(
        [sys.executable, str(script), str(bundle), str(NUMBER), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "sent\n"
            before = occurrences(child.pid, searched)
            assert all(before.values()), f"what is held, what waits and what is under way: {before}"
            child.stdin.write(".")
            child.stdin.flush()
            assert child.stdout.readline() == "off\n"
            assert occurrences(child.pid, searched) == dict.fromkeys(searched, 0), f"{AT_ONCE_S} s later at most"
            child.stdin.write(".")
            child.stdin.flush()
            assert child.wait(PATIENCE_S) == 0
        finally:
            child.kill()


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_nothing_that_a_camera_sent_over_dds_stays_in_the_node_when_it_is_switched_off(
    tmp_path: Path, ros_env: dict[str, str], transport: str
) -> None:
    """But for the sender's own memory, which Fast DDS maps into the processes of those who hear it."""
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("video",), dim=DIM)
    sent, rgb = SENT.tobytes(), frame(np.uint8)
    searched = {}
    if transport == "compressed":
        sent = jpeg(rgb)
        rgb = compressed_to_rgb(SimpleNamespace(format="jpeg", data=np.frombuffer(sent, np.uint8)))
        searched["decoded"] = part(rgb)
    token = Recognizer(bundle).engine.encode("video", prepare_image(rgb, (24, 32))[np.newaxis, np.newaxis])
    searched |= {
        "sent": part(np.frombuffer(sent, np.uint8)),
        "probe of the camera's gate": part(probe(rgb)),
        "tokens": np.tile(token.ravel(), 100).tobytes()[:LENGTH],
    }
    # A pattern that is always the same would be found out, and erased too early.
    settings = {"image__transport": transport, "occluded__enabled": False, "frozen__enabled": False}
    with node_and_robot(tmp_path / "log", ros_env, compressed=transport == "compressed", bundle=bundle, **settings) as (
        process,
        r,
    ):
        pid = process.popen.pid
        r.wait_matched(r.images)
        r.play(2.0, flow=False, audio=False, pictures=lambda _: frame(np.uint8))
        before = occurrences(pid, searched)
        assert all(before.values()), f"what is held, and what it came from: {before}"
        assert r.set_parameter("modalities", ["flow"]) == (True, "")
        told_s = time.monotonic()
        while any((left := occurrences(pid, searched)).values()):
            assert time.monotonic() < told_s + AT_ONCE_S, left
        elsewhere = {path for path, content in memory(pid, shared=True) if searched["sent"] in content}
        assert all(path.startswith("/dev/shm/fastrtps_") for path in elsewhere)
