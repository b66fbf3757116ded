# SPDX-License-Identifier: Apache-2.0
"""Plays a tone into the virtual microphone, as a process of its own: play_tone.py HERTZ AMPLITUDE SECONDS [BEFORE_S]

Prints, once it is over, when the tone's first sample left the device [ns since the epoch], by PortAudio's DAC times.
"""

import statistics
import sys
import threading
import time

import numpy as np
import sounddevice

RATE = 16_000
BLOCK = 320


def main() -> None:
    hertz, amplitude, seconds, *rest = map(float, sys.argv[1:])
    before = round((rest[0] if rest else 0.5) * RATE)  # samples of silence
    count = round(seconds * RATE)
    tone = np.zeros(before + count + RATE // 2, np.float32)
    tone[before : before + count] = amplitude * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)
    begun_ns: list[float] = []  # when the first sample of all left, as each block has it
    over = threading.Event()
    position = 0

    def fill(out: np.ndarray, frames: int, times: object, flags: object) -> None:
        nonlocal position
        now_ns, stream_s = time.time_ns(), stream.time
        leaves_ns = now_ns + (times.outputBufferDacTime - stream_s) * 1e9
        begun_ns.append(leaves_ns - position * 1e9 / RATE)
        part = tone[position : position + frames]
        out[: len(part), 0] = part
        out[len(part) :, 0] = 0
        position += frames
        if position >= len(tone):
            over.set()

    stream = sounddevice.OutputStream(samplerate=RATE, channels=1, blocksize=BLOCK, dtype="float32", callback=fill)
    with stream:
        over.wait(seconds + 20)
    print(round(statistics.median(begun_ns)) + before * 10**9 // RATE)


if __name__ == "__main__":
    main()
