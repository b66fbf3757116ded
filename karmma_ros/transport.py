# SPDX-License-Identifier: Apache-2.0
"""Settings that carry camera images from process to process whole and quickly. `prepare()` comes before `rclpy.init()`.

Two defaults stand in the way. Fast DDS loses most best-effort images that do not fit its shared-memory segment of 512
KB (a VGA image is 900 KB); a profile with a larger segment delivers all of them. And glibc hands blocks of that size
back to the kernel after each message, which costs a storm of page faults per frame; keeping them halves latency and
CPU time.
"""

import ctypes
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from karmma_ros.errors import KarmmaError
from karmma_ros.share import share_path

# Fast DDS 2 (Jazzy) reads the first, Fast DDS 3 (Kilted and later) the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# Fast DDS also loads these from the working folder by itself.
_PROFILE_FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_KEEP_BLOCKS_UP_TO = 32 << 20  # bytes; the largest value glibc accepts, above any camera image
_KEEP_FREE_UP_TO = 256 << 20  # bytes


@dataclass(frozen=True)
class Transport:
    """What `prepare` did: `profile` is our Fast DDS profile, or None with the reason in `kept`."""

    profile: Path | None
    kept: str
    allocator: bool


def prepare(environ: MutableMapping[str, str] | None = None) -> Transport:
    """Sets up this process, and those it starts, for large messages.

    A user's own choice wins: a profile file, `FASTDDS_BUILTIN_TRANSPORTS`, or another RMW implementation is left alone.
    Calling it again changes nothing.

    :param environ: the environment to read and set; the process's own by default.
    """
    environ = os.environ if environ is None else environ
    try:
        profile = share_path("config/fastdds.xml")
    except KarmmaError as error:  # large images suffer, everything else works
        return Transport(None, str(error), tune_allocator())
    kept = _own_choice(environ, profile)
    if kept:
        return Transport(None, kept, tune_allocator())
    for variable in PROFILE_VARIABLES:
        environ[variable] = str(profile)
    return Transport(profile, "", tune_allocator())


def additional() -> dict[str, str]:
    """What the environment of a program of somebody else's lacks for it to send large images (see `prepare`)."""
    environment = dict(os.environ)
    prepare(environment)
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


def _own_choice(environ: Mapping[str, str], profile: Path) -> str:
    """Why the user's settings are to be kept, or "" where there are none."""
    rmw = environ.get("RMW_IMPLEMENTATION", "")
    if rmw and not rmw.startswith("rmw_fastrtps"):
        return f"RMW_IMPLEMENTATION is {rmw}"
    for variable in (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS"):
        if environ.get(variable, "") not in ("", str(profile)):
            return f"{variable} is set"
    for name in _PROFILE_FILES:
        if Path(name).is_file():
            return f"{name} is in the working folder"
    return ""


def tune_allocator() -> bool:
    """Makes glibc's malloc keep image-sized blocks; False on another C library."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it; musl's mallopt does not exist or does nothing
        mallopt = library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BLOCKS_UP_TO)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_FREE_UP_TO))
