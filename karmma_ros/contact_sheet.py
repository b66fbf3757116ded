# SPDX-License-Identifier: Apache-2.0
"""A picture of the tabletop's vocabulary: one row for each action, with frames from its beginning to its end."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from karmma_ros.errors import KarmmaError
from karmma_ros.files import whole_file
from karmma_ros.tabletop.sequence import Interval, Sequence, make_sequence
from karmma_ros.tabletop.vocabulary import ACTIONS, IDLE

__all__ = ["contact_sheet", "write_contact_sheet"]

Image = npt.NDArray[np.uint8]

_TILE = (160, 120)  # (width, height) of a frame
_RENDERED = (320, 240)
_FRAMES = 6  # of each action
_STEP_S = 0.45  # between two of them
_LABEL = 22  # pixels above a row
_GAP = 14
_COLUMNS = 2
_INK = (235, 238, 242)
_PAPER = (24, 27, 33)
_SCENE_S = 40.0
_TRIES = 400  # scenes to look for the rarest action in


def contact_sheet(seed: int) -> Image:
    """The sheet, RGB (H, W, 3); every action comes from another scene of the training split, where that is possible."""
    rows = [_row(f"{verb} {noun}" if verb != IDLE else verb, *found) for (verb, noun), found in _find(seed).items()]
    per_column = -(-len(rows) // _COLUMNS)
    height, width = rows[0].shape[:2]
    sheet = np.full((per_column * height + _GAP, _COLUMNS * (width + _GAP) + _GAP, 3), _PAPER, dtype=np.uint8)
    for number, row in enumerate(rows):
        x = _GAP + number // per_column * (width + _GAP)
        y = number % per_column * height
        sheet[y : y + height, x : x + width] = row
    return sheet


def write_contact_sheet(path: Path, seed: int) -> None:
    """Writes the sheet as an image.

    :raises KarmmaError: if OpenCV does not know the format. :raises OSError: if it cannot be written.
    """
    suffix = path.suffix or ".png"
    if not cv2.haveImageWriter(f"sheet{suffix}"):
        raise KarmmaError(f"{path}: cannot write an image of this format, use .png")
    _, data = cv2.imencode(suffix, cv2.cvtColor(contact_sheet(seed), cv2.COLOR_RGB2BGR))
    with whole_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _find(seed: int) -> dict[tuple[str, str], tuple[Sequence, Interval]]:
    """A scene and an interval for every action, in the vocabulary's order."""
    missing = set(ACTIONS)
    found: dict[tuple[str, str], tuple[Sequence, Interval]] = {}
    for number in range(_TRIES):
        sequence = make_sequence(seed * _TRIES + number, "train", duration_s=_SCENE_S, size=_RENDERED)
        for interval in sequence.intervals[1:-1]:
            action = (interval.verb, interval.noun)
            if action in missing and interval.stop_s - interval.start_s >= 1.5:
                missing.remove(action)
                found[action] = (sequence, interval)
                break  # one action a scene: the sheet shows the scenes' variety too
        if not missing:
            break
    return {action: found[action] for action in ACTIONS if action in found}


def _row(label: str, sequence: Sequence, interval: Interval) -> Image:
    width, height = _TILE
    row = np.full((_LABEL + height + 4, _FRAMES * (width + 2) - 2, 3), _PAPER, dtype=np.uint8)
    cv2.putText(row, label, (0, _LABEL - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.55, _INK, 1, cv2.LINE_AA)
    step_s = min(_STEP_S, (interval.stop_s - interval.start_s) / (_FRAMES + 1))
    first_s = (interval.start_s + interval.stop_s) / 2 - step_s * (_FRAMES - 1) / 2
    for place in range(_FRAMES):
        frame = sequence.frame(round((first_s + place * step_s) * sequence.fps))
        x = place * (width + 2)
        row[_LABEL : _LABEL + height, x : x + width] = cv2.resize(frame, _TILE, interpolation=cv2.INTER_AREA)
    return row
