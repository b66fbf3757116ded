# SPDX-License-Identifier: Apache-2.0
"""Microphones that microphone_node could use."""

from __future__ import annotations

from collections.abc import Iterator

from karmma_ros.doctor.finding import Finding, advice, ok
from karmma_ros.microphones.portaudio import AudioDeviceError, inputs

__all__ = ["check_sound"]

_SHOWN = 6


def check_sound() -> Iterator[Finding]:
    """Lists the input devices. None is no fault: sound may come from another machine, or from a driver of its own."""
    try:
        found = inputs()
    except AudioDeviceError as error:
        text, _, remedy = str(error).rpartition(": ")
        yield advice("microphone", text, remedy)
        return
    if not found:
        yield advice(
            "microphone",
            "PortAudio finds no input device",
            "plug one in; in a container: --device /dev/snd; is the user in the group audio?",
        )
        return
    names = [f"{device.index} {device.name}{' (default)' * device.default}" for device in found[:_SHOWN]]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    yield ok("microphone", ", ".join(names) + more)
