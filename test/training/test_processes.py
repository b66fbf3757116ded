# SPDX-License-Identifier: Apache-2.0
"""Power cuts and several processes, with real processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_ros.errors import UsageError  # noqa: E402
from karmma_training.checkpoint import load_tensors  # noqa: E402
from karmma_training.config_file import save_config  # noqa: E402
from karmma_training.learning.processes import own_rows  # noqa: E402
from karmma_training.presets import as_system  # noqa: E402

if TYPE_CHECKING:
    from fixtures.training import TinyRun

TIMEOUT_S = 600
KARMMA = [sys.executable, "-m", "karmma_ros.cli.main"]


def write_config(tiny_run: TinyRun, path: Path, system: str) -> list[str]:
    """A short run of some system; returns the options that every call of it needs."""
    config = as_system(tiny_run.config, system)
    config.data.minutes = config.data.validation_minutes = 0.3
    config.train.epochs = 2
    config.train.batch = 16
    config.train.validate_every = 2
    config.train.windows_per_second = 10
    config.train.checkpoint_s = 0.0  # after every step
    config.train.precision = "fp32"
    config.pretrain.video = config.pretrain.flow = config.pretrain.audio = 0.5
    config.pretrain.batch = 32
    save_config(config, path)
    return ["--store", str(tiny_run.store)]


# karmma, but it dies by kill -9 inside the optimiser step of the given number, counted from its start
DYING = """
import os, signal, sys
import torch
left = [int(sys.argv.pop(1))]
step = torch.optim.AdamW.step
def counted(self, *args, **kwargs):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
torch.optim.AdamW.step = counted
from karmma_ros.cli.main import main
sys.exit(main())
"""


def die_in_step(count: int, command: list[str]) -> None:
    """Run `karmma ...` until it dies in its optimiser step number `count`."""
    dying = [sys.executable, "-c", DYING, str(count), *command]
    ended = subprocess.run(dying, timeout=TIMEOUT_S, stderr=subprocess.DEVNULL, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_run_killed_at_any_time_ends_with_the_weights_of_one_that_was_not(tiny_run: TinyRun, tmp_path: Path) -> None:
    options = write_config(tiny_run, tmp_path / "run.yaml", "student")
    start = ["train", "--config", str(tmp_path / "run.yaml"), *options, "--out"]
    resume = ["train", "--resume", *options, "--out"]
    whole_run = [*KARMMA, *start, str(tmp_path / "whole")]
    subprocess.run(whole_run, check=True, timeout=TIMEOUT_S, stderr=subprocess.DEVNULL)

    cut = tmp_path / "cut"
    die_in_step(5, [*start, str(cut)])  # in the teacher's stage 0
    assert (cut / "teacher" / "stage0.pt").exists()
    die_in_step(25, [*resume, str(cut)])  # in its stage 1
    taught = load_tensors(cut / "teacher" / "last.pt")["step"]
    assert 0 < taught < load_tensors(tmp_path / "whole" / "teacher" / "last.pt")["step"]
    die_in_step(45, [*resume, str(cut)])  # in the student's stage 2
    assert 0 < load_tensors(cut / "last.pt")["step"] < load_tensors(tmp_path / "whole" / "last.pt")["step"]
    subprocess.run([*KARMMA, *resume, str(cut)], check=True, timeout=TIMEOUT_S, stderr=subprocess.DEVNULL)
    for part in ("teacher/last.pt", "last.pt", "teacher/best.pt", "best.pt"):
        whole, again = load_tensors(tmp_path / "whole" / part), load_tensors(cut / part)
        assert whole.get("step") == again.get("step")
        for group in {"weights", "average"} & whole.keys():
            for name, value in whole[group].items():
                assert torch.equal(value, again[group][name]), f"{part} {group} {name}"
    for part in ("teacher/best.json", "best.json"):
        assert json.loads((tmp_path / "whole" / part).read_text()) == json.loads((cut / part).read_text())
    with (cut / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert not (cut / "stage0.pt").exists()


def test_two_processes_train_like_one(tiny_run: TinyRun, tmp_path: Path) -> None:
    """A teacher's fusion has no batch norm: the halves of a batch add up to the gradient of the whole."""
    options = write_config(tiny_run, tmp_path / "run.yaml", "teacher")
    options += ["--extractors", str(tiny_run.run / "teacher"), "--set", "fusion.dropout=0"]
    options += ["--set", "train.alone_weight=0", "--set", "train.checkpoint_s=100"]
    command = ["train", "--config", str(tmp_path / "run.yaml"), *options, "--out"]
    subprocess.run([*KARMMA, *command, str(tmp_path / "one")], check=True, timeout=TIMEOUT_S, stderr=subprocess.DEVNULL)
    in_two_processes([*command, str(tmp_path / "two")])
    one, two = (load_tensors(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert one["step"] == two["step"] > 5
    for group in ("weights", "average"):
        for name, value in one[group].items():
            other = two[group][name]
            if name.endswith("qkv.bias"):  # no key bias changes a softmax over keys: its gradient is rounding alone
                value, other = (torch.cat([t.chunk(3)[0], t.chunk(3)[2]]) for t in (value, other))
            torch.testing.assert_close(
                value, other, atol=5e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
            )
    scores, others = (json.loads((tmp_path / name / "best.json").read_text())["validation"] for name in ("one", "two"))
    assert scores.keys() == others.keys()
    for subset, score in scores.items():  # each process has validated half of the recordings
        assert others[subset] == pytest.approx(score, abs=0.02), subset
    log = (tmp_path / "two" / "log.txt").read_text()
    assert log.count("epoch   1 ") == 1, "one process writes"


def test_a_student_and_its_teacher_train_in_two_processes_of_which_one_is_killed(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    """Stage 0 included, after which every process has batch-norm statistics of its own. Who is killed, the one that
    writes or the other, is all the same to the weights."""
    options = write_config(tiny_run, tmp_path / "run.yaml", "student")
    start = ["train", "--config", str(tmp_path / "run.yaml"), *options, "--set", "train.epochs=1", "--out"]
    resume = ["train", "--resume", *options, "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    in_two_processes([*start, str(whole)])
    best = json.loads((whole / "best.json").read_text())
    assert best["step"] == load_tensors(whole / "last.pt")["step"]

    assert in_two_processes([*start, str(cut)], dies=(1, 5)), "in the teacher's stage 0"
    assert (cut / "teacher" / "stage0.pt").exists()
    assert in_two_processes([*resume, str(cut)], dies=(0, 25)), "in its stage 1"
    assert load_tensors(cut / "teacher" / "last.pt")["step"] > 0
    in_two_processes([*resume, str(cut)])
    for part in ("teacher/last.pt", "last.pt"):
        one, other = (load_tensors(folder / part)["weights"] for folder in (whole, cut))
        for name, value in one.items():
            if "running" not in name:  # the killed process took its own statistics along
                assert torch.equal(value, other[name]), f"{part} {name}"


def in_two_processes(command: list[str], *, dies: tuple[int, int] | None = None) -> bool:
    """Run `karmma ...` under torchrun.

    :param dies: which process dies by kill -9, and in which of its optimiser steps.
    :return: whether it failed, as it must if one dies.
    """
    who, when = dies or (0, 10**9)
    script = Path(command[-1]).with_suffix(".py")
    step = f"'{when}' if os.environ['RANK'] == '{who}' else '0'"
    script.write_text(f"import os, sys\nsys.argv.insert(1, {step})\n{DYING}")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, str(script), *command], timeout=TIMEOUT_S, env=environment, capture_output=True, text=True
    )
    assert dies or done.returncode == 0, done.stderr[-3000:]
    return done.returncode != 0


def test_processes_share_out_the_rows_of_a_batch() -> None:
    shares = [own_rows(SimpleNamespace(process_index=i, num_processes=3), 12) for i in range(3)]  # type: ignore[arg-type]
    assert sorted(row for share in shares for row in share) == list(range(12))
    assert {len(share) for share in shares} == {4}, "equal shares: the mean of their gradients is that of the batch"
    with pytest.raises(UsageError, match="a batch of 13 cannot be shared by 3 processes"):
        own_rows(SimpleNamespace(process_index=0, num_processes=3), 13)  # type: ignore[arg-type]
