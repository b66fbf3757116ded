# SPDX-License-Identifier: Apache-2.0
"""A microphone that stays: records in a thread of its own, and connects again whenever the device goes and comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError
from karmma_ros.microphones.levels import SILENCE, LevelMeter, Levels
from karmma_ros.microphones.portaudio import InputDevice, find_input, inputs, leave_alone, negotiate, recognise, rescan
from karmma_ros.microphones.recording import Block, Recording
from karmma_ros.microphones.stamping import ChunkClock

__all__ = ["Chunk", "Microphone", "MicrophoneSettings", "MicrophoneState", "MicrophoneStatus"]

_SILENT_S = 1.0  # [s] without a block after which a device counts as gone
_SILENT_CHUNKS = 10  # or as many chunks as this
_FIRST_WAIT_S = 0.5  # [s] before the second attempt to connect; each wait is twice the one before
_SETTLING_S = 0.1  # [s] after connecting in which nothing is delivered: a driver's first times are off by much
_JOIN_S = 1.0  # [s] for the thread to end: a driver may hang, and a process that is told to end has two seconds


@dataclass(frozen=True)
class MicrophoneSettings:
    """What is wanted of a microphone; the device may give something else."""

    device: str = ""  # name, part of one, or index; "" is the default
    rate: int = 16_000  # [Hz]; 0: the device's own
    channels: int = 1  # 0: all that the device has
    chunk_s: float = 0.02
    longest_wait_s: float = 5.0  # between two attempts to connect


@dataclass(frozen=True)
class Chunk:
    """A stretch of sound."""

    stamp_ns: int  # of the first sample
    rate: int  # [Hz]
    samples: npt.NDArray[np.float32]  # (n, channels)


class MicrophoneState(Enum):
    """Where a microphone stands."""

    STOPPED = "stopped"
    CONNECTING = "connecting"  # for the first time
    RECORDING = "recording"
    LOST = "lost"  # it was there and is gone, or has not been found yet; attempts go on


@dataclass(frozen=True)
class MicrophoneStatus:
    """What is to be known about a microphone; counters run since `start`."""

    state: MicrophoneState = MicrophoneState.STOPPED
    fault: str = ""  # why it is LOST
    device: InputDevice | None = None
    rate: int = 0  # [Hz]
    channels: int = 0
    latency_s: float = 0.0
    by_adc: bool = True  # stamps come from the driver's times, else from the arrival of blocks
    chunks: int = 0
    overruns: int = 0  # times that samples were lost, by the device or because this process was too slow
    jumps: int = 0  # of the measured times, see `stamping.ChunkClock`
    connections: int = 0
    levels: Levels = SILENCE  # since the status before


class Microphone:
    """Records until it is stopped. `deliver`, `say` and `warn` are called from its thread."""

    def __init__(
        self,
        settings: MicrophoneSettings,
        *,
        clock: Callable[[], int],
        deliver: Callable[[Chunk], None],
        say: Callable[[str], object],
        warn: Callable[[str], object],
    ) -> None:
        """:param clock: the time [ns] of the stamps.
        :param deliver: takes each chunk.
        :param say, warn: log one line.
        """
        self._settings = settings
        self._clock = clock
        self._deliver = deliver
        self._say, self._warn = say, warn
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._meter = LevelMeter()
        self._status = MicrophoneStatus()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts to connect and record; counters start from 0."""
        self._ending.clear()
        self._status = MicrophoneStatus(MicrophoneState.CONNECTING)
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops recording and lets go of the device, or of its thread where a driver hangs."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                leave_alone()
                self._warn("the audio device's driver hangs: left alone")
            self._thread = None
        self._change(state=MicrophoneState.STOPPED)

    def status(self) -> MicrophoneStatus:
        """How it is; the levels are those since the last call."""
        with self._lock:
            return replace(self._status, levels=self._meter.read())

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        said = ""
        while not self._ending.is_set():
            before = self._status.chunks
            try:
                self._record()
            except Exception as error:  # whatever a driver does, the next attempt may succeed
                fault = str(error) if isinstance(error, KarmmaError) else f"{type(error).__name__}: {error}"
                fault = " ".join(fault.split())
                if self._status.chunks > before:
                    wait_s, said = _FIRST_WAIT_S, ""
                self._change(state=MicrophoneState.LOST, fault=fault)
                if fault != said:
                    self._warn(f"{fault}; trying again until it works")
                    said = fault
                self._ending.wait(wait_s)
                wait_s = min(2 * wait_s, self._settings.longest_wait_s)

    def _record(self) -> None:
        """Connects and records until it is stopped.

        :raises AudioDeviceError: there is no such device, or it is gone.
        """
        rescan()
        device = self._find()
        rate, channels = negotiate(device, self._settings.rate, self._settings.channels)
        size = max(1, round(self._settings.chunk_s * rate))
        silent_s = max(_SILENT_S, _SILENT_CHUNKS * self._settings.chunk_s)
        with Recording(device, rate, channels, size, self._clock) as recording:
            self._connected(device, rate, channels, size / rate, recording.latency_s)
            for _ in range(max(1, round(_SETTLING_S / self._settings.chunk_s))):
                recording.read(silent_s, self._ending)
            stamps, jumps = ChunkClock(rate), self._status.jumps
            while (block := recording.read(silent_s, self._ending)) is not None:
                stamp_ns = stamps.stamp(block.taken_ns, len(block.samples), hurried=block.hurried, lost=block.lost)
                self._heard(block, jumps + stamps.jumps)
                self._deliver(Chunk(stamp_ns, rate, block.samples))

    def _heard(self, block: Block, jumps: int) -> None:
        with self._lock:
            self._meter.add(block.samples)
            self._status = replace(
                self._status,
                by_adc=block.by_adc,
                chunks=self._status.chunks + 1,
                overruns=self._status.overruns + block.lost,
                jumps=jumps,
            )

    def _find(self) -> InputDevice:
        """The device meant; one chosen by its index is known by its name from then on: indices change."""
        wanted, known = self._settings.device, self._status.device
        if known is None or not wanted.isdecimal():
            return find_input(wanted)
        return recognise(known, int(wanted), inputs())

    def _connected(self, device: InputDevice, rate: int, channels: int, chunk_s: float, latency_s: float) -> None:
        self._change(
            state=MicrophoneState.RECORDING,
            fault="",
            device=device,
            rate=rate,
            channels=channels,
            latency_s=latency_s,
            connections=self._status.connections + 1,
        )
        self._say(
            f"recording from {device.name} (index {device.index}, {device.host_api}): {rate} Hz, channels: {channels}, "
            f"chunks of {chunk_s * 1e3:.0f} ms, latency {latency_s * 1e3:.0f} ms"
        )
        wanted = self._settings
        if wanted.rate not in (0, rate):
            self._warn(f"{device.name} does not record at {wanted.rate} Hz: at {rate} Hz instead")
        if wanted.channels not in (0, channels):
            self._warn(f"{device.name} does not record {wanted.channels} channels: {channels} instead")

    def _change(self, **changes: object) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
