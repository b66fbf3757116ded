# SPDX-License-Identifier: Apache-2.0
"""The sensors of the measurement over DDS: a process that publishes camera, flow and sound at a fixed rate.

    python -m karmma_benchmarks.dds_camera WIDTH HEIGHT FPS ENCODING SECONDS BUNDLE

ENCODING: rgb8 or jpeg. It says `waiting`, publishes once somebody subscribes to all topics that the bundle needs, and
prints as JSON the stamps of its frames [ns], each taken when the image was handed to ROS, how long ROS took it [s], and
by how much it was late at most [s], but for the first tenth. It ends after a line on its standard input.
"""

from __future__ import annotations

import array
import json
import sys
import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from karmma_benchmarks.dds import jpeg_of
from karmma_benchmarks.feed import Feed
from karmma_msgs.msg import Audio
from karmma_ros import transport
from karmma_ros.bundle import load_bundle
from karmma_ros.demo.sensors import set_header
from karmma_ros.messages import flow_to_msg, image_to_msg


def main() -> int:
    """The process."""
    width, height, fps = (int(text) for text in sys.argv[1:4])
    encoding, seconds, bundle = sys.argv[4], float(sys.argv[5]), sys.argv[6]
    transport.prepare()
    loaded = load_bundle(bundle)
    feed = Feed(loaded, seconds=1.0, size=(width, height))
    rclpy.init()
    node = rclpy.create_node("bench_sensors")
    best_effort = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
    jpeg = encoding == "jpeg"
    camera = node.create_publisher(
        CompressedImage if jpeg else Image, "image/compressed" if jpeg else "image", best_effort
    )
    flow = node.create_publisher(Image, "flow", best_effort)
    sound = node.create_publisher(Audio, "audio", QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT))
    images = [_compressed(frame) if jpeg else image_to_msg(0, "camera", frame) for frame in feed.frames]
    fields = [flow_to_msg(0, "camera", field) for field in feed.flows if field is not None]
    chunk = feed.rate // fps
    chunks = [
        array.array("f", np.take(feed.sound, np.arange(i * chunk, (i + 1) * chunk), mode="wrap").tobytes())
        for i in range(fps)
    ]
    print("waiting", flush=True)
    topics = {"video": camera, "flow": flow, "audio": sound}
    needed = [topic for modality, topic in topics.items() if modality in loaded.modalities]
    while not all(topic.get_subscription_count() for topic in needed):
        time.sleep(0.01)
    stamps: list[int] = []
    took: list[float] = []
    late: list[float] = []
    begun = time.monotonic()
    for index in range(round(seconds * fps)):
        time.sleep(max(0.0, begun + index / fps - time.monotonic()))
        late.append(time.monotonic() - begun - index / fps)
        stamp = time.time_ns()
        audio = Audio(sample_rate=feed.rate, channels=1, samples=chunks[index % len(chunks)])
        set_header(audio.header, stamp - 10**9 * chunk // feed.rate, "microphone")
        sound.publish(audio)
        field = fields[index % len(fields)]
        set_header(field.header, stamp, "camera")
        flow.publish(field)
        image = images[index % len(images)]
        stamp = time.time_ns()
        set_header(image.header, stamp, "camera")
        camera.publish(image)
        took.append((time.time_ns() - stamp) * 1e-9)
        stamps.append(stamp)
    print(json.dumps({"stamps": stamps, "took_s": took, "late_s": max(late[len(late) // 10 :])}), flush=True)
    sys.stdin.readline()  # the last images are still to be fetched from our memory
    return 0


def _compressed(rgb: np.ndarray) -> CompressedImage:
    fields = jpeg_of(rgb)
    return CompressedImage(format=fields.format, data=array.array("B", fields.data))


if __name__ == "__main__":
    sys.exit(main())
