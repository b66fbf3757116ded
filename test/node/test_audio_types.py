# SPDX-License-Identifier: Apache-2.0
"""Sound in the messages of other packages: heard as it is published, or what is said where it cannot be heard."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from fixtures.audio_common_msgs import FAMILIES
from node.harness import Process, Robot, node_and_robot, value
from toy_bundle import make_toy_bundle

from karmma_msgs.msg import Audio
from karmma_ros.errors import KarmmaError
from karmma_ros.nodes.audio_types import AUTO, choose_type, installed_types, unheard

SENDER = Path(__file__).with_name("send_sound.py")
AUDIO, STAMPED, DATA_STAMPED = (
    "karmma_msgs/msg/Audio",
    "audio_common_msgs/msg/AudioStamped",
    "audio_common_msgs/msg/AudioDataStamped",
)


@contextmanager
def driver(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[Process]:
    """Somebody else's microphone driver."""
    process = Process([sys.executable, str(SENDER), *arguments], environment, log)
    try:
        yield process
    finally:
        process.end(signal.SIGKILL)


def heard_type(r: Robot, wanted: str) -> None:
    r.wait_status(f"{wanted} heard", "action_node: audio", lambda s: s.level == b"\x00" and value(s, "type") == wanted)


@pytest.mark.parametrize("message", FAMILIES)
def test_sound_of_another_package_is_heard_as_soon_as_it_is_published(
    tmp_path: Path,
    ros_env: dict[str, str],
    audio_common_msgs: Callable[[str], dict[str, str]],
    message: str,
) -> None:
    environment = ros_env | audio_common_msgs(message)
    bundle = make_toy_bundle(tmp_path / "toy", modalities=("audio",))
    with node_and_robot(tmp_path / "log", environment, bundle=bundle) as (_, r):
        r.wait_prediction("a prediction", lambda p: True)
        r.node.destroy_publisher(r.sounds)
        with driver(tmp_path / "driver", environment, message):
            heard_type(r, f"audio_common_msgs/msg/{message}")
            r.wait_prediction("OK", lambda p: p.state("audio") == "OK" and p.modality("audio").coverage == 1)
        # Back to ours, when that is what is published.
        r.sounds = r.node.create_publisher(Audio, "audio", 50)
        r.wait_status("ours", "action_node: audio", lambda s: value(s, "type") == AUDIO)
        before = len(r.predictions)
        r.play(1.0, video=False, flow=False)
        r.wait("our sound", lambda: any(p.state("audio") == "OK" for p in r.predictions[before:]))


def test_compressed_sound_is_refused_with_its_cause(
    tmp_path: Path, ros_env: dict[str, str], audio_common_msgs: Callable[[str], dict[str, str]]
) -> None:
    environment = ros_env | audio_common_msgs("AudioDataStamped")
    parameters = {"bundle": make_toy_bundle(tmp_path / "toy", modalities=("audio",)), "audio__type": DATA_STAMPED}
    with node_and_robot(tmp_path / "log", environment, **parameters) as (_, r):
        r.node.destroy_publisher(r.sounds)
        with driver(tmp_path / "driver", environment, "AudioDataStamped", "mp3"):
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
