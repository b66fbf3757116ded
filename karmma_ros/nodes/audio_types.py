# SPDX-License-Identifier: Apache-2.0
"""Which types of sound message are installed here, and which of them to hear on a topic.

Two packages are named audio_common_msgs, and only one of them can be installed: they are told apart by what is in it.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any

from karmma_msgs.msg import Audio
from karmma_ros.decode_audio import AUDIO, AUDIO_DATA_STAMPED, AUDIO_INFO, AUDIO_STAMPED
from karmma_ros.errors import KarmmaError

__all__ = ["AUTO", "TYPES", "choose_type", "info_type", "installed_types", "unheard"]

AUTO = "auto"
TYPES = (AUDIO, AUDIO_STAMPED, AUDIO_DATA_STAMPED)  # best first

# Fields that make a type what is meant: {type: {message: {field: type}}}, as rosidl writes them.
_PACKAGE = "audio_common_msgs"
_MARKS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    AUDIO_STAMPED: {
        "AudioStamped": {"header": "std_msgs/Header", "audio": f"{_PACKAGE}/Audio"},
        "Audio": {"audio_data": f"{_PACKAGE}/AudioData", "info": f"{_PACKAGE}/AudioInfo"},
        "AudioInfo": {"format": "int32", "channels": "int32", "rate": "int32"},
    },
    AUDIO_DATA_STAMPED: {
        "AudioDataStamped": {"header": "std_msgs/Header", "audio": f"{_PACKAGE}/AudioData"},
        "AudioData": {"data": "sequence<uint8>"},
        "AudioInfo": {
            "channels": "uint8",
            "sample_rate": "uint32",
            "sample_format": "string",
            "coding_format": "string",
        },
    },
}


def installed_types() -> dict[str, type]:
    """The message classes by type name, those of TYPES that are installed."""
    found: dict[str, type] = {AUDIO: Audio}
    try:
        package = importlib.import_module(f"{_PACKAGE}.msg")
    except ImportError:
        return found
    for name, marks in _MARKS.items():
        if all(_has(getattr(package, message, None), fields) for message, fields in marks.items()):
            found[name] = getattr(package, name.rpartition("/")[2])
    return found


def _has(message: Any, fields: Mapping[str, str]) -> bool:
    try:
        return fields.items() <= message.get_fields_and_field_types().items()
    except AttributeError:  # there is no such message
        return False


def info_type() -> type:
    """AudioInfo, which tells what the bytes of an AudioDataStamped are."""
    return getattr(importlib.import_module(f"{_PACKAGE}.msg"), AUDIO_INFO.rpartition("/")[2])


def choose_type(wanted: str, current: str, offered: Collection[str], installed: Collection[str]) -> str:
    """The type of message to hear.

    :param wanted: one of TYPES, or AUTO: what is published, and the current one while nothing else is.
    :param current: heard so far.
    :param offered: types that are published on the topic.
    :raises KarmmaError: the one wanted is not installed.
    """
    if wanted != AUTO:
        if wanted not in installed:
            raise KarmmaError(
                f"audio.type is {wanted}, which is not installed: install the {_PACKAGE} that has it and source it, "
                f"or set audio.type to {' or '.join((AUTO, *installed))}"
            )
        return wanted
    if current in offered:
        return current
    return next((name for name in TYPES if name in offered and name in installed), current)


def unheard(topic: str, current: str, offered: Collection[str], installed: Collection[str]) -> str:
    """What to do about sound that is published on the topic in another type, or "" when that is not so."""
    others = sorted(set(offered) - {current})
    if not others or current in offered:
        return ""
    if any(name in installed for name in others):
        return f"{topic} carries {', '.join(others)}: set audio.type to it, or to {AUTO}"
    if f"{_PACKAGE}/msg/AudioData" in others:
        return f"{topic} carries sound without stamps: remap audio to the AudioDataStamped beside it (audio_stamped)"
    if any(name in TYPES for name in others):
        return f"{topic} carries {', '.join(others)}: install the {_PACKAGE} that has it, and source it"
    return f"{topic} carries {', '.join(others)}, which is no known sound: {', '.join(TYPES)}"
