# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle: what it was trained on, how well it does, and what it does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from karmma_training.bundle.lineage import Ancestor
from karmma_training.config import Config
from karmma_training.data.labels import Labels
from karmma_training.datasets.source import source_name

__all__ = ["accuracy_table", "model_card", "reduced_card", "update_evaluation"]

_START, _END = "<!-- evaluation -->", "<!-- /evaluation -->"
_EVALUATION = re.compile(re.escape(_START) + ".*?" + re.escape(_END), re.DOTALL)
_UNKNOWN = f"{_START}\nNot evaluated on the test split yet (`karmma evaluate`).\n{_END}"

_TABLETOP_LIMITS = """\
This bundle was trained on rendered tabletop scenes and nothing else. It knows nothing of real kitchens, real hands
or real sounds: on a real camera its answers mean nothing. It is there to show and to test the whole system with
sensors that fail. For real use, train on your own recordings (`karmma train --data manifest.csv --out RUN`)."""

_OWN_LIMITS = """\
It was trained and measured on the data named below, and on nothing else. Its licence is bound by theirs, and by that
of any weights that it began with."""


def model_card(
    name: str,
    config: Config,
    labels: Labels,
    about: dict[str, Any],
    temperature: dict[str, float],
    size_mb: float,
    licence: str,
    ancestors: Sequence[Ancestor] = (),
    picture: str = "",
    precisions: Mapping[str, str] | None = None,
) -> str:
    """The card's text (Markdown).

    :param about: best.json of the run.
    :param licence: of the weights.
    :param ancestors: the runs that it was made from, itself last.
    :param picture: file name of the training's curves, beside the card.
    :param precisions: of the graphs that are not in FP32.
    """
    settings = yaml.safe_dump(_without_paths(config), sort_keys=False).rstrip()
    rendered = config.data.source == "tabletop"
    data = (
        f"Rendered by `karmma_ros.tabletop`: {config.data.minutes:g} minutes to train on, "
        f"{config.data.validation_minutes:g} to choose the epoch and fit the temperatures; no scene is shared between "
        "the splits."
        if rendered
        else f"`{source_name(config.data.source)}`."
    )
    classes = "\n".join(f"- {head}: {', '.join(values)}" for head, values in labels.heads.items())
    graphs = f"\nPrecision: {_fewer(precisions, len(config.modalities) + 1)}." if precisions else ""
    whose = "These figures are the run's own, in FP32. " if precisions else ""
    trained_on = f"\nThe {config.system} was trained on {about['machine']}." if "machine" in about else ""
    temperatures = ", ".join(f"{head} {value:g}" for head, value in temperature.items())
    return f"""# {name}

A {_what(config)} (`{config.preset}` preset, {size_mb:.1f} MB) that names actions from
{", ".join(config.modalities)}, and from any part of them, over {_window(config)}.
{_how(config)} An independent implementation of arXiv 2504.08578. Licence of the weights: {licence}.{graphs}

## What it is not
{_TABLETOP_LIMITS if rendered else _OWN_LIMITS}

## Classes
{classes}

{len(labels.actions)} valid actions.

## Data
{data}{trained_on}
{_how_made(ancestors, picture)}
## Accuracy
Top-1 in % on the validation split, epoch {about["epoch"]}; the epoch was chosen by the mean over the subsets. Action:
verb and noun both right, arg-max over the valid pairs. Settled: half a second around changes of action left out.

{accuracy_table(about["validation"])}

{whose}Temperatures fitted on the same split: {temperatures}.

{_UNKNOWN}

## Configuration
```yaml
{settings}
```
"""


def reduced_card(card: str, source: str, name: str, size_mb: float, precisions: Mapping[str, str], graphs: int) -> str:
    """The card of a bundle in fewer bits, out of that of the bundle in FP32.

    :param source: what that one is called; precisions: of the graphs that are not in FP32; graphs: how many there are.
    """
    text = re.sub(r"\A# .*", f"# {name}", card)
    text = re.sub(r"preset, [\d.]+ MB\)", f"preset, {size_mb:.1f} MB)", text, count=1)
    made = f"Made from `{source}`: {_fewer(precisions, graphs)}. Figures of the validation split are those in FP32."
    text = text.replace("\n\n## ", f"\n{made}\n\n## ", 1)
    return _EVALUATION.sub(lambda _: _UNKNOWN, text)


def _fewer(precisions: Mapping[str, str], count: int) -> str:
    """In words; count: of all graphs."""
    if len(precisions) == count and len(set(precisions.values())) == 1:
        return f"all graphs in {next(iter(precisions.values())).upper()}"
    graphs = ", ".join(f"{graph} in {precision.upper()}" for graph, precision in precisions.items())
    return graphs if len(precisions) == count else f"{graphs}; the others in FP32"


def _without_paths(config: Config) -> dict[str, Any]:
    """Settings to show: of another run's folder, or a file, the name; where it lay says nothing elsewhere."""
    tree = asdict(config)
    for section, key in (("distillation", "teacher"), ("pretrain", "extractors")):
        tree[section][key] = Path(tree[section][key]).name
    tree["data"]["source"] = source_name(config.data.source)
    for modality in config.modalities:
        tree[modality]["weights"] = Path(tree[modality]["weights"]).name
    return tree


def _how_made(ancestors: Sequence[Ancestor], picture: str) -> str:
    """The section on the runs behind the bundle."""
    if len(ancestors) < 2 and not picture:
        return ""
    rows = [
        "\n## How it was made",
        "Run after run; rendered scenes are counted by number, and other numbers are other scenes.\n",
        "| run | trained on | first scene | epochs | seed |",
        "|---|---|---|---|---|",
    ]
    for run in ancestors:
        c = run.config
        if c is None:
            rows.append(f"| {run.title} | not known: its folder is not there | - | - | - |")
            continue
        rendered = c.data.source == "tabletop"
        stage0 = c.system == "extractors"
        passes = ", ".join(f"{m} {getattr(c.pretrain, m):g}" for m in c.modalities)
        rows.append(
            f"| {run.title} | {f'{c.data.minutes:g} min' if rendered else source_name(c.data.source)} "
            f"| {c.data.first_scene if rendered else '-'} | {passes if stage0 else c.train.epochs} | {c.seed} |"
        )
    if picture:
        rows.append(f"\n![Loss and validation accuracy by epoch]({picture})")
    return "\n".join(rows) + "\n"


def _what(config: Config) -> str:
    if config.system == "teacher":
        return "KARMMA teacher"
    return (
        "KARMMA student"
        if config.distillation.teacher
        else "student of KARMMA's architecture, trained without a teacher,"
    )


def _window(config: Config) -> str:
    clips = [section for m in config.modalities if m != "audio" and (section := config.slots(m)).context > 1]
    if not clips:
        return f"a window of {config.window_s:g} s"
    return f"clips of {max((s.context - 1) * s.context_step_s for s in clips):.1f} s"


def _how(config: Config) -> str:
    """One sentence on the training."""
    parts = []
    if config.distillation.teacher:
        d = config.distillation
        parts.append(f"distilled from a larger teacher (alpha {d.alpha:g}, temperature {d.temperature:g})")
    if config.dropout.modality_p:
        parts.append(f"modality dropout {config.dropout.modality_p:g}")
    if config.fusion.missing == "learned":
        parts.append("learned missing-modality tokens")
    if config.dropout.runs_p:
        parts.append("hidden runs of tokens")
    if config.train.alone_weight:
        parts.append("a loss of every modality alone")
    return f"Trained with cross-entropy{''.join(f', {part}' for part in parts)}; seed {config.seed}."


def accuracy_table(scores: dict[str, dict[str, float]]) -> str:
    """Markdown table of accuracies, one row per sensor pattern."""
    first = next(iter(scores.values()))
    columns = [c for c in first if not c.endswith("_top5") or c == "action_top5"]
    head = f"| sensors | {' | '.join(c.replace('_', ' ') for c in columns)} |"
    rows = [f"| {name} | {' | '.join(f'{100 * s[c]:.1f}' for c in columns)} |" for name, s in scores.items()]
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *rows])


def update_evaluation(card: Path, evaluation: dict[str, Any]) -> None:
    """Put an evaluation's figures into an existing card; a card without the place for them is left alone."""
    if not card.is_file():
        return
    text = card.read_text()
    curve = evaluation.get("dropout_curve")
    section = (
        f"{_START}\nIn % on the {evaluation['split']} split, {evaluation['minutes']:.1f} minutes, "
        f"{evaluation['windows']} windows (`{evaluation['command']}`; majority class "
        f"{100 * evaluation['majority_share']:.1f}):\n\n"
        f"{accuracy_table({**evaluation['subsets'], **evaluation.get('patterns', {})})}\n"
    )
    if curve:
        head = " | ".join(f"{100 * p:.0f} %" for p in curve["p"])
        values = " | ".join(f"{100 * v:.1f}" for v in curve["mean"])
        section += (
            f"\nAction accuracy when every modality fails with a probability, at least one staying; area "
            f"{100 * curve['area']:.1f}:\n\n| {head} |\n{'|---' * len(curve['p'])}|\n| {values} |\n"
        )
    for what, lost in evaluation.get("losses", {}).items():
        head = " | ".join(f"{100 * share:.0f} %" for share in lost["share"])
        values = " | ".join(f"{100 * value:.1f}" for value in lost["action"])
        kind = {"frames": "frames (and the flow that ends with them)", "sound": "chunks of sound (0.1 s)"}[what]
        section += (
            f"\nAction accuracy when single {kind} are lost:\n\n"
            f"| {head} |\n{'|---' * len(lost['share'])}|\n| {values} |\n"
        )
    for picture, caption in (
        ("evaluation.png", "Accuracy, dropout curve and calibration"),
        ("evaluation-confusion.png", "Confusions"),
    ):
        if (card.parent / picture).is_file():
            section += f"\n![{caption}]({picture})\n"
    section += _END
    if _EVALUATION.search(text):
        card.write_text(_EVALUATION.sub(lambda _: section, text))
