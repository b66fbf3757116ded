# SPDX-License-Identifier: Apache-2.0
"""PortAudio's input devices, through sounddevice: which there are, which one is meant, what it can do.

sounddevice is imported on first use: nothing but a microphone needs it, and it needs a library from the system.
"""

from __future__ import annotations

import atexit
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from karmma_ros.errors import KarmmaError

__all__ = [
    "AudioDeviceError",
    "InputDevice",
    "find_input",
    "inputs",
    "leave_alone",
    "negotiate",
    "recognise",
    "rescan",
    "sounddevice",
]

_SYSTEM = "is the sound system running?"  # the remedy where PortAudio does not start
_USUAL_RATES = (48_000, 44_100, 32_000, 16_000)  # [Hz] tried when a device takes neither the rate asked for nor its own
SAMPLE = "float32"  # PortAudio converts from whatever the device has


class AudioDeviceError(KarmmaError):
    """An audio device that is absent, busy or gone."""


@dataclass(frozen=True)
class InputDevice:
    """An input device as PortAudio lists it."""

    index: int  # changes when devices come and go
    name: str
    host_api: str
    channels: int  # at most
    rate: int  # [Hz] its own
    default: bool


def sounddevice() -> Any:
    """The module `sounddevice`.

    :raises AudioDeviceError: it, or PortAudio, is not installed, or PortAudio does not start.
    """
    try:
        import sounddevice as module
    except ModuleNotFoundError as error:
        raise AudioDeviceError(f"{error.name} is not installed: pip install sounddevice") from None
    except OSError as error:  # the library, or the sound system under it
        remedy = "apt install libportaudio2" if "not found" in str(error) else _SYSTEM
        raise AudioDeviceError(f"PortAudio cannot be used ({error}): {remedy}") from None
    except Exception as error:  # PortAudioError lies in the module that failed
        raise AudioDeviceError(f"PortAudio cannot be started ({_one_line(error)}): {_SYSTEM}") from None
    return module


def rescan() -> None:
    """Makes PortAudio look for devices again: it knows those that were there when it started. No stream may be open.

    :raises AudioDeviceError: PortAudio cannot be started.
    """
    module = sounddevice()
    with suppress(module.PortAudioError):  # it has ended already where it could not be started the last time
        module._terminate()
    try:
        module._initialize()
    except module.PortAudioError as error:
        raise AudioDeviceError(f"PortAudio cannot be started ({_one_line(error)}): {_SYSTEM}") from None


def leave_alone() -> None:
    """A call into a driver hangs: PortAudio is not ended at exit, which would wait for it."""
    ending = getattr(sys.modules.get("sounddevice"), "_exit_handler", None)
    if ending is not None:
        atexit.unregister(ending)


def inputs() -> list[InputDevice]:
    """All devices that can record, by index.

    :raises AudioDeviceError: see `sounddevice`.
    """
    return list(_inputs(sounddevice()))


def _inputs(module: Any) -> Iterator[InputDevice]:
    apis = module.query_hostapis()
    default = module.default.device[0]
    if default == -1 and apis:
        default = apis[0]["default_input_device"]
    for device in module.query_devices():
        if device["max_input_channels"] > 0:
            yield InputDevice(
                index=device["index"],
                name=device["name"],
                host_api=apis[device["hostapi"]]["name"],
                channels=device["max_input_channels"],
                rate=round(device["default_samplerate"]),
                default=device["index"] == default,
            )


def find_input(wanted: str) -> InputDevice:
    """The device that is meant.

    :param wanted: an index, a name, or a part of one that only one device has (no matter the case); "" is the default.
    :raises AudioDeviceError: none or several fit; the line lists the devices there are.
    """
    found = inputs()
    if not wanted:
        fitting = [device for device in found if device.default]
        what = "default input device"
    else:
        fitting = [device for device in found if wanted in (str(device.index), device.name)]
        if not fitting:
            fitting = [device for device in found if wanted.casefold() in device.name.casefold()]
        what = f"input device {wanted!r}"
    if not fitting:
        raise AudioDeviceError(f"no {what}: there are: {_listed(found)}")
    if len(fitting) > 1:
        raise AudioDeviceError(f"{what} is not clear: give the index or the whole name of one: {_listed(fitting)}")
    return fitting[0]


def recognise(known: InputDevice, index: int, found: Sequence[InputDevice]) -> InputDevice:
    """A device that was there before: indices change when devices come and go, its name hardly ever does.

    :param known: as it was the last time; of several with its name, the one under its host API is meant, and at its
        index.
    :param index: by which the user chose it. Where no device has the name any more, the one there is meant if it
        differs by the card's number alone; another one would be recorded without anybody knowing.
    :param found: the devices there are.
    :raises AudioDeviceError: it is gone; the line lists the devices there are.
    """
    same = [device for device in found if device.name == known.name]
    if not same:
        same = [d for d in found if d.index == index and _unnumbered(d.name) == _unnumbered(known.name)]
    if not same:
        raise AudioDeviceError(f"no input device {known.name!r} (index {index} before): there are: {_listed(found)}")
    return max(same, key=lambda d: (d.host_api == known.host_api, d.index == known.index))


def _listed(devices: Sequence[InputDevice]) -> str:
    return "; ".join(f"{device.index} {device.name}" for device in devices) or "none"


def _unnumbered(name: str) -> str:
    """A name without what ALSA adds: card and device, which it counts anew whenever a device is plugged in."""
    return re.sub(r" \(hw:\d+,\d+\)$", "", name)


def negotiate(device: InputDevice, rate: int, channels: int) -> tuple[int, int]:
    """The sample rate and number of channels nearest to what is wanted that the device takes.

    :param rate: [Hz]; 0: the device's own.
    :param channels: 0: all that it has.
    :return: (rate [Hz], channels). The rate wanted comes first, then the device's own, then the usual ones.
    :raises AudioDeviceError: it takes nothing: busy, forbidden or gone.
    """
    module = sounddevice()
    most = device.channels
    rates = dict.fromkeys(r for r in (rate, device.rate, *_USUAL_RATES) if r > 0)
    counts = dict.fromkeys(min(n, most) for n in (channels or most, 1, 2, most))
    fault = ""
    for tried_rate in rates:
        for tried_channels in counts:
            try:
                module.check_input_settings(device.index, tried_channels, SAMPLE, samplerate=tried_rate)
            except (module.PortAudioError, ValueError) as error:
                fault = fault or _one_line(error)
            else:
                return tried_rate, tried_channels
    raise AudioDeviceError(
        f"input device {device.name} cannot be opened ({fault}): "
        "is another program using it, is the user in the group audio?"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
