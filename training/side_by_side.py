# SPDX-License-Identifier: Apache-2.0
"""Long work of which some needs what other makes, side by side in processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple, TypeVar

from karmma_ros.errors import KarmmaError
from karmma_ros.orphans import deaf_to_interrupts, die_with

__all__ = ["run_side_by_side"]

A = TypeVar("A")


class _Running(NamedTuple):
    process: BaseProcess
    outcome: Connection  # says "" or what went wrong


def run_side_by_side(
    work: Callable[[A], None], needs: Mapping[A, Sequence[A]], jobs: int, *, before: Callable[[A], None]
) -> Generator[A, None, None]:
    """Yields every item when `work`, a function of a module, is done with it.

    An item starts when all that it needs is done, at most `jobs` at once, first come first served. However this ends,
    what still runs gets SIGTERM and is waited for.

    :param needs: {item: what it needs}, in the order of their importance.
    :param before: called here before an item starts.
    :raises KarmmaError: `work` failed for an item; where it was no KarmmaError, the traceback has been printed.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    waiting, done = dict(needs), set[A]()
    running: dict[A, _Running] = {}
    try:
        while waiting or running:
            ready = [item for item, needed in waiting.items() if done.issuperset(needed)]
            for item in ready[: jobs - len(running)]:
                before(item)
                del waiting[item]
                outcome, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(work, item, os.getpid(), theirs))
                with deaf_to_interrupts():  # who gets SIGTERM from us, below
                    process.start()
                theirs.close()
                running[item] = _Running(process, outcome)
            if not running:
                raise ValueError(f"these wait for one another: {list(waiting)}")
            ended = wait([each.outcome for each in running.values()])
            for item in [item for item, each in running.items() if each.outcome in ended]:
                problem = _outcome(running[item])
                del running[item]
                if problem:
                    raise KarmmaError(problem)
                done.add(item)
                yield item
    finally:
        _end(list(running.values()))


def _end(running: Sequence[_Running]) -> None:
    """Ends them in order; told once more meanwhile, they are told once more, too."""
    for each in running:
        each.process.terminate()
    try:
        for each in running:
            each.process.join()
    except KeyboardInterrupt:
        _end([each for each in running if each.process.is_alive()])
        raise


def _work(work: Callable[[A], None], item: A, parent: int, outcome: Connection) -> None:
    """In the process."""
    die_with(parent)
    problem = ""
    try:
        work(item)
    except KarmmaError as error:
        problem = str(error)
    except KeyboardInterrupt:
        problem = "interrupted"
    except BaseException as error:
        traceback.print_exc()
        problem = f"{type(error).__name__}: {error}"
    with suppress(BrokenPipeError):  # who started it is gone
        outcome.send(problem)


def _outcome(each: _Running) -> str:
    """What went wrong with a process that has something to say, or has ended."""
    try:
        problem: str = each.outcome.recv()
    except EOFError:
        problem = ""
    each.process.join()
    return problem or (f"a process ended with status {each.process.exitcode}" if each.process.exitcode else "")
