# SPDX-License-Identifier: Apache-2.0
"""Processes beside ours: started in a corner of their own, watched, and gone with us, however we end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import karmma_ros
from karmma_ros import transport
from karmma_ros.errors import KarmmaError
from karmma_ros.orphans import die_with

__all__ = [
    "Child",
    "ProcessDiedError",
    "node_arguments",
    "own_domain",
    "ros_environment",
    "shared_memory_of",
    "unlink_shared_memory",
]

_SHM = "/dev/shm/"  # nosec B108  # noqa: S108 - looked into, not written


class ProcessDiedError(KarmmaError):
    """A process ended before its time."""

    exit_status = 1


class Child:
    """One process, with its log; killed by the kernel if we are killed. A context manager that ends it."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        talks: bool = False,
        death: int = signal.SIGTERM,
    ) -> None:
        """
        :param talks: with pipes for stdin and stdout; else stdout goes to the log as well.
        :param death: the signal by which it ends when we are killed.
        """
        self.name = name
        self._said = b""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, on modules of this package
            [sys.executable, *arguments],
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else self._log,
            stderr=self._log,
            env={**environment, "PYTHONPATH": _python_path(environment), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone, who end our children in order
            preexec_fn=partial(die_with, os.getpid(), death),
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What it printed so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def read_line(self, wait_s: float = 0.0) -> str | None:
        """The next line of one that `talks`, without its end; None if there is none within `wait_s`."""
        pipe = self.process.stdout
        assert pipe is not None
        until = time.monotonic() + wait_s
        while b"\n" not in self._said:
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            data = os.read(pipe.fileno(), 65536)
            if not data:  # it says no more: it is about to end
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(max(0.0, until - time.monotonic()))
                return None
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def say(self, data: bytes) -> None:
        """Writes to one that `talks`. :raises ProcessDiedError: if it has ended."""
        pipe = self.process.stdin
        assert pipe is not None
        try:
            pipe.write(data)
            pipe.flush()
        except BrokenPipeError:
            self.process.wait(5.0)
            self.check()
            raise

    def check(self) -> None:
        """:raises ProcessDiedError: if it has ended."""
        status = self.process.poll()
        if status is not None:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            lines = [line for line in self.log().splitlines() if line.strip()]
            last = f": {lines[-1].strip()}" if lines else ""
            raise ProcessDiedError(f"{self.name} died ({how}){last}")

    def stop(self, patience_s: float = 5.0) -> None:
        """Asks it to end, and makes it if it does not."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        for number, wait_s in ((signal.SIGINT, patience_s), (signal.SIGTERM, 1.0), (signal.SIGKILL, None)):
            if self.process.poll() is not None:
                return
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(wait_s)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._log.close()


def node_arguments(name: str, parameters: Mapping[str, object]) -> list[str]:
    """A `Child`'s arguments for one of this package's nodes, under its own name, with these parameters."""
    given = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    return ["-m", f"karmma_ros.nodes.{name}", "--ros-args", "-r", f"__node:={name}", *given]


def _python_path(environment: Mapping[str, str]) -> str:
    """The children must find the package that we are, whatever folder we were started from."""
    ours = str(Path(karmma_ros.__file__).parents[1])
    before = environment.get("PYTHONPATH", "")
    return f"{ours}{os.pathsep}{before}" if before else ours


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that nothing else of ours on this machine uses at the same time.

    :raises KarmmaError: if there is none left.
    """
    try:
        from domain_coordinator import domain_id
    except ImportError:  # not part of every installation; a clash is then possible, if unlikely
        yield os.getpid() % 100 + 1
        return
    with contextlib.ExitStack() as reservation:
        try:
            number = int(reservation.enter_context(domain_id()))
        except RuntimeError as error:
            raise KarmmaError(f"no ROS domain is free on this machine ({error})") from error
        try:
            yield number
        finally:
            reservation.close()  # here, without the exception: domain_id() would take an OSError for its own


@contextlib.contextmanager
def ros_environment(domain: int) -> Iterator[None]:
    """This process and its children on a domain of their own that ends at this machine."""
    before = dict(os.environ)
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    transport.prepare()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def shared_memory_of(pids: Sequence[int]) -> set[Path]:
    """Fast DDS's segments and locks in /dev/shm that these processes have mapped or open."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
            found |= {line[line.index(_SHM) :] for line in maps.splitlines() if f"{_SHM}fastrtps_" in line}
    return {Path(name) for name in found if not name.endswith("(deleted)")}


def unlink_shared_memory(segments: set[Path]) -> None:
    """Removes what processes that were killed could not, locks included; but nothing that another process has mapped.

    Ports below 7400 belong to no domain: the other ROS processes of this machine use them too.
    """
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    for segment in segments - shared_memory_of([pid for pid in pids if pid != os.getpid()]):
        for name in ("{}", "{}_el", "{}_sl", "sem.{}_mutex"):
            with contextlib.suppress(OSError):
                segment.with_name(name.format(segment.name)).unlink()
