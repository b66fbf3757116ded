# SPDX-License-Identifier: Apache-2.0
"""Where the official download leaves the files of a video, and what their numbers mean.

`P01/rgb_frames/P01_01.tar`, `P01/flow_frames/P01_01.tar` (members `u/frame_0000000001.jpg`, `v/...`) and
`P01/videos/P01_01.MP4`; tars may be unpacked beside themselves (`P01/rgb_frames/P01_01/`). The layout of
EPIC-KITCHENS-55 (`frames_rgb_flow/rgb/train/P01/P01_01.tar`, `videos/train/P01/P01_01.MP4`) is known too. Sound:
`P01/audio/P01_01.wav`, `audio/P01_01.wav`, HDF5 files in the root or in `audio/` with one data set per video (see
hdf5_sound.py), or that of the MP4.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["FlowTiming", "VideoFiles", "find_files", "flow_timing", "frame_rate"]


def is_extension(video: str) -> bool:
    """Whether a video is of 2020, like P01_101; those of 2018 are like P01_01."""
    return len(video.split("_")[1]) == 3


def frame_rate(video: str) -> int:
    """Pictures per second: videos were resampled before their frames were taken, whatever their own rate."""
    return 50 if is_extension(video) else 60


@dataclass(frozen=True)
class FlowTiming:
    """What the flow pictures of a video are about.

    Picture n leads to RGB frame `stride * n + ahead` from `gap_s` earlier; value v of 255 is v * 2 * bound / 255 -
    bound pixels. One of 2018 spans 0.1 s, which is what the tool that made it did (furnari-flow before 2020, stride 2,
    dilation 3), one of 2020 spans 0.02 s. The official baselines do not correct for that, image widths per second do.
    """

    stride: int
    ahead: int
    gap_s: float
    bound: float

    def newest_frame(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the RGB frames that some flow pictures lead to."""
        return self.stride * numbers + self.ahead


def flow_timing(video: str) -> FlowTiming:
    """The timing of a video's flow."""
    return FlowTiming(1, 1, 0.02, 8.0) if is_extension(video) else FlowTiming(2, 1, 0.1, 25.0)


@dataclass(frozen=True)
class VideoFiles:
    """Files of a video: rgb and flow are folders or tars, sounds WAV or HDF5; None where there is none.

    sounds: in the order in which they are looked at.
    """

    rgb: Path | None
    flow: Path | None
    video: Path | None
    sounds: tuple[Path, ...]

    @property
    def any(self) -> bool:
        """Whether there is anything at all."""
        return any((self.rgb, self.flow, self.video, self.sounds))


def find_files(root: Path, video: str) -> VideoFiles:
    """What of a video is on disk. HDF5 files are named whether or not they hold its sound."""
    person = video.split("_")[0]
    old = [f"{split}/{person}/{video}" for split in ("train", "test")]

    def pictures(kind: str) -> Path | None:
        for name in (f"{person}/{kind}_frames/{video}", *(f"frames_rgb_flow/{kind}/{o}" for o in old)):
            if (root / name).is_dir():
                return root / name
            if (root / f"{name}.tar").is_file():
                return root / f"{name}.tar"
        return None

    movies = [
        f"{stem}.{suffix}"
        for stem in (f"{person}/videos/{video}", *(f"videos/{o}" for o in old))
        for suffix in ("MP4", "mp4")
    ]
    sounds = [root / f"{person}/audio/{video}.wav", root / f"audio/{video}.wav"]
    sounds += [path for pattern in ("*.hdf5", "audio/*.hdf5") for path in sorted(root.glob(pattern))]
    return VideoFiles(
        rgb=pictures("rgb"),
        flow=pictures("flow"),
        video=next((root / name for name in movies if (root / name).is_file()), None),
        sounds=tuple(path for path in sounds if path.is_file()),
    )
