# SPDX-License-Identifier: Apache-2.0
"""The rendered world: repeatable, disjoint between splits, honest about what happens when.

Not asserted: that pictures look good (see the contact sheet in the docs), nor how hard they are to recognise (that is
measured by training on them).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from karmma_ros.tabletop.motion import Act
from karmma_ros.tabletop.scene import SPLITS, make_scene
from karmma_ros.tabletop.script import Interval
from karmma_ros.tabletop.sequence import make_sequence
from karmma_ros.tabletop.vocabulary import ACTIONS, IDLE, MATERIALS, NONE, NOUNS, VERBS, action_weights


def test_vocabulary_has_eight_verbs_six_nouns_idle_and_leaves_invalid_pairs_out() -> None:
    assert len(VERBS) - 1 >= 8
    assert len(NOUNS) - 1 >= 6
    assert ACTIONS[0] == (IDLE, NONE)
    assert len(set(ACTIONS)) == len(ACTIONS) < 1 + 8 * 6
    assert ("stir", "bottle") not in ACTIONS


def test_look_alikes_differ_in_material_and_sound_alikes_in_shape() -> None:
    assert MATERIALS["bottle"] != MATERIALS["flask"]
    assert MATERIALS["box"] != MATERIALS["tin"]
    assert MATERIALS["flask"] == MATERIALS["tin"]
    assert MATERIALS["bowl"] == MATERIALS["mug"]


def test_no_action_is_drawn_more_often_than_eight_percent() -> None:
    spent: dict[tuple[str, str], float] = {}
    for seed in range(400):
        for i in make_sequence(seed, "train", duration_s=30).intervals:
            spent[i.verb, i.noun] = spent.get((i.verb, i.noun), 0.0) + i.stop_s - i.start_s
    total = sum(spent.values())
    assert set(spent) == set(ACTIONS)
    assert max(spent.values()) / total < 0.08
    weights = sorted(action_weights().values())
    assert weights[-1] / weights[0] > 3  # a long tail


def test_intervals_fill_the_sequence_without_holes() -> None:
    for seed in range(20):
        sequence = make_sequence(seed, "val", duration_s=25.0)
        assert sequence.intervals[0].start_s == 0.0
        assert sequence.intervals[-1].stop_s >= 25.0
        for before, after in zip(sequence.intervals, sequence.intervals[1:], strict=False):
            assert before.stop_s == after.start_s
            assert (before.verb, before.noun) != (after.verb, after.noun)
            assert sequence.action_at(after.start_s) == (after.verb, after.noun)


def _digest(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_same_seed_gives_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib\n"
        "from karmma_ros.tabletop.sequence import make_sequence\n"
        "s = make_sequence(5, 'test', duration_s=2.0)\n"
        "h = hashlib.sha256(b''.join(f.tobytes() for f in s.frames()) + s.sound().tobytes())\n"
        "print(h.hexdigest())"
    )
    sequence = make_sequence(5, "test", duration_s=2.0)
    here = hashlib.sha256()
    for frame in sequence.frames():
        here.update(frame.tobytes())
    here.update(sequence.sound().tobytes())
    assert _digest(code) == here.hexdigest()


def test_a_frame_depends_on_its_index_alone() -> None:
    in_order = list(make_sequence(3, "train", duration_s=1.0).frames())
    alone = make_sequence(3, "train", duration_s=1.0)
    for index in (20, 4, 29, 5):
        assert np.array_equal(alone.frame(index), in_order[index])


def test_splits_share_no_scene() -> None:
    seen = set()
    for split in SPLITS:
        for seed in range(50):
            scene = make_scene(split, seed)
            seen.add((float(scene.focal), float(scene.noise), scene.camera_position.tobytes(), scene.table.tobytes()))
    assert len(seen) == 3 * 50
    with pytest.raises(ValueError, match="split must be one of"):
        make_scene("holdout", 0)


def test_sound_rings_while_an_object_is_tapped_and_not_while_idle() -> None:
    loud, quiet = [], []
    for seed in range(40):
        sequence = make_sequence(seed, "train", duration_s=30)
        sound = sequence.sound()
        assert sound.dtype == np.float32
        assert np.abs(sound).max() <= 1.0
        assert np.array_equal(np.rint(sound * 32768), sound * 32768), "a WAV file must lose nothing"
        for i in sequence.intervals:
            part = sound[int((i.start_s + 0.7) * 16000) : int((i.stop_s - 0.1) * 16000)]
            if len(part) > 8000:
                crest = float(np.abs(part).max() / max(part.std(), 1e-9))
                (loud if i.verb == "tap" else quiet if i.verb == IDLE else []).append(crest)
    assert np.median(loud) > 1.3 * np.median(quiet)


MOVING = ("lift", "pour", "shake", "slide")


@pytest.mark.parametrize("verb", [v for v in VERBS if v != IDLE])
def test_the_object_moves_when_the_verb_moves_it_and_rests_otherwise(verb: str) -> None:
    scene = make_scene("train", 0)
    model = scene.objects[0]
    for seed in range(10):
        act = Act(Interval(0.0, 6.0, verb, model.noun), model, scene.places[0], 0.0, np.random.default_rng(seed))
        poses = [act.moment(t).object_pose for t in np.linspace(0.5, 5.0, 100)]
        places = np.stack([pose.position for pose in poses if pose is not None])
        assert len(places) == 100
        travel = float(np.linalg.norm(np.ptp(places, axis=0)))  # metres
        away = float(np.linalg.norm(places - scene.places[0], axis=1).max())
        assert (max(travel, away) > 0.03) == (verb in MOVING)


def test_the_picture_shows_the_lift() -> None:
    """Top against bottom of a lift differs more than bottom against bottom, though the head sways in both."""
    lifted, same = [], []
    for seed in range(40):
        sequence = make_sequence(seed, "train", duration_s=20, size=(160, 120))
        for act in sequence.acts:
            if act.interval.verb != "lift" or act.interval.stop_s - act.interval.start_s < 6:
                continue
            times = act.interval.start_s + np.arange(0.5, 4.0, 1 / 30)
            heights = np.array([pose.position[2] for t in times if (pose := act.moment(t).object_pose) is not None])
            inner = heights[1:-1]
            low = times[1:-1][(inner <= heights[:-2]) & (inner < heights[2:])]
            high = times[1:-1][(inner >= heights[:-2]) & (inner > heights[2:])]
            frame = [sequence.frame(int(t * 30)).astype(float) for t in (low[0], high[0], low[1])]
            lifted.append(float(np.abs(frame[0] - frame[1]).mean()))
            same.append(float(np.abs(frame[0] - frame[2]).mean()))
        if len(lifted) >= 8:
            break
    assert np.median(lifted) > 1.3 * np.median(same)


def test_takes_of_a_scene_share_its_things_and_not_its_actions() -> None:
    takes = [make_sequence(3, "train", duration_s=8, size=(160, 120), take=take) for take in range(3)]
    assert len({tuple(t.intervals) for t in takes}) == 3
    things = [[m.mesh.colours for m in (a.model for a in t.acts) if m is not None] for t in takes]
    known = [o.mesh.colours for o in make_scene("train", 3).objects]
    for colours in (c for take in things for c in take):
        assert any(np.array_equal(colours, k) for k in known)
    assert not np.array_equal(takes[0].sound(), takes[1].sound())


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (200, 113)])
def test_any_size_shows_the_same_scene(size: tuple[int, int]) -> None:
    reference = make_sequence(9, "val", duration_s=1.0, size=(320, 240)).frame(10)
    frame = make_sequence(9, "val", duration_s=1.0, size=size).frame(10)
    assert frame.shape == (size[1], size[0], 3)
    if size[0] * 3 == size[1] * 4:
        small = [cv2.resize(f, (32, 24), interpolation=cv2.INTER_AREA).astype(float) for f in (reference, frame)]
        assert np.abs(small[0] - small[1]).mean() < 3.0


def test_impossible_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match="positive duration"):
        make_sequence(0, "train", duration_s=0)
