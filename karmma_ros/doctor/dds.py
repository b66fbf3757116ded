# SPDX-License-Identifier: Apache-2.0
"""Whether camera images get from one process to another: Fast DDS's settings, shared memory and socket buffers."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from karmma_ros import transport
from karmma_ros.doctor.finding import Finding, advice, fault, ok
from karmma_ros.errors import KarmmaError, UsageError
from karmma_ros.share import share_path

__all__ = ["Camera", "Host", "SharedMemory", "check_dds", "read_profile"]

_SHM = "/dev/shm"  # nosec B108  # noqa: S108 - looked at, not written
_RMEM = Path("/proc/sys/net/core/rmem_max")
_MB = 1 << 20
_PARTICIPANTS = 4  # camera driver, microphone_node, action_node and one that listens
_LEAST_S = 0.1  # [s] of images that a segment should hold, for a subscriber that is busy


@dataclass(frozen=True)
class Camera:
    """What the robot's camera sends."""

    width: int
    height: int
    rate: float  # [Hz]

    @classmethod
    def parse(cls, text: str) -> Camera:
        """`640x480@30`. :raises UsageError: it is not of that form."""
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})@(\d{1,3}(?:\.\d+)?)", text)
        if not match or 0 in (camera := cls(int(match[1]), int(match[2]), float(match[3]))).numbers:
            raise UsageError(f"a camera is given as 640x480@30, not {text!r}")
        return camera

    @property
    def numbers(self) -> tuple[float, ...]:
        return self.width, self.height, self.rate

    @property
    def image_bytes(self) -> int:
        """Of an rgb8 image."""
        return 3 * self.width * self.height


@dataclass(frozen=True)
class Host:
    """What the system offers; None where it does not say."""

    shm_bytes: int | None  # size of /dev/shm
    shm_free_bytes: int | None
    rmem_max: int | None  # [bytes] largest receive buffer of a socket

    @classmethod
    def read(cls) -> Host:
        """This machine."""
        total = free = rmem = None
        with suppress(OSError):
            status = os.statvfs(_SHM)
            total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        with suppress(OSError, ValueError):
            rmem = int(_RMEM.read_text())
        return cls(total, free, rmem)


@dataclass(frozen=True)
class SharedMemory:
    """The shared-memory transport of a Fast DDS profile."""

    segment_bytes: int  # of each participant
    message_bytes: int  # largest message


def read_profile(path: Path) -> SharedMemory | None:
    """The shared-memory transport of a profile; None if it has none.

    :raises KarmmaError: the file is missing or no XML.
    """
    try:
        root = ET.parse(path).getroot()  # nosec B314  # noqa: S314 - settings that Fast DDS reads as well
    except (OSError, ET.ParseError) as error:
        raise KarmmaError(f"{path}: {error}") from None
    for element in root.iter():
        if _tag(element) != "transport_descriptor":
            continue
        values = {_tag(child): (child.text or "").strip() for child in element}
        if values.get("type") == "SHM":
            segment = int(values.get("segment_size") or 0) or 512 << 10
            return SharedMemory(segment, int(values.get("maxMessageSize") or 0) or segment)
    return None


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def check_dds(environ: Mapping[str, str], camera: Camera, host: Host) -> Iterator[Finding]:
    """:param environ: of the shell that starts nodes."""
    ours = share_path("config/fastdds.xml")
    chosen = transport.prepare(dict(environ))
    memory: SharedMemory | None = None
    if chosen.profile is not None:
        memory = read_profile(ours)
        text = "our profile, which our nodes load by themselves"
        if any(environ.get(name) for name in transport.PROFILE_VARIABLES):
            yield ok("Fast DDS", "our profile, for everything that is started here")
        else:
            yield advice(
                "Fast DDS", f"{text}; a camera driver does not", f"export {transport.PROFILE_VARIABLES[0]}={ours}"
            )
    else:
        middleware = environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
        # another middleware reads none
        names = transport.PROFILE_VARIABLES if middleware.startswith("rmw_fastrtps") else ()
        path = next((environ[name] for name in names if environ.get(name)), "")
        try:
            memory = read_profile(Path(path)) if path else None
            yield ok("Fast DDS", f"{chosen.kept}: kept")
        except (KarmmaError, ValueError) as error:
            yield fault("Fast DDS", f"{chosen.kept}, and cannot be read: {error}", "mend it, or unset the variable")
    if memory is not None:
        yield _judge_memory(memory, camera)
        yield from _judge_shm(memory, host)
    yield from _judge_sockets(camera, host)


def _judge_memory(memory: SharedMemory, camera: Camera) -> Finding:
    image = camera.image_bytes
    size = f"{camera.width}x{camera.height} at {camera.rate:g} Hz"
    if image > memory.message_bytes:
        return fault(
            "images",
            f"{size}: {image / 1e6:.1f} MB, and a message holds {memory.message_bytes / 1e6:.1f} MB",
            "send smaller or compressed images, or raise maxMessageSize and segment_size in a profile of your own",
        )
    held_s = memory.segment_bytes / image / camera.rate
    text = f"{size}: a segment of {memory.segment_bytes / _MB:.0f} MB holds {held_s:.1f} s of them"
    if held_s < _LEAST_S:
        return advice("images", text, "raise segment_size in a profile of your own")
    return ok("images", text)


def _judge_shm(memory: SharedMemory, host: Host) -> Iterator[Finding]:
    if host.shm_bytes is None or host.shm_free_bytes is None:
        return
    fit, left = host.shm_bytes // memory.segment_bytes, host.shm_free_bytes // memory.segment_bytes
    text = f"{host.shm_bytes / _MB:.0f} MB hold {fit} participants of {memory.segment_bytes / _MB:.0f} MB each"
    larger = f"docker run --shm-size={2 * _PARTICIPANTS * memory.segment_bytes // _MB}m, or --ipc=host"
    if fit < 2:
        yield fault(_SHM, f"{text}: not even a camera and the node", larger)
    elif left < 1:
        yield fault(
            _SHM,
            f"{text}, and {host.shm_free_bytes / _MB:.0f} MB are free: not one more",
            "with no ROS process running: rm /dev/shm/fastrtps_* /dev/shm/sem.fastrtps_*",
        )
    elif fit < _PARTICIPANTS:
        yield advice(_SHM, f"{text}; camera, microphone, node and a listener are {_PARTICIPANTS}", larger)
    else:
        yield ok(_SHM, text)


def _judge_sockets(camera: Camera, host: Host) -> Iterator[Finding]:
    if host.rmem_max is None:
        return
    text = f"net.core.rmem_max is {host.rmem_max / 1024:.0f} KB"
    if host.rmem_max < camera.image_bytes:
        yield advice(
            "sockets",
            f"{text}, an image {camera.image_bytes / 1024:.0f} KB: from another machine, images are lost",
            f"sudo sysctl -w net.core.rmem_max={max(16 * _MB, 4 * camera.image_bytes)}, there and here",
        )
    else:
        yield ok("sockets", text)
