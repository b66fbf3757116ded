# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures in docs/images that show what the code draws: the health plot, the overlays, the demo.

    scripts/run python scripts/pictures.py                # all of them: two minutes, of which the demo plays one
    scripts/run python scripts/pictures.py health overlay # some: health, overlay or demo

Scenes are rendered from fixed seeds and recognised by the shipped bundle. Latencies in the pictures are those of the
machine that made them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from karmma_msgs.msg import ActionPrediction, ModalityStatus, ScoredLabel
from karmma_ros.bags.reader import Bag
from karmma_ros.bags.replay import Answer, Replay
from karmma_ros.bags.session import AUDIO, CAMERA, INTERVALS, write_intervals
from karmma_ros.bags.topics import choose, origin_ns
from karmma_ros.bags.writer import BagWriter
from karmma_ros.cli.main import main as run_command
from karmma_ros.demo.script import sensor_script
from karmma_ros.flow import FlowProducer
from karmma_ros.health import SensorState
from karmma_ros.media import read_video
from karmma_ros.messages import stamp_to_msg
from karmma_ros.nodes.overlay_view import Viewer
from karmma_ros.overlay import draw
from karmma_ros.recognizer import Recognizer, Status
from karmma_ros.synthesis import Row
from karmma_ros.tabletop.failures import cover, silence
from karmma_ros.tabletop.sequence import SOUND_RATE, Sequence, make_sequence

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 150_000  # bytes of a JPEG
BUNDLE = "tabletop"

Image = npt.NDArray[np.uint8]
Span = tuple[float, float]  # [s] from the start

_NS = 1_000_000_000
_START_NS = 1_767_607_200 * _NS
_LAG_NS = 8_000_000  # from a frame's stamp until the recorder has it
_CHUNK = 1024  # samples of sound in a message
_NEVER: Span = (0.0, 0.0)

HEALTH_SEED, HEALTH_S = 3, 40.0
GONE, COVERED, MUTED = (8.0, 12.0), (18.0, 22.0), (28.0, 33.0)
# (width, height), seed, at which second, while the microphone is muted since
OVERLAYS: tuple[tuple[tuple[int, int], int, float, Span], ...] = (
    ((320, 240), 3, 4.0, _NEVER),
    ((1920, 1080), 5, 4.0, (2.0, 4.0)),
)
DEMO_S, DEMO_SEED = 60.0, 0  # as `make demo` has them
DEMO_AT_S = 6.0  # of each of its phases
DEMO_TILE = (480, 360)  # (width, height) of a frame in the picture


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the pictures in docs/images.")
    makers = {"health": health, "overlay": overlay, "demo": demo}
    parser.add_argument("which", nargs="*", metavar="WHICH", help=f"{', '.join(makers)}; none: all of them")
    wanted = parser.parse_args().which or list(makers)
    if unknown := set(wanted) - set(makers):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(makers)}")
    for which in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            makers[which](Path(scratch))
    return 0


def health(scratch: Path) -> None:
    """`karmma replay --truth` of a bag whose camera goes, comes back, is covered, and whose microphone is muted."""
    scene = make_sequence(HEALTH_SEED, "test", duration_s=HEALTH_S)
    name = "trouble"
    record(scratch / name, scene, gone=GONE, covered=COVERED, muted=MUTED)
    write_intervals(
        scratch / INTERVALS,
        [Row(name, "test", name, round(i.start_s, 6), round(i.stop_s, 6), i.verb, i.noun) for i in scene.intervals],
    )
    karmma("replay", scratch / name, "--truth", scratch / INTERVALS, "--no-overlay", "--out", scratch / "out")
    (IMAGES / "health.png").write_bytes((scratch / "out" / "health.png").read_bytes())


def overlay(scratch: Path) -> None:
    """What overlay_node makes of the last frame of a recording, in two sizes."""
    for (width, height), seed, at_s, muted in OVERLAYS:
        name = f"{width}x{height}"
        scene = make_sequence(seed, "test", duration_s=at_s, size=(width, height))
        record(scratch / name, scene, muted=muted)
        write_jpeg(IMAGES / f"overlay-{name}.jpg", last_overlay(scratch / name))


def demo(scratch: Path) -> None:
    """A frame of each phase but the last of the film that `make demo` makes, in two rows."""
    karmma("demo", "--no-view", "--seconds", str(DEMO_S), "--seed", str(DEMO_SEED), "--out", scratch)
    due_s = [phase.start_s + DEMO_AT_S for phase in sensor_script(DEMO_S, DEMO_SEED).phases[:-1]]
    tiles: list[Image] = []
    with read_video(scratch / "overlay.mp4") as film:
        for frame in film:
            if len(tiles) < len(due_s) and frame.stamp_ns >= due_s[len(tiles)] * _NS:
                tiles.append(np.asarray(cv2.resize(frame.rgb, DEMO_TILE, interpolation=cv2.INTER_AREA), np.uint8))
    middle = len(tiles) // 2
    write_jpeg(IMAGES / "demo.jpg", np.vstack([np.hstack(tiles[:middle]), np.hstack(tiles[middle:])]))


def record(path: Path, scene: Sequence, *, gone: Span = _NEVER, covered: Span = _NEVER, muted: Span = _NEVER) -> None:
    """A bag of the scene: without pictures while the camera is `gone`, with a hand before its lens while `covered`."""
    rng = np.random.default_rng(scene.seed)
    sound = np.array(scene.sound(), np.float32)
    first, end = (round(t_s * SOUND_RATE) for t_s in muted)
    sound[first:end] = silence("an open input", end - first, rng)
    heard = 0
    with BagWriter(path) as bag:
        for index in range(scene.n_frames):
            t_s = index / scene.fps
            stamp_ns = _START_NS + round(t_s * _NS)
            while heard + _CHUNK <= t_s * SOUND_RATE:
                chunk_ns = _START_NS + heard * _NS // SOUND_RATE
                bag.audio(AUDIO, chunk_ns, sound[heard : heard + _CHUNK], SOUND_RATE, log_ns=stamp_ns)
                heard += _CHUNK
            if not gone[0] <= t_s < gone[1]:
                hidden = covered[0] <= t_s < covered[1]
                rgb = cover("hand", scene.size, rng) if hidden else np.asarray(scene.frame(index), np.uint8)
                bag.jpeg(CAMERA, stamp_ns, rgb, log_ns=stamp_ns + _LAG_NS)


def last_overlay(path: Path) -> Image:
    """The bag's last frame as overlay_node shows it, with the time from frame to answer for the latency."""
    recognizer, viewer = Recognizer(BUNDLE), Viewer()
    producer = recognizer.bundle.modalities["flow"].producer
    assert producer is not None
    with Bag(path) as bag:
        sensors = choose(bag, {})
        replay = Replay(recognizer, bag, sensors, producer=FlowProducer(producer.size, producer.preset))
        for answer in replay.run(origin_ns=origin_ns(bag, sensors)[1]):
            message = to_message(answer)
            viewer.counted(message)
    assert answer.rgb is not None
    assert answer.fresh
    return draw(answer.rgb, viewer.view(message))


def to_message(answer: Answer) -> ActionPrediction:
    """What of an answer's message the overlay shows."""
    record = answer.record
    message = ActionPrediction(
        status=int(Status[record.status]),
        actions=[ScoredLabel(id=label.id, name=label.name, score=label.score) for label in record.actions],
        modalities=[
            ModalityStatus(name=name, state=int(SensorState[sensor.state])) for name, sensor in record.sensors.items()
        ],
        latency=answer.processing_s,
    )
    message.header.stamp = stamp_to_msg(record.stamp_ns)
    return message


def karmma(*arguments: str | Path) -> None:
    """Runs a `karmma` command. :raises SystemExit: it failed, and said why."""
    status = run_command([str(argument) for argument in arguments])
    if status:
        raise SystemExit(status)


def write_jpeg(path: Path, rgb: Image) -> None:
    """The picture in the best quality that keeps it below `LARGEST`."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    for quality in range(95, 50, -5):
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= LARGEST:
            break
    path.write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
