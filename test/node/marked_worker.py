# SPDX-License-Identifier: Apache-2.0
"""A worker whose sensors send a pattern, until it is told on stdin to switch them off.

    marked_worker.py BUNDLE NUMBER ENCODING [flow]

Says on stdout what it has done, a word a line, so that another process can search its memory in between. The pattern is
twice `half` of the number in the second argument and kept nowhere else.
"""

from __future__ import annotations

import array
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from node.bench import Bench, settings
from node.harness import time_of
from sensor_msgs.msg import Image

from karmma_msgs.msg import Audio
from karmma_ros.recognizer import Recognizer


def half(number: int) -> np.ndarray:
    """(12,) float32: half of the pattern, which is 48 bytes that occur nowhere by chance: 16 pixels, or valid sound."""
    return np.random.default_rng(number).uniform(0.1, 0.4, 12).astype(np.float32)


def fill(values: array.array, number: int) -> None:
    """Repeats the pattern in a message's samples, without a copy of it anywhere else."""
    view = np.frombuffer(values, np.float32).reshape(-1, 12)
    np.multiply(half(number), np.float32(2), out=view)


def say(word: str) -> None:
    print(word, flush=True)


def main() -> None:
    number = int(sys.argv[2])
    inside = sys.argv[4:] == ["flow"]
    bench = Bench(Recognizer(sys.argv[1]), flow_compute=inside)
    go_on = threading.Event()
    predict = bench.recognizer.predict

    def slow(t_ns: int):  # type: ignore[no-untyped-def]
        if not go_on.is_set() and holding.is_set():
            held.set()
            go_on.wait(60)
        return predict(t_ns)

    holding, held = threading.Event(), threading.Event()
    bench.recognizer.predict = slow  # type: ignore[method-assign]
    for round_ in range(30):  # a second of sensors, and then messages that wait while the worker is busy
        if round_ == 25:
            holding.set()
            held.wait(60)
        stamp = time.time_ns()
        image = Image(height=240, width=320, encoding=sys.argv[3], step=960)
        image.data = array.array("B", bytes(240 * 960))
        fill(image.data, number)
        image.header.stamp = time_of(stamp)
        bench.worker.receive("video", image)
        sound = Audio(sample_rate=16_000, channels=1)
        sound.samples = array.array("f", bytes(4 * 8160))
        fill(sound.samples, number)
        sound.header.stamp = time_of(stamp - 510_000_000)
        bench.worker.receive("audio", sound)
        del image, sound
        threading.Event().wait(0.034)
    say("sent")
    sys.stdin.readline()
    bench.worker.configure(settings(modalities=("flow",), flow_compute=inside))
    go_on.set()
    say("off")
    sys.stdin.readline()
    bench.worker.stop()


if __name__ == "__main__":
    main()
