# SPDX-License-Identifier: Apache-2.0
"""`karmma train`: train a student.

karmma train --preset demo --data tabletop --out runs/demo
karmma train --preset tiny --out runs/tiny --set train.lr=0.001
karmma train --out runs/demo --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from karmma_ros.errors import UsageError
from karmma_training.config import MODALITIES, Config, apply_overrides, load_config, preset
from karmma_training.data.source import open_recordings, open_source
from karmma_training.data.store import default_store
from karmma_training.train import Trainer

__all__ = ["HELP", "add_arguments", "run", "train"]

HELP = "Train a KARMMA student on rendered scenes or on your own recordings."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `karmma train`."""
    parser.add_argument("--preset", choices=["tiny", "demo"], help="default: demo")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration instead of a preset")
    parser.add_argument("--data", metavar="NAME|CSV", help="tabletop (rendered; default) or a manifest CSV")
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
    console = Console(stderr=True)
    train(_config(args), args.out, resume=args.resume, store=args.store, workers=args.workers, console=console)
    console.print(f"weights: {args.out}/best.pt; next: karmma export {args.out} --out models/NAME", highlight=False)
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
    """Prepare the data and train.

    :raises UsageError: unusable settings or data; nothing is written then.
    """
    if not resume and (out / "last.pt").exists():
        raise UsageError(f"{out} holds a run already: continue it with --resume or choose another --out")
    source = open_source(config)
    root = store or default_store()
    recordings = {
        split: open_recordings(source, split, root, workers=workers, console=console) for split in ("train", "val")
    }
    trainer = Trainer(config, source.labels(), recordings["train"], recordings["val"], out, console)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer


def _config(args: argparse.Namespace) -> Config:
    if args.resume:
        given = [
            k
            for k in ("preset", "config", "data", "modalities", "batch", "minutes_of_data", "seed")
            if getattr(args, k)
        ]
        if given or args.set or args.epochs:
            raise UsageError("--resume continues a run as it was started: leave out the other settings")
        if not (args.out / "last.pt").exists():
            raise UsageError(f"{args.out} holds no run to resume")
        return load_config(args.out / "config.yaml")
    if args.config and args.preset:
        raise UsageError("give --preset or --config, not both")
    config = load_config(args.config) if args.config else preset(args.preset or "demo")
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
