# SPDX-License-Identifier: Apache-2.0
"""Frames and their flow, made ahead of time in another process, so that whoever plays them is never late.

A bounded ring of shared memory lies between the two. It has no name in the file system, and the pipes that pass slots
to and fro end with their processes: nothing is left behind, however a process dies.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.demo.sources import Source
from karmma_ros.errors import KarmmaError
from karmma_ros.flow import FlowProducer
from karmma_ros.orphans import deaf_to_interrupts

__all__ = ["FlowSettings", "FramesAhead", "Prepared"]


class FlowSettings(NamedTuple):
    """How flow is computed: working size (width, height) and DIS preset."""

    size: tuple[int, int]
    preset: str


class Prepared(NamedTuple):
    """A frame of the source: `rgb` uint8 (H, W, 3); `flow` float32 (h, w, 2), image widths per second, or None.

    Both are views of the ring: they hold until the next frame is asked for.
    """

    number: int
    stamp_ns: int
    rgb: npt.NDArray[np.uint8]
    flow: npt.NDArray[np.float32] | None


class FramesAhead:
    """Iterates over a source's frames, made up to `ahead` frames earlier; a context manager.

    :param flow: None to leave flow out.
    :raises KarmmaError: while iterating, if the source fails or its process dies.
    """

    def __init__(self, source: Source, flow: FlowSettings | None, *, ahead: int = 60) -> None:
        context = multiprocessing.get_context("spawn")
        width, height = source.size
        self._layout = _Layout(height, width, flow.size if flow else (0, 0), ahead)
        memory = context.RawArray("B", self._layout.total)
        ours, theirs = context.Pipe()
        self._slots = self._layout.slots(memory)
        self._pipe: Connection = ours
        self._ready: deque[tuple[int, int, int, bool]] = deque()
        self._ended = False
        self._process = context.Process(
            target=_work, args=(source, flow, self._layout, memory, theirs), daemon=True, name="karmma renderer"
        )
        with deaf_to_interrupts():  # Ctrl-C is the demo's business; it closes the pipe
            self._process.start()
        theirs.close()

    def prefill(self, timeout_s: float) -> None:
        """Waits until the ring is full or holds everything.

        :raises KarmmaError: if that takes longer.
        """
        while not self._ended and len(self._ready) < self._layout.count:
            if not self._pipe.poll(timeout_s):
                raise KarmmaError(f"no frame could be rendered within {timeout_s:.0f} s")
            self._receive()

    def __iter__(self) -> Iterator[Prepared]:
        while True:
            while not self._ready and not self._ended:
                self._receive()
            if not self._ready:
                return
            slot, index, stamp_ns, has_flow = self._ready.popleft()
            rgb, flow = self._slots[slot]
            yield Prepared(index, stamp_ns, rgb, flow if has_flow else None)
            if not self._ended:
                self._give_back(slot)
            while not self._ended and self._pipe.poll():  # keep the pipe from filling up
                self._receive()

    def _give_back(self, slot: int) -> None:
        with suppress(OSError):  # the renderer is through with its last frame
            self._pipe.send(slot)

    def _receive(self) -> None:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            raise KarmmaError("the process that renders the frames died") from None
        if message is None:
            self._ended = True
        elif isinstance(message, str):
            self._ended = True
            raise KarmmaError(message)
        else:
            self._ready.append(message)

    def __enter__(self) -> FramesAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # which ends the renderer
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


@dataclass(frozen=True)
class _Layout:
    """Where things lie in the ring's memory."""

    height: int
    width: int
    flow_size: tuple[int, int]
    count: int

    @property
    def image_bytes(self) -> int:
        return -(-self.height * self.width * 3 // 64) * 64  # so that the flow behind it is aligned

    @property
    def slot_bytes(self) -> int:
        return self.image_bytes + -(-self.flow_size[0] * self.flow_size[1] * 8 // 64) * 64

    @property
    def total(self) -> int:
        return self.count * self.slot_bytes

    def slots(self, memory: Any) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
        raw = np.frombuffer(memory, dtype=np.uint8)
        width, height = self.flow_size
        slots = []
        for start in range(0, self.total, self.slot_bytes):
            image = raw[start : start + self.height * self.width * 3].reshape(self.height, self.width, 3)
            flow_start = start + self.image_bytes
            flow = raw[flow_start : flow_start + width * height * 8].view(np.float32).reshape(height, width, 2)
            slots.append((image, flow))
        return slots


def _work(source: Source, flow: FlowSettings | None, layout: _Layout, memory: Any, pipe: Connection) -> None:
    """The renderer's process: fills free slots until the source ends or the other side of the pipe is gone."""
    cv2.setNumThreads(1)
    slots = layout.slots(memory)
    free = deque(range(layout.count))
    producer = FlowProducer(flow.size, flow.preset) if flow else None
    try:
        try:
            for index, frame in enumerate(source.frames()):
                while not free or pipe.poll():
                    free.append(pipe.recv())
                slot = free.popleft()
                image, field = slots[slot]
                image[:] = frame.rgb
                motion = producer.push(frame.stamp_ns, frame.rgb) if producer else None
                if motion is not None:
                    field[:] = motion
                pipe.send((slot, index, frame.stamp_ns, motion is not None))
            pipe.send(None)
        except KarmmaError as error:
            pipe.send(str(error))
    except (EOFError, OSError):
        pass  # nobody wants more
