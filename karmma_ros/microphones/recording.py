# SPDX-License-Identifier: Apache-2.0
"""One open PortAudio stream: blocks of sound with the time at which their first sample was taken."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from karmma_ros.microphones.portaudio import SAMPLE, AudioDeviceError, InputDevice, sounddevice

__all__ = ["Block", "Recording", "taken_ago_s"]

_WAITING_BLOCKS = 500  # at most, between PortAudio's thread and the reader
_SLICE_S = 0.1  # [s] after which a reader that waits looks up
_OLDEST_S, _EARLIEST_S = 60.0, -0.05  # [s] ages that can be; a process that stood still gets old sound


@dataclass(frozen=True)
class Block:
    """What PortAudio handed over at once."""

    samples: npt.NDArray[np.float32]  # (n, channels)
    taken_ns: int  # when the first sample was taken
    by_adc: bool  # the driver said so; else it is reckoned from the block's arrival
    hurried: bool  # it came right after the one before: the driver catches up, and its times are not to be relied on
    lost: bool  # samples before this block are missing: an overrun of the device, or a reader that was too slow


class Recording:
    """An input stream that is running. A context manager that closes it.

    Public attribute: `latency_s`, PortAudio's estimate from sound to block.
    """

    def __init__(self, device: InputDevice, rate: int, channels: int, block: int, clock: Callable[[], int]) -> None:
        """:param block: samples per channel in a block.
        :param clock: the time [ns] that blocks are stamped with; called from PortAudio's thread.
        :raises AudioDeviceError: the device cannot be opened.
        """
        self._name = device.name
        self._rate = rate
        self._clock = clock
        self._lost = False
        self._heard_s = 0.0  # steady time of the last block
        self._blocks: queue.Queue[Block | None] = queue.Queue(_WAITING_BLOCKS)
        module = sounddevice()
        try:
            self._stream = module.InputStream(
                device=device.index,
                samplerate=rate,
                channels=channels,
                blocksize=block,
                dtype=SAMPLE,
                callback=self._heard,
                finished_callback=self._finished,
            )
        except (module.PortAudioError, ValueError) as error:
            raise AudioDeviceError(f"input device {device.name} cannot be opened: {error}") from None
        try:
            self._stream.start()
        except module.PortAudioError as error:
            self.close()  # or the device stays taken
            raise AudioDeviceError(f"input device {device.name} cannot be started: {error}") from None
        self.latency_s = float(self._stream.latency)

    def read(self, timeout_s: float, ending: threading.Event) -> Block | None:
        """The next block; None once `ending` is set, which is looked at ten times a second.

        :raises AudioDeviceError: the stream has ended, or there was none for `timeout_s`.
        """
        for _ in range(math.ceil(timeout_s / _SLICE_S)):  # when this process stood still, one of them passes at once
            if ending.is_set():
                return None
            try:
                block = self._blocks.get(timeout=_SLICE_S)
            except queue.Empty:
                continue
            if block is None:
                raise AudioDeviceError(f"input device {self._name} is gone")
            return block
        raise AudioDeviceError(f"input device {self._name} sent nothing for {timeout_s:g} s")

    def close(self) -> None:
        """Ends the stream; whatever the device thinks of it, it is closed afterwards."""
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _heard(self, data: npt.NDArray[np.float32], frames: int, times: Any, flags: Any) -> None:
        # The two clocks are read side by side: how long this thread waited to run does not matter then.
        now_ns, stream_s = self._clock(), self._stream.time
        block_s, now_s = frames / self._rate, monotonic()
        age_s, by_adc = taken_ago_s(times.inputBufferAdcTime, stream_s, block_s)
        lost = self._lost or bool(flags.input_overflow)
        hurried = now_s - self._heard_s < block_s / 2
        self._heard_s = now_s
        block = Block(data.copy(), now_ns - round(age_s * 1e9), by_adc, hurried, lost)
        try:
            self._blocks.put_nowait(block)
            self._lost = False
        except queue.Full:
            self._lost = True

    def _finished(self) -> None:
        with suppress(queue.Full):  # the reader times out instead
            self._blocks.put_nowait(None)


def taken_ago_s(adc_s: float, stream_s: float, block_s: float) -> tuple[float, bool]:
    """How long ago a block's first sample was taken, and whether the driver said so.

    :param adc_s: when it was taken, by the stream's clock [s]; 0 from drivers that do not know.
    :param stream_s: now by that clock; 0 where it cannot be read.
    :param block_s: length of the block, which is how old its first sample is at least.
    """
    age_s = stream_s - adc_s
    if adc_s > 0 and stream_s > 0 and _EARLIEST_S <= age_s <= _OLDEST_S:
        return age_s, True
    return block_s, False
