# SPDX-License-Identifier: Apache-2.0
"""Bags with the sound of other packages: the same sound, the same predictions."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
import pytest
from bag_helpers import NS, START_NS, Recording, everything, frame_stamps
from fixtures.audio_common_msgs import FAMILIES, NAME
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from karmma_ros.bags.reader import Bag, default_types
from karmma_ros.bags.sound import SoundDecoder
from karmma_ros.errors import SampleError
from karmma_ros.media import read_audio

RATE, CHUNK = 16_000, 1600
AUDIO = "karmma_msgs/msg/Audio"


def write(path: Path, family: str, *, told: bool = True, coding: str = "wave") -> Path:
    """Camera and two channels of 16-bit sound of one of the families. `told`: with the AudioInfo that some need."""
    pictures = Recording().camera(frame_stamps(2.0)).write(path.with_name(f"{path.name}-pictures"))
    types = default_types()
    for name, definition in FAMILIES.get(family, {}).items():
        types.register(get_types_from_msg(definition, f"{NAME}/msg/{name}"))
    kind = AUDIO if family == AUDIO else f"{NAME}/msg/{family}"
    tone = np.round(Recording.tone(2.0) * 32767).astype(np.int16)
    stereo = np.stack([tone, tone // 2], axis=1)

    def made(name: str, **fields: Any) -> Any:
        return types.types[f"{NAME}/msg/{name}"](**fields)

    def sound(header: Any, values: np.ndarray) -> Any:
        flat = values.ravel()
        if family == AUDIO:
            scaled = (flat / 32768).astype(np.float32)
            return types.types[AUDIO](header=header, sample_rate=RATE, channels=2, samples=scaled)
        if family == "AudioStamped":
            none = {f"{other}_data": np.empty(0, other) for other in ("float32", "int32", "int8", "uint8")}
            info = made("AudioInfo", format=8, channels=2, rate=RATE, chunk=CHUNK)
            return made(
                family,
                header=header,
                audio=made("Audio", audio_data=made("AudioData", int16_data=flat, **none), info=info),
            )
        return made(family, header=header, audio=made("AudioData", data=flat.astype("<i2").view(np.uint8)))

    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    with writer, Bag(pictures) as bag:
        topics = {name: writer.add_connection(name, topic.type, typestore=types) for name, topic in bag.topics.items()}
        heard = writer.add_connection("/mic/audio", kind, typestore=types)
        events = [(m.log_ns, topics[m.topic.name], m.cdr) for m in bag.messages(list(topics))]
        for begin in range(0, len(stereo) - CHUNK + 1, CHUNK):
            stamp = START_NS + begin * NS // RATE
            time = types.types["builtin_interfaces/msg/Time"](sec=stamp // NS, nanosec=stamp % NS)
            header = types.types["std_msgs/msg/Header"](stamp=time, frame_id="microphone")
            message = types.serialize_cdr(sound(header, stereo[begin : begin + CHUNK]), kind)
            events.append((stamp + NS // 10, heard, bytes(message)))
        if told and family == "AudioDataStamped":
            format_ = {
                "channels": 2,
                "sample_rate": RATE,
                "sample_format": "S16LE",
                "bitrate": 0,
                "coding_format": coding,
            }
            for space, info in (("/other", format_ | {"channels": 1}), ("/mic", format_)):
                told_by = writer.add_connection(f"{space}/audio_info", f"{NAME}/msg/AudioInfo", typestore=types)
                cdr = types.serialize_cdr(made("AudioInfo", **info), f"{NAME}/msg/AudioInfo")
                events.append(
                    (START_NS + NS, told_by, bytes(cdr))
                )  # after the first sound: it is repeated now and then
        for log_ns, connection, cdr in sorted(events, key=lambda event: event[0]):
            writer.write(connection, log_ns, cdr)
    return path


def predictions(karmma: Any, bundle: Path, bag: Path, out: Path) -> bytes:
    result = karmma("replay", bag, "--bundle", bundle, "--out", out)
    assert result.status == 0, result.err
    return (out / "predictions.jsonl").read_bytes()


@pytest.mark.parametrize("family", ["AudioStamped", "AudioDataStamped"])
def test_the_same_sound_gives_the_same_predictions(karmma: Any, bundle: Path, tmp_path: Path, family: str) -> None:
    ours = predictions(karmma, bundle, write(tmp_path / "ours", AUDIO), tmp_path / "a")
    theirs = predictions(karmma, bundle, write(tmp_path / "theirs", family), tmp_path / "b")
    assert theirs == ours
    assert json.loads(theirs.splitlines()[-1])["sensors"]["audio"]["coverage"] > 0.8
    film = read_audio(tmp_path / "b" / "overlay.mp4")
    assert film is not None
    with film:
        assert film.channels == 2


def check(karmma: Any, bag: Path) -> tuple[int, str]:
    result = karmma("record-check", bag)
    return result.status, " ".join(result.out.split())


@pytest.mark.parametrize("family", ["AudioStamped", "AudioDataStamped"])
def test_record_check_and_bag_to_manifest_know_them(karmma: Any, tmp_path: Path, family: str) -> None:
    bag = write(tmp_path / "bag", family)
    status, said = check(karmma, bag)
    assert status == 0
    assert "16000 Hz, 2 channels" in said
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,stop_s,verb,noun\n0,1,pour,mug\n1,2,cut,bread\n")
    result = karmma("bag-to-manifest", bag, "--labels", labels, "--out", tmp_path / "mine")
    assert result.status == 0, result.err
    sound = read_audio(next((tmp_path / "mine").rglob("*.wav")))
    assert sound is not None
    with sound:
        assert (sound.rate, sound.channels) == (RATE, 2)


@pytest.mark.parametrize(
    ("how", "words"),
    [({"told": False}, ["audio has no format", "audio_info"]), ({"coding": "mp3"}, ["audio is compressed", "wave"])],
)
def test_bytes_that_nobody_explains_are_told_with_the_remedy(
    karmma: Any, tmp_path: Path, how: dict[str, Any], words: Sequence[str]
) -> None:
    status, said = check(karmma, write(tmp_path / "bag", "AudioDataStamped", **how))
    assert status == 1
    assert all(word in said for word in words), said


def test_the_error_about_them_keeps_no_message(tmp_path: Path) -> None:
    said, depths, kept = set(), [], []
    with Bag(write(tmp_path / "bag", "AudioDataStamped", told=False)) as bag:
        to_samples = SoundDecoder(bag, bag.topics["/mic/audio"])
        for message in bag.messages(["/mic/audio"]):
            decoded = message.decode()
            kept.append(weakref.ref(decoded))
            try:
                to_samples(decoded)
            except SampleError as error:
                said.add(str(error))
                depths.append(len(list(walk_tb(error.__traceback__))))
            del decoded
    assert said == {"audio has no format: record the topic of its AudioInfo (audio_info) too"}
    assert len(depths) == len(kept) > 10
    assert set(depths) == {2}, "a traceback that grows keeps what every frame of it holds"
    assert not [ref for ref in kept if ref() is not None]


def test_our_own_sound_needs_no_explanation(karmma: Any, tmp_path: Path) -> None:
    assert check(karmma, everything().write(tmp_path / "bag"))[0] == 0
