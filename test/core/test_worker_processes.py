# SPDX-License-Identifier: Apache-2.0
"""Work spread over processes: results in order, and nobody and nothing left behind when it is given up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from cli_helpers import wait_until
from worker_tasks import die, fail, is_deaf, slower_first, write_for_ever

from karmma_ros.errors import KarmmaError
from karmma_ros.orphans import deaf_to_interrupts
from karmma_ros.worker_processes import in_processes


def test_results_come_in_the_order_of_the_items() -> None:
    told: list[None] = []
    results = in_processes(slower_first, range(4), 2, done=partial(told.append, None))
    assert [number for number, _ in results] == [0, 1, 2, 3]
    assert os.getpid() not in {pid for _, pid in results}
    assert len(told) == 4
    assert in_processes(slower_first, [], 2, done=lambda: None) == []


def test_workers_are_deaf_to_interrupts_before_they_run_any_code() -> None:
    """What a process inherits holds from its first instruction on; whatever it does by itself comes later."""
    assert in_processes(is_deaf, range(2), 2, done=lambda: None) == [True, True]
    assert not is_deaf(None)


def test_an_interrupt_while_processes_start_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), deaf_to_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
    assert not is_deaf(None)


def test_what_is_given_up_leaves_nothing_half_written(tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.rglob("begun"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        in_processes(partial(write_for_ever, tmp_path), range(4), 2, done=lambda: None)
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not multiprocessing.active_children(), 10)  # the pool's own thread may be seeing to them


@pytest.mark.parametrize(("work", "said"), [(die, "a worker process died"), (fail, "[01] cannot be done")])
def test_what_goes_wrong_in_a_worker_is_told(work: object, said: str) -> None:
    with pytest.raises(KarmmaError, match=said):
        in_processes(work, range(2), 2, done=lambda: None)  # type: ignore[arg-type]
    wait_until(lambda: not multiprocessing.active_children(), 10)  # the pool's own thread may be seeing to them
