# SPDX-License-Identifier: Apache-2.0
"""Makes the bag that ships with the tests, test/bags/data/tabletop, and its intervals: python make_small_bag.py

6.5 rendered seconds with a change of action: JPEG pictures, sound, and small flow, under 3 MB.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from karmma_ros.bags.session import INTERVALS, record_scene, write_intervals
from karmma_ros.synthesis import Row
from karmma_ros.tabletop.sequence import make_sequence

DATA = Path(__file__).parent / "data"
NAME = "tabletop"


def main() -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    scene = make_sequence(20, "test", duration_s=6.5, size=(240, 180))
    record_scene(DATA / NAME, scene, flow_size=(32, 24), quality=85)
    rows = [Row(NAME, "test", NAME, round(i.start_s, 6), round(i.stop_s, 6), i.verb, i.noun) for i in scene.intervals]
    write_intervals(DATA / INTERVALS, rows)


if __name__ == "__main__":
    main()
