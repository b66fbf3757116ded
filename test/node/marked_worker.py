# SPDX-License-Identifier: Apache-2.0
"""A worker whose sensors send a pattern, until it is told on stdin to switch them off.

    marked_worker.py BUNDLE NUMBER [--encoding rgb8|bgr8|jpeg] [--flow computed|fields] [--rate HZ] [--stop]

Says on stdout what it has done, a word a line, so that another process can search its memory in between. The pattern is
twice `half` of the number in the second argument and kept nowhere else; a JPEG shows `picture` of it. All tokens of a
sensor that is switched off are three times that half, over and over.
"""

from __future__ import annotations

import argparse
import array
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from node.bench import Bench, settings
from node.harness import time_of
from sensor_msgs.msg import CompressedImage, Image

from karmma_msgs.msg import Audio
from karmma_ros import transport
from karmma_ros.recognizer import Recognizer

HEIGHT, WIDTH = 240, 320
AT_ONCE_S = 1.0  # within which nothing may be left of a sensor that is switched off
CHUNK_S = 0.24  # of sound; in whole repetitions of the pattern, which goes on from chunk to chunk


def half(number: int) -> np.ndarray:
    """(12,) float32: half of the pattern, which is 48 bytes that occur nowhere by chance: 16 pixels, or valid sound."""
    return np.random.default_rng(number).uniform(0.1, 0.4, 12).astype(np.float32)


def fill(values: array.array, number: int) -> None:
    """Repeats the pattern in a message's samples, without a copy of it anywhere else."""
    view = np.frombuffer(values, np.float32).reshape(-1, 12)
    np.multiply(half(number), np.float32(2), out=view)


def picture(number: int) -> np.ndarray:
    """A JPEG (n,) uint8 that is longer than a few pages, of blocks with some noise."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(50, 200, (HEIGHT // 16, WIDTH // 16, 3)).repeat(16, axis=0).repeat(16, axis=1)
    return cv2.imencode(".jpg", np.uint8(blocks + rng.integers(0, 50, blocks.shape)))[1]


def say(word: str) -> None:
    print(word, flush=True)


def wait_told() -> None:
    """Waits for a byte on stdin. Not through `sys.stdin`: its buffer would be a piece of memory with the pattern."""
    os.read(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("number", type=int)
    parser.add_argument("--encoding", default="rgb8")
    parser.add_argument("--flow", default="")
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--stop", action="store_true")
    given = parser.parse_args()
    transport.prepare()  # as the node: malloc then keeps large blocks that are freed
    common = {
        "flow_compute": given.flow == "computed",
        "flow_source": "independent",
        "image_transport": "compressed" if given.encoding == "jpeg" else "raw",
        # A pattern that is always the same would be found out, and erased too early.
        "occluded_enabled": False,
        "frozen_enabled": False,
        "stale_min_timeout": 60.0,  # nor that a machine that stumbles makes a sensor silent
        "garbage_enabled": False,
    }
    left_on = ("flow",) if given.flow != "fields" else ()
    bench = Bench(Recognizer(given.bundle), **common)
    go_on = threading.Event()
    encode = bench.recognizer.engine.encode

    def slow(modality: str, batch: np.ndarray) -> np.ndarray:
        if modality == "video" and holding.is_set():
            held.set()
            go_on.wait(60)
        tokens = encode(modality, batch)
        if modality not in left_on:
            np.multiply(half(given.number), np.float32(3), out=tokens.reshape(-1, 12))
        return tokens

    def forget() -> None:
        forget_content()
        forgotten.set()

    holding, held, forgotten = threading.Event(), threading.Event(), threading.Event()
    bench.recognizer.engine.encode = slow  # type: ignore[method-assign]
    forget_content = bench.worker._forget_content
    bench.worker._forget_content = forget  # type: ignore[method-assign]
    begin = time.time_ns() - 7_500_000_000  # chunks of sound are longer than the time between them
    for round_ in range(30):  # a second of sensors, and then messages that wait while the worker is busy
        if round_ == 25:
            holding.set()
        if round_ == 26:
            assert held.wait(60)
        stamp = time.time_ns()
        if given.encoding == "jpeg":
            image = CompressedImage(format="jpeg", data=array.array("B", picture(given.number).tobytes()))
        else:
            image = Image(height=HEIGHT, width=WIDTH, encoding=given.encoding, step=3 * WIDTH)
            image.data = array.array("B", bytes(3 * WIDTH * HEIGHT))
            fill(image.data, given.number)
        image.header.stamp = time_of(stamp)
        bench.worker.receive("video", image)
        if given.flow == "fields":
            field = Image(height=HEIGHT, width=WIDTH, encoding="32FC2", step=8 * WIDTH)
            field.data = array.array("B", bytes(8 * WIDTH * HEIGHT))
            fill(field.data, given.number)
            field.header.stamp = time_of(stamp)
            bench.worker.receive("flow", field)
            del field
        sound = Audio(sample_rate=given.rate, channels=1)
        sound.samples = array.array("f", bytes(4 * round(given.rate * CHUNK_S)))
        fill(sound.samples, given.number)
        sound.header.stamp = time_of(begin + round(round_ * CHUNK_S * 1e9))
        bench.worker.receive("audio", sound)
        del image, sound
        threading.Event().wait(0.034)
    say("sent")
    wait_told()
    if given.stop:
        go_on.set()
        bench.worker.stop()
    else:
        bench.worker.configure(settings(modalities=left_on, **common))
        go_on.set()
    forgotten.wait(AT_ONCE_S)
    say("off")
    wait_told()
    bench.worker.stop()


if __name__ == "__main__":
    main()
