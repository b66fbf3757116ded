# SPDX-License-Identifier: Apache-2.0
"""The comparison as a document: the paper's two tables and its curve, what each ingredient is worth, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from karmma_ros.files import whole_file
from karmma_training.comparison.ablation import BY_NAME, CONTRASTS, LARGER_FACTOR, RUNS, Run
from karmma_training.comparison.measured import Measured, area, through_outages
from karmma_training.config import Config
from karmma_training.datasets.source import source_name
from karmma_training.evaluation.cost import costs
from karmma_training.evaluation.patterns import initials
from karmma_training.evaluation.plots import plot_comparison
from karmma_training.presets import as_system

__all__ = ["write_results"]


def write_results(path: Path, measured: Measured, student: Config, command: str) -> None:
    """Write the document and, beside it, the figure."""
    paper = measured.runs("paper")
    figure = path.with_name(f"{path.stem}-dropout.png")
    if paper:
        curves = {r.title: [e["dropout_curve"] for e in measured.evaluations(r.name).values()] for r in paper}
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(curves, f"{student.data.source}, test split, {_of_seeds(map(len, curves.values()))}", figure)
    sections = [
        _introduction(measured, student, command),
        _paper_tables(measured, paper, figure.name),
        _in_words(measured),
        _contrasts(measured),
        _convergence(measured),
        _all_rows(measured),
        _costs(measured, student),
        _time(measured, rendered=student.data.source == "tabletop"),
    ]
    with whole_file(path) as temporary:
        temporary.write_text("\n\n".join(section for section in sections if section) + "\n")


def _introduction(measured: Measured, student: Config, command: str) -> str:
    evaluations = [e for run in RUNS for e in measured.evaluations(run.name).values()]
    first = evaluations[0] if evaluations else {}
    machines = [f"{mark} {machine}".strip() for machine, mark in _marks(measured).items()]
    seeds = [len(measured.evaluations(run.name)) for run in measured.runs()] or [0]
    spread = _of_seeds(seeds) + (": mean +- standard deviation" if max(seeds) > 1 else "")
    d, t = student.data, student.train
    rendered = d.source == "tabletop"
    data = (
        f"{d.minutes:g} minutes of rendered scenes to train on, other scenes for every seed; the larger set, "
        f"{LARGER_FACTOR} times as long, shares no scene with any of them"
        if rendered
        else f"`{source_name(d.source)}`; there is no larger set: the teacher's extractors see the same data"
    )
    return f"""# Results

Written by `{command}`,
on {"; ".join(machines) or "no machine yet"}. The numbers: `{measured.path.name}` beside this page.

Data: {data}. {t.epochs} epochs of {t.windows_per_second:g} windows a second of recording. The epoch is the one with
the best mean over the modality subsets on the validation split; the test split ({first.get("minutes", 0):g}
minutes, {first.get("windows", 0)} windows) is read once by every run, after its training. All systems have the same
data, epochs and settings, none of which was tuned for one of them alone; students of one seed start from the same
extractors. The teacher's extractors are trained once on a machine, for all seeds: deviations leave theirs out.
Differences are taken between runs of one machine. What is shown: {spread}.
Action accuracy in %, top-1, verb and noun both right. Area: mean over the curve's ten probabilities.{_note(measured)}

EPIC-KITCHENS-100 and Something-Something v2, on which the paper reports, were not run: what follows says nothing about
accuracy on them."""


def _note(measured: Measured) -> str:
    return f"\n\nHow it came about: {measured.note}" if measured.note else ""


def _of_seeds(counts: Iterable[int]) -> str:
    low, *_, high = sorted([*counts] * 2)
    return f"{low} to {high} seeds" if low < high else "one seed" if high == 1 else f"{high} seeds"


def _paper_tables(measured: Measured, paper: Sequence[Run], figure: str) -> str:
    if not paper:
        return ""
    values = {run.name: list(measured.evaluations(run.name).values()) for run in paper}
    first = values[paper[0].name][0]
    most = max(map(len, values.values()))
    titles = [run.title + _fewer(len(values[run.name]), most) for run in paper]

    def row(label: str, value: Callable[[Mapping[str, Any]], float]) -> list[str]:
        return [label, *(_spread([100 * value(e) for e in values[run.name]]) for run in paper)]

    subsets, counted = (
        [row(initials(name), lambda e, n=name, c=column: e["subsets"][n][c]) for name in first["subsets"]]  # type: ignore[misc]
        for column in ("action", "action_independent")
    )
    levels = [
        row(f"{100 * p:.0f} %", lambda e, i=i: e["dropout_curve"]["mean"][i])  # type: ignore[misc]
        for i, p in enumerate(first["dropout_curve"]["p"])
    ]
    levels.append(row("**area**", lambda e: e["dropout_curve"]["area"]))
    commonest = _spread([100 * first["majority_share"]])
    return f"""## The paper's tables

Sensors that work, arg-max over the valid pairs of verb and noun (naming the commonest action: {commonest}):

{_table(["modalities", *titles], subsets)}

The same as the paper counts, verb and noun each by their own arg-max:

{_table(["modalities", *titles], counted)}

Every modality fails with a probability, at least one stays:

{_table(["probability", *titles], levels)}

![Accuracy against the probability that a modality fails]({figure})"""


def _in_words(measured: Measured) -> str:
    """Where the gain comes from, where enough was run to say it."""
    gaps = measured.gaps
    dropout = measured.pairs("baseline-dropout", "baseline")
    distilled = measured.pairs("student", "baseline-dropout")
    sentences: list[tuple[str, list[list[float]]]] = [
        ("Area under the curve, KARMMA_S over Baseline: {} points.", [gaps("student", "baseline")]),
        ("Of these, modality dropout and missing-modality tokens bring {}", [gaps("baseline-dropout", "baseline")]),
        ("and distillation {}.", [gaps("student", "baseline-dropout")]),
        (
            "Dropout and tokens bring {} points of accuracy where no sensor fails,\n"
            "{} where sensors come and go within the window (outages, below).",
            [_at_full(dropout), _at_outages(dropout)],
        ),
        (
            "Distillation brings {} with the camera among the sensors, {} without it (mean over those subsets).",
            [
                _over_subsets(distilled, lambda name: "video" in name),
                _over_subsets(distilled, lambda name: "video" not in name),
            ],
        ),
        (
            "Modality dropout alone, with absent tokens masked as in the Baseline, brings {} of area over it;",
            [gaps("baseline-masked", "baseline")],
        ),
        ("learned tokens in place of masking bring {}.", [gaps("baseline-dropout", "baseline-masked")]),
        (
            "A teacher that saw only the student's data brings {} over Baseline w/ delta:",
            [gaps("student-same", "baseline-dropout")],
        ),
        ("what the teacher's extractors know from elsewhere is worth {}.", [gaps("student", "student-same")]),
        (
            "Without any teacher, starting from extractors of that larger set brings {} over Baseline w/ delta",
            [gaps("baseline-dropout-larger", "baseline-dropout")],
        ),
        ("and {} over KARMMA_S.", [gaps("baseline-dropout-larger", "student")]),
        (
            "Between students that both start from those, distillation brings {}.",
            [gaps("student-larger", "baseline-dropout-larger")],
        ),
        ("With twice the epochs distillation brings {}:", [gaps("student-long", "baseline-dropout-long")]),
        ("KARMMA_S gains {} by them,", [gaps("student-long", "student")]),
        ("Baseline w/ delta {}.", [gaps("baseline-dropout-long", "baseline-dropout")]),
    ]
    most = max(len(values) for _, of_sentence in sentences for values in of_sentence)
    known = [
        text.format(*(_spread(values, sign=True) + _seeds(len(values), most) for values in of_sentence))
        for text, of_sentence in sentences
        if all(of_sentence)
    ]
    without = _without_video(measured)
    return "## In words\n\n" + "\n".join([*known, *([without] if without else [])]) if known else ""


_Pairs = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]  # evaluations with and without what is asked about


def _at_full(pairs: _Pairs) -> list[float]:
    """Points of action accuracy with all sensors, by pair."""
    full = next(iter(pairs[0][0]["subsets"])) if pairs else ""
    return _over_subsets(pairs, lambda name: name == full)


def _over_subsets(pairs: _Pairs, chosen: Callable[[str], bool]) -> list[float]:
    """Points of action accuracy, mean over some modality subsets, by pair that has any of them."""
    both = [(more["subsets"], less["subsets"]) for more, less in pairs]
    points = [[100 * (a[name]["action"] - b[name]["action"]) for name in a if chosen(name)] for a, b in both]
    return [mean(of_pair) for of_pair in points if of_pair]


def _at_outages(pairs: _Pairs) -> list[float]:
    """Points of mean accuracy through outages, by pair that both know it."""
    both = [(through_outages(a), through_outages(b)) for a, b in pairs]
    return [a - b for a, b in both if a is not None and b is not None]


def _seeds(count: int, most: int) -> str:
    """Of how many seeds a sentence is, where that is not understood."""
    return " (one seed)" if count == 1 else _fewer(count, most)


def _fewer(count: int, most: int) -> str:
    """Of how many seeds a figure is, where others beside it are of more."""
    return "" if count == most else f" ({count} seed{'s' * (count > 1)})"


# what is worth knowing of how a lost camera hurts
WITHOUT_VIDEO = ("student", "baseline-dropout", "baseline", "baseline-whole", "baseline-larger")
LEFT = {"without video": "flow+audio", "flow alone": "flow", "sound alone": "audio"}


def _without_video(measured: Measured) -> str:
    """What the students keep of their accuracy when the modality that knows most is gone."""
    rows = []
    for run in (BY_NAME[name] for name in WITHOUT_VIDEO):
        of_run = [e["subsets"] for e in measured.evaluations(run.name).values()]
        of_run = [subsets for subsets in of_run if next(iter(subsets.values()))["action"] > 0]
        kept = {
            name: mean(s[name]["action"] / next(iter(s.values()))["action"] for s in of_run)
            for name in LEFT.values()
            if of_run and all(name in subsets for subsets in of_run)
        }
        if kept:
            rows.append([run.title, *(f"{100 * kept[n]:.0f}" if n in kept else "-" for n in LEFT.values())])
    if not rows:
        return ""
    return f"""
What is kept of the accuracy with all sensors, in %:

{_table(["system", *LEFT], rows)}

The paper's Baseline keeps 14 % without video on EPIC-KITCHENS-100 and 65 % on Something-Something v2, its Baseline w/
delta 65 and 84 %, its KARMMA_S 72 and 91 %: how far a Baseline falls is a matter of how much the camera knows that the
other sensors do not."""


def _contrasts(measured: Measured) -> str:
    rows = []
    for question, more, less in CONTRASTS:
        gaps = measured.gaps(more, less)
        if not gaps:
            continue
        pairs = measured.pairs(more, less)
        at_outages = _at_outages(pairs)
        clear = "one seed" if len(gaps) < 2 else "yes" if abs(mean(gaps)) > stdev(gaps) else "no"
        rows.append(
            [
                question,
                f"{BY_NAME[more].title} - {BY_NAME[less].title}",
                _spread(gaps, sign=True),
                ", ".join(f"{g:+.1f}" for g in gaps),
                _spread(_at_full(pairs), sign=True),
                _spread(at_outages, sign=True) + _fewer(len(at_outages), len(gaps)) if at_outages else "-",
                clear,
                _interval(gaps),
            ]
        )
    if not rows:
        return ""
    head = ["what it is worth", "compared", "area, points", "per seed", "all sensors, points"]
    head += ["outages, points", "beyond deviation", "95 % interval"]
    return f"""## What each ingredient is worth

Differences between runs of the same seed, on the same training and test scenes. Beyond deviation: the mean is larger
than the seeds' standard deviation. 95 % interval: of the mean, by Student's t; without 0 in it, the sign is hardly an
accident of the seeds. Both are of the area. Outages: every sensor comes and goes for itself, out for 0.3 to 1.5 s at a
time, so that windows hold the beginnings and ends of what sensors sent; mean accuracy with sensors out for 25, 50 and
75 % of the time.

{_table(head, rows)}"""


def _convergence(measured: Measured) -> str:
    """Whether more training would have changed the order."""
    curves = {
        run: [dict(o.validation) for o in measured.outcomes(run.name).values() if o.validation]
        for run in measured.runs()
        if run.group == "paper" or run.epochs_factor > 1
    }
    epochs = sorted({epoch for of_run in curves.values() for scores in of_run for epoch in scores})
    rows = [
        [
            run.title,
            f"{len(of_run)}",
            *(f"{100 * mean(s[e] for s in of_run):.1f}" if all(e in s for s in of_run) else "-" for e in epochs),
        ]
        for run, of_run in curves.items()
        if of_run
    ]
    if not rows:
        return ""
    return f"""## Convergence

Mean accuracy over the modality subsets on the validation split, by epoch, in %; of runs on record with it.

{_table(["system", "seeds", *(f"epoch {epoch}" for epoch in epochs)], rows)}"""


def _all_rows(measured: Measured) -> str:
    rows = []
    subsets: Sequence[str] = ()
    for run in measured.runs():
        evaluations = list(measured.evaluations(run.name).values())
        subsets = list(evaluations[0]["subsets"])
        values = [[100 * e["subsets"][name]["action"] for e in evaluations] for name in subsets]
        areas = _spread([area(e) for e in evaluations])
        through = [value for e in evaluations if (value := through_outages(e)) is not None]
        outages = _spread(through) + _fewer(len(through), len(evaluations)) if through else "-"
        rows.append([run.title, f"{len(evaluations)}", areas, *(f"{mean(v):.1f}" for v in values), outages])
    if not rows:
        return ""
    return f"""## All runs

{_table(["system", "seeds", "area", *(initials(name) for name in subsets), "outages"], rows)}

KARMMA_T, KARMMA_S and Baseline w/ delta are the paper's: what is ours on top (runs of tokens dropped in training, and
a loss of each head alone) is off in them and has rows of its own; `karmma train` has both on unless told otherwise
(`--no-token-runs`, `--no-alone-loss`).
Baselines without learned tokens mask what is absent: it is not attended to, and a modality without any token casts no
vote, unless the row says otherwise. All systems train on windows in which single samples are missing, as sensors lose
them, and which for three in four encode only some of their slots, to save time, unless the row says otherwise."""


def _costs(measured: Measured, student: Config) -> str:
    runs = measured.runs()
    if not runs:
        return ""
    evaluation = next(iter(measured.evaluations(runs[0].name).values()))
    heads = {head: len(names) for head, names in evaluation["heads"].items()}
    ours, theirs = costs(as_system(student, "baseline-dropout"), heads), costs(as_system(student, "teacher"), heads)
    ratios = {name: theirs[name]["gflops"] / ours[name]["gflops"] for name in ours}
    rows = [
        [
            initials(name),
            f"{theirs[name]['gflops']:.2f} / {ours[name]['gflops']:.2f}",
            f"{ratios[name]:.2f}",
            f"{theirs[name]['megabytes']:.1f} / {ours[name]['megabytes']:.1f}",
            f"{theirs[name]['megabytes'] / ours[name]['megabytes']:.1f}",
            f"{theirs[name]['parameters'] / 1e3:.0f} k / {ours[name]['parameters'] / 1e3:.0f} k",
        ]
        for name in ours
    ]
    return f"""## Cost, teacher / student

One window from its samples, every slot encoded, float32; GFLOPs are 2 x MAC of convolutions and matrix products, an
absent modality contributes nothing; memory is weights and the most activations alive at once. On a robot the student
encodes one sample per frame instead of the window.

{_table(["modalities", "GFLOPs", "ratio", "MB", "ratio", "parameters"], rows)}{_above_a_quarter(ratios)}"""


def _above_a_quarter(ratios: Mapping[str, float]) -> str:
    """Which subsets miss what the paper's student keeps to, a quarter of its teacher's GFLOPs."""
    names = [initials(name) for name, ratio in ratios.items() if ratio < 4]
    return f"\n\nMore than a quarter of the teacher's GFLOPs: {', '.join(names)}." if names else ""


def _time(measured: Measured, *, rendered: bool) -> str:
    marks = _marks(measured)
    rows = [
        [
            run.title if rendered else run.title.replace(", larger set", ""),
            ", ".join(f"{o.minutes:.1f} {marks[o.machine]}".strip() for o in outcomes.values()),
        ]
        for run in RUNS
        if (outcomes := measured.outcomes(run.name))
    ]
    return f"""## Minutes per run

Training and the validation in it, without preparing the data; several may have run at the same time.
{"The letters are those of the machines at the top." if len(marks) > 1 else ""}

{_table(["run", "minutes, per seed"], rows)}"""


def _marks(measured: Measured) -> dict[str, str]:
    """{machine: how it is marked}; "" where there is only one."""
    names = list(dict.fromkeys(o.machine for run in RUNS for o in measured.outcomes(run.name).values()))
    return {name: f"({chr(ord('a') + i)})" if len(names) > 1 else "" for i, name in enumerate(names)}


def _spread(values: Sequence[float], *, sign: bool = False) -> str:
    plus = "+" if sign else ""
    if len(values) < 2:
        return f"{values[0]:{plus}.1f}"
    return f"{mean(values):{plus}.1f} +- {stdev(values):.1f}"


# two-sided 95 % quantile of Student's t, by degrees of freedom
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def _student_t(freedom: int) -> float:
    """That quantile; beyond the table by its expansion around the normal distribution's (Abramowitz, Stegun 26.7.5)."""
    z = 1.959964
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96)
    return _T.get(freedom, sum(term / freedom**power for power, term in enumerate(terms)))


def _interval(values: Sequence[float]) -> str:
    """Where the mean of so few values lies with 95 % confidence."""
    if len(values) < 2:
        return "one seed"
    half = _student_t(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{mean(values) - half:+.1f} to {mean(values) + half:+.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
