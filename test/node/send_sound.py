# SPDX-License-Identifier: Apache-2.0
"""Publishes a tone, 50 chunks a second, until it is ended; of two channels the left one has it, twice as loud:
send_sound.py Audio|AudioStamped|AudioDataStamped [FORMAT [CHANNELS [CODING_FORMAT]]]

Audio is ours, of floats; the others are in audio_common_msgs. FORMAT is as GStreamer names them, such as S16LE. It and
CHANNELS are parameters too, `format` and `channels`: set anew, they hold after a moment of silence."""

import array
import importlib
import sys
import time
from contextlib import suppress

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data

RATE, SAMPLES = 16_000, 320
STEP_NS = SAMPLES * 10**9 // RATE
BEAT_NS = 100_000_000  # [ns] of whole periods: at multiples of it since the epoch the tone is always the same
DTYPES = {
    "U8": "u1", "S8": "i1", "S16LE": "<i2", "S16BE": ">i2", "U16LE": "<u2", "U16BE": ">u2", "S32LE": "<i4",
    "S32BE": ">i4", "U32LE": "<u4", "U32BE": ">u4", "F32LE": "<f4", "F32BE": ">f4", "F64LE": "<f8", "F64BE": ">f8",
}  # fmt: skip
# PortAudio's number, AudioData's field and array's type code
PORTAUDIO = {
    "F32LE": (1, "float32_data", "f"),
    "S32LE": (2, "int32_data", "i"),
    "S16LE": (8, "int16_data", "h"),
    "S8": (16, "int8_data", "b"),
    "U8": (32, "uint8_data", "B"),
}


def make_tone(seconds: float) -> np.ndarray:
    """float64 (n,) in [-1, 1], from such a multiple on."""
    return 0.25 * np.sin(2 * np.pi * 100 * np.arange(round(seconds * RATE)) / RATE)


def stored(samples: np.ndarray, dtype: str) -> bytes:
    """Samples in [-1, 1] as they are in a format."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return samples.astype(kind).tobytes()
    half = 2.0 ** (8 * kind.itemsize - 1)
    return np.round(samples * half + (half if kind.kind == "u" else 0)).astype(kind).tobytes()


def main() -> None:
    kind, *rest = sys.argv[1:]
    named, count, coding = *rest, *("S16LE", "1", "wave")[len(rest) :]
    channels = int(count)
    messages = importlib.import_module("karmma_msgs.msg" if kind == "Audio" else "audio_common_msgs.msg")
    rclpy.init()
    node = rclpy.create_node("driver")
    node.declare_parameters("", [("format", named), ("channels", channels)])
    sounds = node.create_publisher(getattr(messages, kind), "audio", qos_profile_sensor_data)
    mono = make_tone(10.0)
    tones = {1: mono, 2: np.stack([2 * mono, 0 * mono], axis=1)}
    begun_ns, sent = time.time_ns() // BEAT_NS * BEAT_NS, 0

    infos = node.create_publisher(messages.AudioInfo, "audio_info", 1) if kind == "AudioDataStamped" else None

    def inform() -> None:
        if infos is not None:
            fields = {"channels": channels, "sample_rate": RATE, "sample_format": named, "coding_format": coding}
            infos.publish(messages.AudioInfo(**fields))

    def send() -> None:
        nonlocal named, channels, begun_ns, sent
        wanted = tuple(parameter.value for parameter in node.get_parameters(["format", "channels"]))
        if wanted != (named, channels):
            named, channels = wanted
            begun_ns, sent = (time.time_ns() // BEAT_NS + 2) * BEAT_NS, 0
            inform()
        while time.time_ns() - begun_ns >= (sent + 1) * STEP_NS:
            data = stored(tones[channels][sent * SAMPLES % len(mono) :][:SAMPLES], DTYPES[named])
            message = getattr(messages, kind)()
            if kind == "Audio":
                message.sample_rate, message.channels = RATE, channels
                message.samples = array.array("f", data)
            elif kind == "AudioStamped":
                code, field, typecode = PORTAUDIO[named]
                message.audio.info = messages.AudioInfo(format=code, channels=channels, rate=RATE, chunk=SAMPLES)
                setattr(message.audio.audio_data, field, array.array(typecode, data))
            else:
                message.audio.data = array.array("B", data)
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(begun_ns + sent * STEP_NS, 10**9)
            sounds.publish(message)
            sent += 1

    node.create_timer(0.02, send)
    node.create_timer(0.5, inform)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
