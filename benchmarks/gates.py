# SPDX-License-Identifier: Apache-2.0
"""What the content gates find, how fast, what they get wrong, and what they are worth.

    scripts/run python benchmarks/gates.py --out out/gates                   # measures, delays, false alarms, worth
    scripts/run python benchmarks/gates.py --out out/gates --clips ../clips  # and real clips, as they are and darkened

Thresholds are chosen on training scenes (section 1) and tried on test scenes (2, 3, 4, 6).
Writes gates.json and gates.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from karmma_ros.content import Gate, GateLimits, flow_roughness, level, make_gate, probe, texture
from karmma_ros.files import whole_file, write_json
from karmma_ros.flow import FlowProducer
from karmma_ros.health import SensorState
from karmma_ros.manifest import action_name
from karmma_ros.media import read_audio, read_video
from karmma_ros.offline import OfflineSensors
from karmma_ros.recognizer import Recognizer
from karmma_ros.tabletop.failures import COVERS, FLOWS, SILENCES, cover, garbage_flow, silence
from karmma_ros.tabletop.sequence import make_sequence

SIZE, FPS, RATE = (320, 240), 30, 16000
FLOW_SIZE = (160, 120)
CHUNK = 533  # samples of sound that come at once, a frame's worth
BEGIN_S, STOP_S, END_S = 3.0, 6.0, 9.0  # a sensor fails and is well again
HEALTHY_S = 30.0  # of a scene in which nothing fails
FAILS_S, SETTLED_S = (5, 25), 2  # of 30 s; after its begin, the window of what ships holds nothing of before
PARTS = (0.25, 0.5, 0.75, 0.9)  # of a picture, or of the time, that is covered
QUIETER_DB = (0, 6, 12, 20)  # by which the sound of real clips is turned down


@dataclass(frozen=True)
class Sample:
    """What a gate is given."""

    stamp_ns: int
    value: np.ndarray
    rate: int = 0


def pictures(split: str, seed: int, duration_s: float) -> list[np.ndarray]:
    return list(make_sequence(seed, split, duration_s=duration_s, size=SIZE, fps=FPS).frames())


def flows(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of all frames but the first."""
    producer = FlowProducer(FLOW_SIZE)
    computed = [producer.push(stamp(i), frame) for i, frame in enumerate(frames)]
    return [flow for flow in computed if flow is not None]


def stamp(index: int) -> int:
    return index * 10**9 // FPS


def chunks(sound: np.ndarray) -> Iterator[Sample]:
    for begin in range(0, len(sound) - CHUNK + 1, CHUNK):
        yield Sample(begin * 10**9 // RATE, sound[begin : begin + CHUNK], RATE)


# --- 1: the measures on training scenes, with sensors that work and sensors that do not


def measures(scenes: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    well: dict[str, list[float]] = {"texture": [], "roughness": [], "level": []}
    for seed in track(range(scenes), "1: measures"):
        frames = pictures("train", seed, 1.5)
        well["texture"] += [texture(frame) for frame in frames[::5]]
        well["roughness"] += [flow_roughness(probe(flow))[1] for flow in flows(frames)[::5]]
        sound = make_sequence(seed, "train", duration_s=6.0).sound()
        well["level"] += [level(s.value) for s in chunks(sound)]
    broken = {
        "texture": {k: max(texture(cover(k, SIZE, rng)) for _ in range(5)) for k in COVERS},
        "roughness": {k: flow_roughness(probe(garbage_flow(k, FLOW_SIZE, rng)))[1] for k in FLOWS if "noise" in k},
        "level": {k: max(level(silence(k, CHUNK, rng)) for _ in range(50)) for k in SILENCES},
    }
    result: dict[str, Any] = {}
    for name, values in well.items():
        below = name != "roughness"  # a sensor is broken below the threshold, or above it
        nearest = min(values) if below else max(values)
        worst = max(broken[name].values()) if below else min(broken[name].values())
        result[name] = {
            "well": {"samples": len(values), "nearest": nearest, "median": float(np.median(values))},
            "broken": broken[name],
            "midway": float(np.sqrt(nearest * worst)),  # as many times away from the one as from the other
        }
    return result


# --- 2: delays and false alarms on test scenes


def broken_pictures(kind: str, frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    first, last = round(BEGIN_S * FPS), round(STOP_S * FPS)
    failed = (
        [frames[first - 1]] * (last - first)
        if kind == "frozen"
        else [cover(kind, SIZE, rng) for _ in range(last - first)]
    )
    return frames[:first] + failed + frames[last:]


def failures(modality: str, kind: str, seed: int) -> list[Sample]:
    """A sequence whose sensor fails from BEGIN_S to STOP_S."""
    rng = np.random.default_rng(seed)
    if modality == "audio":
        sound = make_sequence(seed, "test", duration_s=END_S).sound().copy()
        first, last = round(BEGIN_S * RATE), round(STOP_S * RATE)
        sound[first:last] = silence(kind, last - first, rng)
        return list(chunks(sound))
    frames = pictures("test", seed, END_S)
    if modality == "video":
        return [Sample(stamp(i), f) for i, f in enumerate(broken_pictures(kind, frames, rng))]
    fields = flows(frames)
    for i in range(round(BEGIN_S * FPS), round(STOP_S * FPS)):
        fields[i] = garbage_flow(kind, FLOW_SIZE, rng)
    return [Sample(stamp(i), field) for i, field in enumerate(fields)]


def states(gate: Gate, samples: Sequence[Sample]) -> list[SensorState]:
    return [gate.judge(s.stamp_ns, s.value, s.rate).state for s in samples]


def alarms(bad: np.ndarray) -> int:
    """How often a sensor begins not to be believed."""
    return int(np.count_nonzero(np.diff(bad.astype(int), prepend=0) > 0))


def delays(sequences: int) -> dict[str, Any]:
    kinds = (
        [("video", kind) for kind in (*COVERS, "frozen")]
        + [("flow", k) for k in FLOWS]
        + [("audio", k) for k in SILENCES]
    )
    found: dict[str, Any] = {}
    well: set[tuple[str, int]] = set()  # what works before a failure is the same before every one of a sensor's
    before: Counter[str] = Counter()
    again: Counter[str] = Counter()  # once a sensor was well again after its failure
    again_s = 0.0
    for modality, kind in track(kinds, "2: delays"):
        on: list[float] = []
        off: list[float] = []
        named: Counter[str] = Counter()
        missed = 0
        for seed in range(sequences):
            samples = failures(modality, kind, seed)
            judged = states(make_gate(modality), samples)
            times = np.array([s.stamp_ns / 1e9 + (len(s.value) / s.rate if s.rate else 0.0) for s in samples])
            bad = np.array([state is not SensorState.OK for state in judged])
            during = bad & (times >= BEGIN_S) & (times < STOP_S)
            after = ~bad & (times >= STOP_S)
            if (modality, seed) not in well:
                before[modality] += alarms(bad[times < BEGIN_S])
                well.add((modality, seed))
            if not during.any():
                missed += 1
                continue
            on.append(times[during][0] - BEGIN_S)
            off.append(times[after][0] - STOP_S)
            again[modality] += alarms(bad[times > times[after][0]])
            again_s += END_S - times[after][0]
            named[judged[int(np.flatnonzero(during)[-1])].name] += 1
        found[f"{modality}: {kind}"] = {
            "state": named.most_common(1)[0][0] if named else "",
            "missed": missed,
            "found_after_s": [float(np.median(on)), float(max(on))] if on else [],
            "well_after_s": [float(np.median(off)), float(max(off))] if off else [],
        }
    return {
        "sequences": sequences,
        "failures": found,
        "alarms_before": dict(before),
        "well_minutes": len(well) * BEGIN_S / 60,
        "alarms_after": dict(again),
        "well_again_minutes": float(again_s) / 60,
    }


# --- 3: false alarms, for longer


def healthy(sequences: int) -> dict[str, Any]:
    """How often sensors that work are not believed, in scenes of which no other section sees anything."""
    found: Counter[str] = Counter()
    for seed in track(range(2000, 2000 + sequences), "3: false alarms"):
        sequence = make_sequence(seed, "test", duration_s=HEALTHY_S, size=SIZE, fps=FPS)
        frames = list(sequence.frames())
        given = {
            "video": [Sample(stamp(i), frame) for i, frame in enumerate(frames)],
            "flow": [Sample(stamp(i), field) for i, field in enumerate(flows(frames), start=1)],
            "audio": list(chunks(sequence.sound())),
        }
        for modality, samples in given.items():
            judged = states(make_gate(modality), samples)
            found[modality] += alarms(np.array([state is not SensorState.OK for state in judged]))
    return {"sequences": sequences, "minutes": sequences * HEALTHY_S / 60, "alarms": dict(found)}


# --- 4: what hides only a part, or comes and goes


def partial(sequences: int) -> dict[str, Any]:
    """For how much of the time a camera is called OCCLUDED when something hides a part of what it sees, or all of it
    for moments at random. No target: where a camera stops being of use is for the network to say."""
    result: dict[str, Any] = {}
    for kind in track(("hand", "card", "cloth"), "4: covered in part"):
        for share in PARTS:
            judged = [
                state
                for seed in range(sequences)
                for state in states(make_gate("video"), _half_hidden(kind, share, seed))
            ]
            result[f"{kind} over {100 * share:.0f} %"] = _share_of(judged, SensorState.OCCLUDED)
    for share in PARTS:
        judged = [state for seed in range(sequences) for state in states(make_gate("video"), _waved_at(share, seed))]
        result[f"hand before the lens for {100 * share:.0f} % of the time, 0.1 to 1 s each"] = _share_of(
            judged, SensorState.OCCLUDED
        )
    return result


def _share_of(judged: Sequence[SensorState], state: SensorState) -> float:
    return float(np.mean([one is state for one in judged]))


def _half_hidden(kind: str, share: float, seed: int) -> list[Sample]:
    """The left `share` of every picture is covered; the edge is as blurred as what is close to a lens."""
    rng = np.random.default_rng(seed)
    edge = np.clip((share - np.linspace(0, 1, SIZE[0])) / 0.1 + 0.5, 0, 1)[None, :, None]
    frames = pictures("test", seed, END_S / 3)
    mixed = [edge * cover(kind, SIZE, rng) + (1 - edge) * frame for frame in frames]
    return [Sample(stamp(i), picture.astype(np.uint8)) for i, picture in enumerate(mixed)]


def _waved_at(share: float, seed: int) -> list[Sample]:
    """A hand comes and goes, whole."""
    rng = np.random.default_rng(seed)
    frames = pictures("test", seed, END_S)
    hidden = np.zeros(len(frames), bool)
    begin = 0.0
    while begin < END_S:
        begin += rng.uniform(0.2, 2.0) * 0.55 * (1 - share) / share
        until = begin + rng.uniform(0.1, 1.0)
        hidden[round(begin * FPS) : round(until * FPS)] = True
        begin = until
    return [Sample(stamp(i), cover("hand", SIZE, rng) if hidden[i] else frame) for i, frame in enumerate(frames)]


# --- 5: real clips


def real_clips(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for clip in track(sorted(folder.glob("*.mp4")), "5: real clips"):
        with read_video(clip) as video:
            frames = [(frame.stamp_ns, frame.rgb) for frame in video]
        for mean in (None, 20, 14, 8):
            gate, least, bad = make_gate("video"), 1.0, 0
            for stamp_ns, rgb in frames:
                shown = rgb if mean is None else np.clip(rgb * (mean / rgb.mean()), 0, 255).astype(np.uint8)
                bad += gate.judge(stamp_ns, shown).state is not SensorState.OK
                least = min(least, texture(shown))
            result[f"{clip.stem}, {'as it is' if mean is None else f'mean {mean}'}"] = {
                "frames": len(frames),
                "alarms": bad,
                "least_texture": least,
            }
        sound = read_audio(clip)
        if sound is not None:
            with sound:
                heard = list(sound)
            for quieter in QUIETER_DB:
                gate, factor = make_gate("audio"), np.float32(10 ** (-quieter / 20))
                chunks = [(c.stamp_ns, c.samples * factor) for c in heard]
                bad = sum(gate.judge(at, samples, sound.rate).state is not SensorState.OK for at, samples in chunks)
                result[f"{clip.stem}, sound, {f'{quieter} dB quieter' if quieter else 'as it is'}"] = {
                    "chunks": len(heard),
                    "alarms": bad,
                    "least_level": min(level(samples) for _, samples in chunks),
                }
        fields = flows([rgb for _, rgb in frames])
        judged = states(make_gate("flow"), [Sample(stamp(i), f) for i, f in enumerate(fields)])
        result[f"{clip.stem}, flow"] = {
            "fields": len(fields),
            "alarms": sum(s is not SensorState.OK for s in judged),
            "most_roughness": max(flow_roughness(probe(f))[1] for f in fields),
        }
    return result


def dark_start(folder: Path) -> dict[str, Any]:
    """What the camera's gate says of extracted frames in order, at 60 Hz as recorded."""
    frames = [np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1] for path in sorted(folder.glob("*.jpg"))]
    gate = make_gate("video")
    judged = [gate.judge(i * 10**9 // 60, frame).state for i, frame in enumerate(frames)]
    return {
        "frames": len(frames),
        "occluded": [i for i, state in enumerate(judged) if state is SensorState.OCCLUDED],
        "texture": [round(texture(frame), 3) for frame in frames],
        "mean": [round(float(frame.mean()), 1) for frame in frames],
    }


# --- 6: what the gates are worth


def worth(bundle: str, sequences: int) -> dict[str, Any]:
    """Action accuracy while a sensor fails: with its gate, without, and with the sensor left out by an oracle."""
    kinds = {
        "camera covered by a hand": ("video", "hand"),
        "camera black": ("video", "black"),
        "camera frozen": ("video", "frozen"),
        "microphone muted": ("audio", "digital silence"),
        "flow of noise": ("flow", "noise"),
        "flow in pixels taken for widths": ("flow", "pixels taken for widths"),
        "flow of zeros": ("flow", "zeros"),
    }
    ways: dict[str, GateLimits | None] = {
        "gate on": GateLimits(),
        "gate off": GateLimits(occluded=False, frozen=False, muted=False, garbage=False),
        "sensor left out": None,
    }
    recognizer = Recognizer(bundle)
    result: dict[str, Any] = {}
    for title, (modality, kind) in kinds.items():
        right: dict[str, list[list[bool]]] = {way: [] for way in ways}  # of each scene, every third frame's
        for seed in track(range(sequences), f"6: {title}"):
            sequence = make_sequence(1000 + seed, "test", duration_s=30.0, size=SIZE, fps=FPS)
            rng = np.random.default_rng(seed)
            frames, sound = list(sequence.frames()), sequence.sound().copy()
            first, last = (second * FPS for second in FAILS_S)
            if modality == "audio":
                begin, end = (second * RATE for second in FAILS_S)
                sound[begin:end] = silence(kind, end - begin, rng)
            elif modality == "video":
                still = frames[first]
                frames[first:last] = [
                    still if kind == "frozen" else cover(kind, SIZE, rng) for _ in range(last - first)
                ]
            fields = dict(enumerate(flows(frames), start=1))
            if modality == "flow":
                fields |= {i: garbage_flow(kind, FLOW_SIZE, rng) for i in range(first, last)}
            truth = [action_name(*sequence.action_at(i / FPS)) for i in range(len(frames))]
            for way, limits in ways.items():
                taken = ("video", "flow") if modality == "video" else (modality,)  # flow is computed from the camera
                left_out = () if limits is not None else taken
                heard = run(recognizer, frames, fields, sound, limits, left_out, range(first, last))
                right[way].append([name == truth[i] for i, name in heard])
        settled = slice(SETTLED_S * FPS // 3, None)
        result[title] = {way: float(np.mean(np.array(values)[:, settled])) for way, values in right.items()} | {
            "predictions": np.array(right["gate on"])[:, settled].size,
            "from the begin": {way: float(np.mean(values)) for way, values in right.items()},
        }
    return {"bundle": bundle, "sequences": sequences, "failures": result}


def run(
    recognizer: Recognizer,
    frames: Sequence[np.ndarray],
    fields: dict[int, np.ndarray],
    sound: np.ndarray,
    limits: GateLimits | None,
    left_out: Sequence[str],
    failing: range,
) -> Iterator[tuple[int, str]]:
    """(frame, best action) of every third frame of `failing`, as a robot would have heard and seen them."""
    recognizer.reset()
    sensors = OfflineSensors(recognizer, limits=limits)
    heard = iter(list(chunks(sound)))
    chunk = next(heard, None)
    for i, frame in enumerate(frames):
        while chunk is not None and chunk.stamp_ns + CHUNK * 10**9 // RATE <= stamp(i):
            if "audio" not in left_out or i not in failing:
                sensors.push("audio", chunk.stamp_ns, chunk.value, RATE)
            chunk = next(heard, None)
        if "video" not in left_out or i not in failing:
            sensors.push("video", stamp(i), frame)
            if i in fields and ("flow" not in left_out or i not in failing):
                sensors.push("flow", stamp(i), fields[i])
        if i in failing and i % 3 == 0:
            prediction = recognizer.predict(stamp(i))
            yield i, prediction.actions[0].name if prediction.actions else ""


# --- the document


def document(report: dict[str, Any]) -> str:
    parts = ["## The measures, on training scenes\n"]
    rows = []
    for name, m in report["measures"].items():
        broken = ", ".join(f"{kind} {value:.3g}" for kind, value in m["broken"].items())
        rows.append(
            [
                name,
                f"{m['well']['samples']}",
                f"{m['well']['nearest']:.3g}",
                f"{m['well']['median']:.3g}",
                broken,
                f"{m['midway']:.3g}",
            ]
        )
    parts.append(table(["measure", "samples", "nearest to broken", "median", "broken sensors", "midway"], rows))
    d = report["delays"]
    parts.append(f"\n## Delays, {d['sequences']} test scenes each\n")
    rows = []
    for kind, f in d["failures"].items():
        spans = [f"{1e3 * v[0]:.0f} / {1e3 * v[1]:.0f}" if v else "-" for v in (f["found_after_s"], f["well_after_s"])]
        rows.append([kind, f["state"], *spans, f"{f['missed']}"])
    parts.append(table(["failure", "state", "found after, median / most [ms]", "well after [ms]", "missed"], rows))
    parts.append(
        f"\nFalse alarms in {d['well_minutes']:.1f} minutes of sensors that work: {sum(d['alarms_before'].values())}; "
        f"in {d['well_again_minutes']:.1f} minutes after they were well again: {sum(d['alarms_after'].values())}."
    )
    h = report["healthy"]
    parts.append(
        f"\nFalse alarms in {h['minutes']:.1f} minutes of each sensor, {h['sequences']} other test scenes: "
        + ", ".join(f"{modality} {count}" for modality, count in h["alarms"].items())
        + "."
    )
    parts.append("\n## Covered in part\n")
    parts.append(
        table(["cover", "% of frames OCCLUDED"], [[k, f"{100 * v:.0f}"] for k, v in report["partial"].items()])
    )
    if "clips" in report:
        parts.append("\n## Real clips\n")
        rows = [
            [name, f"{c['alarms']} of {next(iter(c.values()))}", f"{list(c.values())[2]:.3g}"]
            for name, c in report["clips"].items()
        ]
        parts.append(table(["clip", "alarms", "nearest to the threshold"], rows))
    w = report["worth"]
    parts.append(f"\n## Action accuracy while a sensor fails, {w['bundle']}, {w['sequences']} test scenes\n")
    ways = ("gate on", "gate off", "sensor left out")
    rows = [
        [title, *(f"{100 * f[way]:.1f} ({100 * f['from the begin'][way]:.1f})" for way in ways), f"{f['predictions']}"]
        for title, f in w["failures"].items()
    ]
    parts.append(table(["failure", *ways, "predictions"], rows))
    parts.append(f"\nWithout the first {SETTLED_S} s of each failure; in brackets with them.")
    return "\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--bundle", default="tabletop", metavar="NAME|PATH")
    parser.add_argument("--scenes", type=int, default=60, help="training scenes of section 1 (default: %(default)s)")
    parser.add_argument(
        "--sequences", type=int, default=8, help="test scenes of sections 2, 4 and 6 (default: %(default)s)"
    )
    parser.add_argument(
        "--healthy", type=int, default=40, help="test scenes of 30 s of section 3 (default: %(default)s)"
    )
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder of real clips (*.mp4)")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="folder of extracted frames (*.jpg), dark at first")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    sections: dict[str, Callable[[], Any]] = {
        "measures": lambda: measures(args.scenes),
        "delays": lambda: delays(args.sequences),
        "healthy": lambda: healthy(args.healthy),
        "partial": lambda: partial(args.sequences),
    }
    if args.clips:
        sections["clips"] = lambda: real_clips(args.clips)
    if args.frames:
        sections["dark_start"] = lambda: dark_start(args.frames)
    sections["worth"] = lambda: worth(args.bundle, args.sequences)
    report: dict[str, Any] = {"limits": vars(GateLimits())}
    for name, section in sections.items():
        report[name] = section()
        write_json(args.out / "gates.json", report)
    with whole_file(args.out / "gates.md") as temporary:
        temporary.write_text(document(report))
    Console().print(document(report), markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
