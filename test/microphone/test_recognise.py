# SPDX-License-Identifier: Apache-2.0
"""Which device is the one that was recorded before, after devices have gone and come."""

from __future__ import annotations

import pytest

from karmma_ros.microphones.portaudio import AudioDeviceError, InputDevice, recognise

USB = "USB Mic: Audio"


def device(index: int, name: str, host_api: str = "ALSA") -> InputDevice:
    return InputDevice(index, name, host_api, channels=1, rate=48_000, default=False)


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ([device(0, "pulse"), device(1, "pulse"), device(2, USB)], 2),
        ([device(0, USB), device(1, "pulse")], 0),  # its index has changed
        ([device(0, USB), device(1, USB), device(2, USB)], 1),  # its index among its twins
        ([device(0, USB, "JACK"), device(1, USB, "JACK"), device(2, USB)], 2),  # its host API before its index
        ([device(0, USB, "JACK")], 0),
        ([device(0, USB), device(3, USB)], 0),  # neither is at its index: any is better than none
    ],
)
def test_it_is_known_by_its_name_then_by_host_api_and_index(found: list[InputDevice], meant: int) -> None:
    assert recognise(device(1, USB), 1, found).index == meant


def test_a_card_that_is_counted_anew_is_known_at_the_index_that_was_given() -> None:
    known, renamed = device(1, f"{USB} (hw:1,0)"), device(1, f"{USB} (hw:2,0)")
    assert recognise(known, 1, [device(0, "pulse"), renamed]) is renamed


@pytest.mark.parametrize(
    "found",
    [
        [],
        [device(0, "pulse"), device(1, "default")],  # what has moved up to its index is another one
        [device(0, f"{USB} (hw:2,0)"), device(1, "default")],  # a twin on another card
        [device(0, "pulse"), device(1, f"{USB} 2 (hw:1,0)")],
    ],
)
def test_while_it_is_gone_no_other_is_taken_for_it(found: list[InputDevice]) -> None:
    with pytest.raises(AudioDeviceError, match=r"no input device 'USB Mic: Audio \(hw:1,0\)' \(index 1 before\)"):
        recognise(device(1, f"{USB} (hw:1,0)"), 1, found)
