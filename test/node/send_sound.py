# SPDX-License-Identifier: Apache-2.0
"""Publishes a tone as one of the messages in audio_common_msgs, 50 chunks a second, until it is ended:
send_sound.py AudioStamped|AudioDataStamped [CODING_FORMAT]"""

import array
import sys
import time

import audio_common_msgs.msg as messages
import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data

RATE, SAMPLES = 16_000, 320
STEP_NS = SAMPLES * 10**9 // RATE


def main() -> None:
    kind, *rest = sys.argv[1:]
    rclpy.init()
    node = rclpy.create_node("driver")
    sounds = node.create_publisher(getattr(messages, kind), "audio", qos_profile_sensor_data)
    tone = np.round(8000 * np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)).astype("<i2")
    begun_ns, sent = time.time_ns(), 0
    if kind == "AudioDataStamped":
        coding = rest[0] if rest else "wave"
        infos = node.create_publisher(messages.AudioInfo, "audio_info", 1)
        info = messages.AudioInfo(channels=1, sample_rate=RATE, sample_format="S16LE", coding_format=coding)
        node.create_timer(0.5, lambda: infos.publish(info))

    def send() -> None:
        nonlocal sent
        while time.time_ns() - begun_ns >= (sent + 1) * STEP_NS:
            part = tone[sent * SAMPLES % len(tone) :][:SAMPLES]
            message = getattr(messages, kind)()
            if kind == "AudioStamped":
                message.audio.info = messages.AudioInfo(format=8, channels=1, rate=RATE, chunk=SAMPLES)
                message.audio.audio_data.int16_data = array.array("h", part.tobytes())
            else:
                message.audio.data = array.array("B", part.tobytes())
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(begun_ns + sent * STEP_NS, 10**9)
            sounds.publish(message)
            sent += 1

    node.create_timer(0.02, send)
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.5)


if __name__ == "__main__":
    main()
