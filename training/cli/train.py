# SPDX-License-Identifier: Apache-2.0
"""`karmma train`: train a student and its teacher, or any of the systems that the paper compares.

karmma train --preset demo --data tabletop --out runs/demo
karmma train --preset demo --system baseline --out runs/baseline
karmma train --preset tiny --out runs/tiny --set train.lr=0.001
karmma train --out runs/demo --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from karmma_ros.console import make_console
from karmma_ros.errors import UsageError
from karmma_training.checkpoint import load_extractors
from karmma_training.config import MODALITIES, Config
from karmma_training.config_file import apply_overrides, load_config, save_config
from karmma_training.data.recording import Recording
from karmma_training.data.store import default_store
from karmma_training.datasets.source import DATA_FORMS, Source, open_recordings, open_source
from karmma_training.learning.processes import open_accelerator
from karmma_training.learning.train import Trainer, load_teacher
from karmma_training.networks.model import build_model
from karmma_training.presets import PRESETS, SYSTEM_NAMES, as_system, preset

__all__ = ["HELP", "add_arguments", "run", "train"]

HELP = "Train a KARMMA student, its teacher or a baseline on rendered scenes or on your own recordings."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma train`."""
    parser.add_argument("--preset", choices=PRESETS, help="default: demo")
    parser.add_argument(
        "--system",
        choices=SYSTEM_NAMES,
        help="default: student (KARMMA_S). teacher; baseline: cross-entropy alone; baseline-dropout: the student "
        "without distillation; extractors, student-extractors: stage 0 alone, of the teacher's or the student's size",
    )
    parser.add_argument("--teacher", metavar="RUN", help="a student's teacher; default: one is trained first, in --out")
    parser.add_argument("--extractors", metavar="RUN", help="take the extractors of this run instead of training them")
    parser.add_argument("--no-distillation", action="store_true", help="cross-entropy without a teacher")
    parser.add_argument("--no-modality-dropout", action="store_true", help="whole modalities are never hidden")
    parser.add_argument(
        "--no-missing-tokens", action="store_true", help="absent tokens are masked instead of learned vectors"
    )
    parser.add_argument("--no-token-runs", action="store_true", help="runs of tokens are never hidden (ours)")
    parser.add_argument("--no-alone-loss", action="store_true", help="no loss of every modality alone (ours)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration instead of a preset")
    parser.add_argument("--data", metavar="DATA", help=f"{DATA_FORMS}; default: tabletop")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--modalities", metavar="LIST", help="e.g. video or video,audio; default all")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch", type=int, metavar="N", help="windows a step")
    parser.add_argument("--minutes-of-data", type=float, metavar="M", help="minutes of rendered training recordings")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--store", type=Path, metavar="DIR", help="sample store; default in the user's cache folder")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that prepare data; default one per core")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of config.yaml, e.g. train.lr=0.001",
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    console = make_console(stderr=True)
    train(_config(args), args.out, resume=args.resume, store=args.store, workers=args.workers, console=console)
    console.print(f"weights: {args.out}/best.pt; next: karmma export {args.out} --out models/NAME")
    return 0


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    store: Path | None = None,
    workers: int | None = None,
    console: Console,
) -> Trainer:
    """Prepare the data and train; a student with a teacher of its own after that teacher.

    :raises UsageError: unusable settings or data; nothing is written then.
    """
    started = any((out / name).exists() for name in ("last.pt", "stage0.pt", "teacher"))
    if not resume and started:
        raise UsageError(f"{out} holds a run already: continue it with --resume or choose another --out")
    accelerator = open_accelerator(config.train)
    source = open_source(config)
    root = store or default_store()
    if not accelerator.is_main_process:
        console = Console(quiet=True)
    with accelerator.main_process_first():
        recordings, validation = _open(source, root, workers, console)
    jobs = [(config, out)]
    if config.distillation.teacher not in ("", "own") and not started:  # that it fits is known before hours are spent
        load_teacher(Path(config.distillation.teacher), config, source.labels())
    if config.distillation.teacher == "own":
        if config.pretrain.extractors and not started:  # that they fit is known before the teacher is trained for hours
            load_extractors(build_model(config, source.labels().sizes()), Path(config.pretrain.extractors))
        larger = as_system(config, "teacher")
        larger.pretrain.extractors = ""  # those that are given are of the student's size
        jobs.insert(0, (larger, out / "teacher"))
        if accelerator.is_main_process:  # a run interrupted in its teacher can be resumed
            out.mkdir(parents=True, exist_ok=True)
            save_config(config, out / "config.yaml")
    for part, folder in jobs:
        trainer = Trainer(
            part, source.labels(), recordings, validation, folder, console, store=root, accelerator=accelerator
        )
        trainer.resume()
        trainer.fit()
    return trainer


def _open(
    source: Source, store: Path, workers: int | None, console: Console
) -> tuple[list[Recording], list[Recording]]:
    """Recordings to train on and to validate with.

    :raises UsageError: the faults of both.
    """
    opened: list[list[Recording]] = []
    faults: list[str] = []
    for split in ("train", "val"):
        try:
            opened.append(open_recordings(source, split, store, workers=workers, console=console))
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("; ".join(dict.fromkeys(faults)))
    return opened[0], opened[1]


def _config(args: argparse.Namespace) -> Config:
    if args.resume:
        given = [
            k
            for k in ("preset", "config", "system", "teacher", "extractors", "data", "modalities", "batch")
            if getattr(args, k)
        ]
        if given or args.set or args.epochs or args.minutes_of_data or args.seed is not None or _switches(args):
            raise UsageError("--resume continues a run as it was started: leave out the other settings")
        if not (args.out / "config.yaml").exists():
            raise UsageError(f"{args.out} holds no run to resume")
        return load_config(args.out / "config.yaml")
    if args.config and args.preset:
        raise UsageError("give --preset or --config, not both")
    if args.config and args.system:
        raise UsageError("give --system with a preset; a --config says what its run is")
    config = load_config(args.config) if args.config else preset(args.preset or "demo", args.system or "student")
    _switch(config, args)
    if args.data:
        config.data.source = args.data
    if args.modalities:
        chosen = [m.strip() for m in args.modalities.split(",")]
        unknown = [m for m in chosen if m not in MODALITIES]
        if unknown:
            raise UsageError(f"--modalities: no modality {unknown[0]!r}; choose from {', '.join(MODALITIES)}")
        config.modalities = [m for m in MODALITIES if m in chosen]
    if args.epochs is not None:
        config.train.epochs = args.epochs
    if args.batch is not None:
        config.train.batch = args.batch
    if args.minutes_of_data is not None:
        config.data.minutes = args.minutes_of_data
    if args.seed is not None:
        config.seed = args.seed
    config = apply_overrides(config, args.set)
    config.check()
    return config


def _switches(args: argparse.Namespace) -> list[str]:
    """The enhancements that are switched off."""
    return [name for name, given in vars(args).items() if name.startswith("no_") and given]


def _switch(config: Config, args: argparse.Namespace) -> None:
    """The enhancements, each on its own."""
    if args.teacher:
        if config.system != "student" or args.no_distillation:
            raise UsageError("--teacher is for a student with distillation")
        config.distillation.teacher = args.teacher
    if args.extractors:
        config.pretrain.extractors = args.extractors
    if args.no_distillation:
        config.distillation.teacher = ""
    if args.no_modality_dropout:
        config.dropout.modality_p = 0.0
    if args.no_missing_tokens:
        config.fusion.missing = "masked"
    if args.no_token_runs:
        config.dropout.runs_p = 0.0
    if args.no_alone_loss:
        config.train.alone_weight = 0.0
