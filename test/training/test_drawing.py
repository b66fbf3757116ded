# SPDX-License-Identifier: Apache-2.0
"""What windows are drawn from: recordings that lack modalities, flow with stamps of its own, sound that ends early."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console  # noqa: E402

from karmma_ros.errors import UsageError  # noqa: E402
from karmma_ros.files import whole_folder  # noqa: E402
from karmma_training.config import Config, DropoutConfig  # noqa: E402
from karmma_training.data.dropout import TokenRunDropout  # noqa: E402
from karmma_training.data.features import FeatureCache, make_features  # noqa: E402
from karmma_training.data.grid import contexts, frames_of, slot_specs  # noqa: E402
from karmma_training.data.labels import Labels  # noqa: E402
from karmma_training.data.store import StoredRecording, StoreFormat, write_recording  # noqa: E402
from karmma_training.data.windows import WindowSampler, _delivered  # noqa: E402
from karmma_training.evaluation.evaluate import EncodedRecording  # noqa: E402
from karmma_training.evaluation.patterns import loss_patterns  # noqa: E402
from karmma_training.learning.pretrain import SampleSampler  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

LABELS = Labels.from_names({"action": ["wave"]}, [("wave",)])
NS, FPS = 10**9, 30


def configured(*modalities: str) -> Config:
    config = preset("tiny")
    config.modalities = list(modalities)
    config.dropout = DropoutConfig(modality_p=0, runs_p=0, full_share=1)
    return config


def record(
    folder: Path,
    modalities: str,
    *,
    seconds: float = 4.0,
    sound_s: float = 4.0,
    flow_late_ns: int = 0,
    frozen: bool = False,
) -> StoredRecording:
    """Random pictures (frozen: always the first) and flow at 30 Hz, and noise; those of V, F, A that are named."""
    form = StoreFormat.of(preset("tiny"))
    rng = np.random.default_rng(0)
    stamps = [round(i * NS / FPS) for i in range(round(seconds * FPS))]
    pictures = rng.integers(0, 255, (len(stamps), form.video_height, form.video_width, 3), np.uint8)
    if frozen:
        pictures[:] = pictures[0]
    fields = rng.normal(0, 0.1, (len(stamps), form.flow_height, form.flow_width, 2)).astype(np.float32)
    write_recording(
        folder,
        form,
        frames=zip(stamps, pictures, strict=True) if "V" in modalities else None,
        flows=[(stamp + flow_late_ns, field) for stamp, field in zip(stamps, fields, strict=True)][1:]
        if "F" in modalities
        else (),
        sound=[rng.normal(0, 0.1, round(sound_s * form.rate)).astype(np.float32)] if "A" in modalities else None,
        meta={"name": folder.name, "intervals": [[0.0, seconds, "wave"]]},
    )
    return StoredRecording(folder, LABELS)


def test_flow_belongs_to_the_frame_nearest_to_it() -> None:
    frames = np.array([0, 33, 67, 100, 600, 633]) * 1_000_000
    stamps = np.array([0, 33, 67, 100, 600, 633]) * 1_000_000
    assert frames_of(stamps + 5_000, frames).tolist() == [0, 1, 2, 3, 4, 5]
    assert frames_of(stamps - 5_000, frames).tolist() == [0, 1, 2, 3, 4, 5]
    between = np.array([300, 590]) * 1_000_000
    assert frames_of(between, frames).tolist() == [-1, 4], "the camera was gone, and 10 ms away"
    assert frames_of(stamps, frames[:0]).tolist() == [-1] * 6
    assert frames_of(stamps[:0], frames).tolist() == []
    assert frames_of(stamps, frames[:1]).tolist() == [0, -1, -1, -1, -1, -1]


@pytest.mark.parametrize(("spacing", "kept"), [(1, [1, 3, 5, 7]), (2, [2, 4, 6]), (3, [3, 6])])
def test_fields_of_every_nth_frame_survive_a_camera_that_keeps_every_other(spacing: int, kept: list[int]) -> None:
    made_of = np.arange(spacing, 8, spacing)
    delivered = np.array([1, 3, 5, 7])
    assert made_of[_delivered(made_of, delivered)].tolist() == kept
    none_of = np.full(3, -1)
    assert not _delivered(none_of, delivered).any()


@pytest.mark.parametrize("late_ns", [0, 5_000, -5_000, 9_000_000])
def test_flow_whose_stamps_are_not_quite_the_frames_fills_the_windows(tmp_path: Path, late_ns: int) -> None:
    """Files round the stamps of pictures and those of flow in ways of their own; another sensor has its own clock."""
    recording = record(tmp_path / "a", "VF", flow_late_ns=late_ns)
    config = configured("video", "flow")
    config.sensors.rate_divisors, config.sensors.rate_weights = [1], [1.0]
    config.sensors.loss_p = 0
    batch = WindowSampler([recording], config, batch=64, seed=0).batch(0)
    late = batch.origin[:, 1] > 2.5 * NS  # windows that lie within the recording
    assert batch.present["flow"][late].mean() > 0.97
    assert batch.present["video"][late].mean() > 0.97


def test_a_lost_frame_takes_the_flow_along_that_was_made_of_it(tmp_path: Path) -> None:
    stamps = np.arange(300) * NS // FPS
    recording = EncodedRecording.__new__(EncodedRecording)  # only its stamps are looked at
    object.__setattr__(recording, "stamps", {"video": stamps, "flow": stamps + 5_000, "audio": stamps[:0]})
    kept = loss_patterns(0.4, 0)[("frames", 0.5)](recording, 0)
    assert 100 < len(kept["video"]) < 200
    assert kept["flow"].tolist() == kept["video"].tolist()


def test_a_window_is_seen_with_one_look(tmp_path: Path) -> None:
    """Colours and crop do not flicker: not inside a clip, not from slot to slot. The next window has others."""
    config = configured("video")
    config.video.context = 4
    batch = WindowSampler([record(tmp_path / "a", "V", frozen=True)], config, batch=8, seed=0).batch(0)
    rows = batch.places["video"] // config.video.slots
    firsts = []
    for row in range(8):
        (first, *others) = batch.samples["video"][rows == row].reshape(-1, config.video.height, config.video.width, 3)
        assert others
        assert all(np.array_equal(first, other) for other in others)
        firsts.append(first)
    assert len(np.unique(firsts, axis=0)) == 8


def test_what_has_none_of_the_modalities_is_never_drawn(tmp_path: Path) -> None:
    recordings = [record(tmp_path / name, which) for name, which in (("a", "A"), ("b", "V"), ("c", "A"))]
    batch = WindowSampler(recordings, configured("video"), batch=32, seed=0).batch(0)
    assert set(batch.origin[:, 0]) == {1}
    with pytest.raises(UsageError, match="nothing to train on: no labelled recording has video"):
        WindowSampler([recordings[0]], configured("video"), batch=4, seed=0)


def test_every_action_has_its_turn_before_any_has_another(tmp_path: Path) -> None:
    whole = record(tmp_path / "one", "V")
    parts = [(0.1 * i, 0.1 * (i + 1), "wave") for i in range(30)]
    recordings = [StoredRecording(tmp_path / "one", LABELS, parts[:10]), whole]
    recordings.append(StoredRecording(tmp_path / "one", LABELS, parts[10:]))
    config = configured("video")
    config.data.draw = "actions"
    config.sensors.snap_p = 0.0  # to a frame before an action of a tenth of a second begins
    count, batch = 31, 4
    sampler = WindowSampler(recordings, config, batch=batch, seed=3)

    def drawn(turns: range) -> list[tuple[int, int]]:
        """Recording and action of each, as several processes share the rows of a batch out."""
        found = {}
        for step in range(turns.start // batch, turns.stop // batch + 1):
            for rows in (range(0, batch, 2), range(1, batch, 2)):
                origins = sampler.batch(step, rows).origin
                for row, (number, t_ns) in zip(rows, origins, strict=True):
                    found[step * batch + row] = (
                        int(number),
                        int(recordings[number].interval_at(np.array([t_ns / 1e9]))[0]),
                    )
        return [found[turn] for turn in turns]

    first, second = drawn(range(count)), drawn(range(count, 2 * count))
    assert len(set(first)) == len(set(second)) == count
    assert first != second
    samples = SampleSampler(recordings, config, "video", batch=count, seed=3)
    assert samples.batch(0)[0].shape[0] == count


def test_sound_shorter_than_what_is_heard_at_once_is_told(tmp_path: Path) -> None:
    recordings = [record(tmp_path / "short", "A", sound_s=0.2)]
    with pytest.raises(UsageError, match="hardly any labelled moment"):
        WindowSampler(recordings, configured("audio"), batch=1, seed=0).batch(0)
    with pytest.raises(UsageError, match="shorten it"):
        SampleSampler(recordings, configured("audio"), "audio", batch=1, seed=0).batch(0)


def test_a_run_of_tokens_leaves_one() -> None:
    rng = np.random.default_rng(0)
    for slots in (1, 2, 5):
        assert all(TokenRunDropout(1.0).draw(slots, rng).any() for _ in range(50))


def test_recordings_of_the_same_samples_are_encoded_once(tmp_path: Path) -> None:
    """Actions that overlap are recordings of their own, with one key."""
    one = record(tmp_path / "store" / "a", "V")
    twice = [one, StoredRecording(tmp_path / "store" / "a", LABELS, [(1.0, 2.0, "wave")])]
    config = configured("video")
    specs, seen, runs = slot_specs(config), contexts(config), []

    def encode(modality: str, samples: np.ndarray) -> np.ndarray:
        runs.append(len(samples))
        return np.ones((len(samples), specs[modality].tokens, specs[modality].dim), np.float32)

    make_features(tmp_path / "features", twice, encode, specs, seen, Console(quiet=True))
    assert sum(runs) == 120
    cache = FeatureCache(tmp_path / "features", twice, specs, seen)
    assert cache.tokens(1, "video", np.array([3, 4])).shape == (2, specs["video"].tokens, specs["video"].dim)


def test_two_runs_that_start_together_make_the_same_recordings(tmp_path: Path) -> None:
    """Each renders what it does not find; whoever is later takes what is there."""
    made = tmp_path / "store" / "a"
    with whole_folder(made, shared=True) as ours:
        (ours / "meta.json").write_text("ours")
        made.mkdir()  # by the other, meanwhile
        (made / "meta.json").write_text("theirs")
    assert (made / "meta.json").read_text() == "theirs"
    assert [path.name for path in made.parent.iterdir()] == ["a"], "nothing is left of ours"
    with pytest.raises(FileExistsError), whole_folder(made):
        pass


MANY = """
import json, resource, sys
from pathlib import Path
from karmma_ros.errors import KarmmaError
from karmma_training.data.labels import Labels
from karmma_training.data.open_files import allow_many_files
from karmma_training.data.store import StoredRecording
folder, hard = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
allow_many_files()
labels = Labels.from_names({"action": ["wave"]}, [("wave",)])
try:
    kept = [StoredRecording(folder, labels) for _ in range(100)]
    print(json.dumps({"open": len(kept)}))
except KarmmaError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.mark.parametrize("hard", [4096, 64])
def test_many_recordings_are_open_at_once(tmp_path: Path, hard: int) -> None:
    record(tmp_path / "store" / "a", "VFA", seconds=0.5)
    command = [sys.executable, "-c", MANY, str(tmp_path / "store" / "a"), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = json.loads(done.stdout)
    if hard > 300:
        assert said == {"open": 100}
    else:
        assert "raise its hard limit" in said["error"]
