# SPDX-License-Identifier: Apache-2.0
"""Sound in the messages of other packages: heard as it is published, or what is said where it cannot be heard."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fixtures.audio_common_msgs import FAMILIES
from node.harness import Process, Received, node_and_robot, value
from node.send_sound import BEAT_NS, RATE, make_tone
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from toy_bundle import make_toy_bundle

from karmma_ros.errors import KarmmaError
from karmma_ros.nodes.audio_types import AUTO, choose_type, installed_types, unheard
from karmma_ros.recognizer import Recognizer

SENDER = Path(__file__).with_name("send_sound.py")
AUDIO, STAMPED, DATA_STAMPED = (
    "karmma_msgs/msg/Audio",
    "audio_common_msgs/msg/AudioStamped",
    "audio_common_msgs/msg/AudioDataStamped",
)
WINDOW_S = 0.5  # of the toy bundle that hears every format: the less, the sooner it is full of one
REACH_NS = round(WINDOW_S * 1e9) + 300_000_000  # [ns] that this window reaches back: slots, their delay and context
# Of each family: every format that is heard of it, as (format, channels).
FORMATS = {
    "AudioStamped": (("S16LE", 1), ("F32LE", 1), ("S32LE", 2), ("U8", 1), ("S8", 2)),
    "AudioDataStamped": (
        ("S16LE", 1), ("S16LE", 2), ("S16BE", 1), ("U16LE", 1), ("U16BE", 2), ("S32LE", 1), ("S32BE", 2), ("U32LE", 2),
        ("U32BE", 1), ("F32LE", 1), ("F32BE", 2), ("F64LE", 2), ("F64BE", 1), ("S8", 2), ("U8", 1),
    ),
}  # fmt: skip


@contextmanager
def driver(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[Process]:
    """Somebody else's microphone driver. It says that it goes: one that is killed seems to be there for 20 s more."""
    process = Process([sys.executable, str(SENDER), *arguments], environment, log)
    try:
        yield process
        assert process.end() == 0, process.output
    finally:
        process.popen.kill()


def said_of_the_tone(bundle: Path) -> dict[str, float]:
    """What the core says about the drivers' tone once the window is full of it, whenever that is."""
    recognizer = Recognizer(bundle)
    recognizer.push("audio", BEAT_NS, make_tone(3.0).astype(np.float32), RATE)
    prediction = recognizer.predict(BEAT_NS + 2_900_000_000)
    assert prediction.coverage == 1
    return {verb.name: verb.score for verb in prediction.verbs}


@pytest.mark.parametrize("message", FAMILIES)
def test_sound_of_another_package_is_heard_as_it_is_published_in_every_format(
    tmp_path: Path,
    ros_env: dict[str, str],
    audio_common_msgs: Callable[[str], dict[str, str]],
    message: str,
) -> None:
    environment = ros_env | audio_common_msgs(message)
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("audio",), window_s=WINDOW_S)
    expected = pytest.approx(said_of_the_tone(bundle), abs=2e-3)

    def choose(named: str, channels: int) -> None:
        """Has the driver go on in another format."""
        answer = client.set_parameters([Parameter("format", value=named), Parameter("channels", value=channels)])
        r.wait(f"the driver to take {named}", answer.done)
        assert all(result.successful for result in answer.result().results)

    def wait_tone(what: str) -> None:
        """Waits until the window is full of what the driver sends from now on."""
        full_ns = time.time_ns() + REACH_NS

        def full_of_it(p: Received) -> bool:
            heard = p.state("audio") == "OK" and p.modality("audio").coverage == 1
            return heard and p.stamp_ns > full_ns and p.scores() == expected

        r.wait_prediction(f"the tone in {what}", full_of_it)

    with node_and_robot(tmp_path / "log", environment, bundle=bundle) as (_, r):
        r.wait_prediction("a prediction", lambda p: True)
        r.node.destroy_publisher(r.sounds)
        client = AsyncParameterClient(r.node, "driver")
        with driver(tmp_path / "driver", environment, message):
            r.wait("the driver", client.services_are_ready)
            for named, channels in FORMATS[message]:
                choose(named, channels)
                wait_tone(f"{message}, {named}, channels: {channels}")
        # Ours comes last: the node goes back to it.
        with driver(tmp_path / "driver", environment, "Audio", "F32LE", "2"):
            wait_tone("Audio")
        r.wait_status("its type", "action_node: audio", lambda s: value(s, "type") == AUDIO)


def test_compressed_sound_is_refused_with_its_cause(
    tmp_path: Path, ros_env: dict[str, str], audio_common_msgs: Callable[[str], dict[str, str]]
) -> None:
    environment = ros_env | audio_common_msgs("AudioDataStamped")
    parameters = {"bundle": make_toy_bundle(tmp_path / "toy", modalities=("audio",)), "audio__type": DATA_STAMPED}
    with node_and_robot(tmp_path / "log", environment, **parameters) as (_, r):
        r.node.destroy_publisher(r.sounds)
        with driver(tmp_path / "driver", environment, "AudioDataStamped", "S16LE", "1", "mp3"):
            r.wait_status("the cause", "action_node: audio", lambda s: "audio is compressed" in s.message)
            r.wait_prediction("CORRUPT", lambda p: p.state("audio") == "CORRUPT")


def test_a_type_that_is_not_installed_fails_to_configure_with_one_line(tmp_path: Path, ros_env: dict[str, str]) -> None:
    parameters = {"bundle": make_toy_bundle(tmp_path / "toy"), "audio__type": STAMPED}
    with node_and_robot(tmp_path / "log", ros_env, **parameters) as (process, r):
        status = r.wait_status("an error", "action_node", lambda s: s.level == b"\x02")
        assert f"{STAMPED}, which is not installed" in status.message
        assert "Traceback" not in process.output


# --- telling apart, choosing ------------------------------------------------------------------------------------------


def package(**messages: dict[str, str]) -> ModuleType:
    """A fake audio_common_msgs.msg with messages of these fields."""
    module = ModuleType("audio_common_msgs.msg")
    for name, fields in messages.items():
        setattr(module, name, type(name, (), {"get_fields_and_field_types": classmethod(lambda cls, f=fields: f)}))
    return module


HEADER = {"header": "std_msgs/Header"}
MGONZS13 = {
    "AudioStamped": HEADER | {"audio": "audio_common_msgs/Audio"},
    "Audio": {"audio_data": "audio_common_msgs/AudioData", "info": "audio_common_msgs/AudioInfo"},
    "AudioData": {"int16_data": "sequence<int16>"},
    "AudioInfo": {"format": "int32", "channels": "int32", "rate": "int32", "chunk": "int32"},
}
ROS_DRIVERS = {
    "AudioDataStamped": HEADER | {"audio": "audio_common_msgs/AudioData"},
    "AudioData": {"data": "sequence<uint8>"},
    "AudioInfo": {
        "channels": "uint8", "sample_rate": "uint32", "sample_format": "string", "bitrate": "uint32",
        "coding_format": "string",
    },
}  # fmt: skip
# An early version of the first: a message of the second's name with other content.
EARLY = ROS_DRIVERS | {"AudioData": {"data": "sequence<uint16>"}, "AudioInfo": {"format": "int32"}}


@pytest.mark.parametrize(
    ("messages", "found"),
    [(MGONZS13, [AUDIO, STAMPED]), (ROS_DRIVERS, [AUDIO, DATA_STAMPED]), (EARLY, [AUDIO]), ({}, [AUDIO])],
    ids=["mgonzs13", "ros-drivers", "early mgonzs13", "something else"],
)
def test_the_installed_package_is_known_by_its_fields(
    monkeypatch: pytest.MonkeyPatch, messages: dict[str, dict[str, str]], found: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "audio_common_msgs", ModuleType("audio_common_msgs"))
    monkeypatch.setitem(sys.modules, "audio_common_msgs.msg", package(**messages))
    assert list(installed_types()) == found


def test_the_type_that_is_published_is_chosen_and_kept() -> None:
    installed = [AUDIO, STAMPED]
    assert choose_type(AUTO, AUDIO, [], installed) == AUDIO
    assert choose_type(AUTO, AUDIO, [STAMPED], installed) == STAMPED
    assert choose_type(AUTO, STAMPED, [AUDIO, STAMPED], installed) == STAMPED
    assert choose_type(AUTO, STAMPED, [], installed) == STAMPED
    assert choose_type(AUTO, AUDIO, [DATA_STAMPED], installed) == AUDIO
    assert choose_type(STAMPED, AUDIO, [AUDIO], installed) == STAMPED
    with pytest.raises(KarmmaError, match="not installed"):
        choose_type(DATA_STAMPED, AUDIO, [], installed)


@pytest.mark.parametrize(
    ("current", "offered", "said"),
    [
        (AUDIO, [], ""),
        (AUDIO, [AUDIO, STAMPED], ""),
        (AUDIO, [STAMPED], "set audio.type"),
        (AUDIO, [DATA_STAMPED], "install the audio_common_msgs"),
        (AUDIO, ["audio_common_msgs/msg/AudioData"], "remap audio to"),
        (AUDIO, ["std_msgs/msg/String"], "no known sound"),
    ],
)
def test_sound_that_is_not_heard_is_explained(current: str, offered: list[str], said: str) -> None:
    explanation = unheard("/audio", current, offered, [AUDIO, STAMPED])
    assert said in explanation
    assert bool(explanation) is bool(said)
