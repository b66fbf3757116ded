# SPDX-License-Identifier: Apache-2.0
"""Every decoder and the bundle's parsers under coverage-guided fuzzing, and a live node under random messages."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from karmma_ros.soak.watch import usage_of

HERE = Path(__file__).parent
BUNDLE = HERE.parents[1] / "models" / "tabletop"
# The least share of lines and branches [%] that must be reached of each.
DECODERS = {
    "compressed": 80,
    "content": 80,
    "decode": 80,
    "decode_audio": 80,
    "encodings": 88,
    "samples": 60,
}
SOUND = {"audio": 80, "resample": 80}

needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not here (no wheel for this Python)"
)


def drive(target: str, how: str, folder: Path, *wrapper: str, more: Sequence[str] = ()) -> None:
    command = [sys.executable, *wrapper, str(HERE / "drive.py"), target, how, str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    findings = [path.name for path in folder.iterdir() if path.name.startswith(("crash-", "oom-", "timeout-"))]
    assert done.returncode == 0, f"{findings}: {done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def fuzz(target: str, runs: int, folder: Path) -> dict[str, int]:
    """Fuzzes; gives the statistics. Any exception, a run of 10 s or 2 GB of memory fail."""
    drive(target, str(runs), folder)
    stats: dict[str, int] = json.loads((folder / "stats.json").read_text())
    assert stats["runs"] == runs
    assert stats["resident_kb"] - stats["early_kb"] < 20_000, "memory grows with the runs"
    return stats


def branch_coverage(target: str, modules: Sequence[str], folder: Path) -> dict[str, float]:
    """{module: % of its lines and branches, taken together, that the corpus covers}; prints them, too."""
    include = ",".join(f"*/karmma_ros/{name}.py" for name in modules)
    drive(target, "replay", folder, "-m", "coverage", "run", "--branch", f"--include={include}")
    subprocess.run([sys.executable, "-m", "coverage", "json", "-q"], cwd=folder, check=True)
    files = json.loads((folder / "coverage.json").read_text())["files"]
    covered = {Path(name).stem: facts["summary"]["percent_covered"] for name, facts in files.items()}
    print("lines and branches covered, %:", {name: round(share) for name, share in sorted(covered.items())})
    branches = {
        Path(name).stem: "{covered_branches} of {num_branches}".format(**facts["summary"])
        for name, facts in sorted(files.items())
    }
    print("branches alone:", branches)
    return covered


@needs_atheris
@pytest.mark.parametrize("runs", [10_000, pytest.param(200_000, marks=pytest.mark.full)])
def test_any_message_is_a_sample_or_refused(tmp_path: Path, runs: int) -> None:
    stats = fuzz("decoders", runs, tmp_path)
    assert stats["accepted"] + stats["content"] > 0.3 * runs, "past the checks of size"
    assert stats["accepted"] > 0.05 * runs
    covered = branch_coverage("decoders", DECODERS, tmp_path)
    assert {name for name, least in DECODERS.items() if covered[name] <= least} == set()


@pytest.mark.parametrize("runs", [20_000, pytest.param(100_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("target", ["decoders", "sound", "boxes"])
def test_memory_does_not_grow_with_the_messages(tmp_path: Path, target: str, runs: int) -> None:
    drive(target, "random", tmp_path, more=[str(runs)])
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["runs"] == runs
    assert stats["accepted"] + stats["content"] > 0.3 * runs, "past the checks of size"
    # The allocator may take 2 MB at once, whenever that is: less than 200 bytes of a run show in the many runs alone.
    assert stats["resident_kb"] - stats["early_kb"] < 4000, stats


# No more runs than that in the next two: atheris never frees what its instrumented comparisons of floats and arrays
# give, and these are made of those; without it memory does not grow, as the test above shows.
@needs_atheris
@pytest.mark.parametrize("runs", [5_000, pytest.param(8_000, marks=pytest.mark.full)])
def test_any_sound_is_kept_or_refused(tmp_path: Path, runs: int) -> None:
    stats = fuzz("sound", runs, tmp_path)
    assert stats["accepted"] + stats["content"] > 0.3 * runs, "past the checks of size"
    assert stats["accepted"] > 0.1 * runs
    assert stats["content"] > 0.01 * runs
    covered = branch_coverage("sound", list(SOUND), tmp_path)
    assert {name for name, least in SOUND.items() if covered[name] <= least} == set()


@needs_atheris
@pytest.mark.parametrize("runs", [10_000, pytest.param(40_000, marks=pytest.mark.full)])
def test_whatever_a_detector_says_is_boxes_or_refused(tmp_path: Path, runs: int) -> None:
    stats = fuzz("boxes", runs, tmp_path)
    assert stats["accepted"] + stats["content"] > 0.3 * runs, "past the checks of size"
    assert stats["accepted"] > 0.1 * runs
    assert stats["content"] > 0.01 * runs
    covered = branch_coverage("boxes", ["decode_detections"], tmp_path)
    assert covered["decode_detections"] > 80


@needs_atheris
@pytest.mark.parametrize("runs", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_any_bundle_is_a_bundle_or_refused(tmp_path: Path, runs: int) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    manifest = json.loads((BUNDLE / "bundle.json").read_text())
    manifest["actions"], manifest["heads"] = [[0, 0]], {"verb": ["idle"], "noun": ["none"]}
    manifest["check"]["expected"] = {"verb": [0.0], "noun": [0.0]}
    (tmp_path / "bundle").mkdir()
    for spec in (*manifest["modalities"].values(), manifest["fusion"]):
        spec["sha256"] = hashlib.sha256(b"graph").hexdigest()
        (tmp_path / "bundle" / spec["graph"]).write_bytes(b"graph")
        (tmp_path / spec["graph"]).write_bytes(b"graph")  # outside, and not to be taken
    (corpus / "manifest").write_text(json.dumps(manifest, separators=(",", ":")))
    (corpus / "graph").write_bytes((BUNDLE / "flow.onnx").read_bytes()[:4000])
    (corpus / "evaluation").write_bytes(b'{"patterns": {"all": {"action": 0.5}}}')
    (corpus / "bomb").write_bytes(BOMB)
    stats = fuzz("bundles", runs, tmp_path)
    assert stats["refused"] > 0.5 * runs
    assert stats["accepted"] > 0


BOMB = b'{"a":' + b"[" * 4000
CSV = b"""clip_id,split,video,flow,audio,start_s,stop_s,verb,noun
a,train,,,a.wav,0,1,pour,mug
b,val,,,a.wav,1.5,2e0,idle,none
"""
INTERVALS = b"""bag,start_s,stop_s,verb,noun
a,0,1,pour,mug
a,1.5,2e0,idle,none
b,1e9,1000000001.5,stir,cup
"""
YAML = b"""preset: tiny
seed: 1
modalities: [video, flow]
train: {epochs: 3, lr: 1e-3, precision: fp32}
video: {channels: [8, 16]}
"""
ABOUT = b"""{"epoch": 3, "validation": {"video": {"action": 0.5}}, "temperature": {"verb": 0.9, "noun": 1.2},
"labels": {"heads": {"verb": ["idle", "pour"], "noun": ["none", "mug"]}, "actions": [[0, 0], [1, 1]]}}"""
RECORD = b"""{"settings": {"preset": "tiny", "test_minutes": 20.0}, "runs": {"student": {"0":
{"minutes": 1.5, "machine": "a", "evaluation": {}}}}}"""


def _flow() -> bytes:
    made = io.BytesIO()
    np.savez(made, stamps_ns=np.array([1, 5]), flow=np.zeros((2, 3, 4, 2), np.float16))
    return made.getvalue()


@needs_atheris
@pytest.mark.parametrize(
    ("target", "seed"),
    [
        ("configs", YAML),
        ("manifests", CSV),
        ("intervals", INTERVALS),
        ("flows", _flow()),
        ("checkpoints", ABOUT),
        ("comparisons", RECORD),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("runs", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_any_file_of_ours_is_read_or_refused(tmp_path: Path, target: str, seed: bytes, runs: int) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(seed)
    (corpus / "bomb").write_bytes(BOMB)
    (tmp_path / "a.wav").touch()  # which the manifest names
    stats = fuzz(target, runs, tmp_path)
    assert stats["refused"] > 0.5 * runs
    assert stats["accepted"] > 0


EPIC = b"""anarration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration,\
verb_class,noun_class,all_nouns,all_noun_classes
P01_01_0,P01,P01_01,00:00:00.10,00:00:01.89,take plate,0,2,"['plate', 'cup']","[2, 13]"
"""
SSV2 = b'l[{"id": "1", "template": "Lifting [something] up", "placeholders": ["a cup"]}]'
BOXES = b'd[{"id": "1", "size": [9, 8], "frames": [[{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "category": "hand"}]]}]'
ELSE = b'd{"1": [{"labels": [{"box2d": {"x1": 1.5, "y1": 2, "x2": 3, "y2": 4}, "category": "cup"}]}]}'


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("./frame_0000000001.jpg", "u/frame_0000000002.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"bytes"))
    return b"t" + made.getvalue()


@needs_atheris
@pytest.mark.parametrize("runs", [5_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_any_file_of_a_data_set_is_read_or_refused(tmp_path: Path, runs: int) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate((EPIC, SSV2, BOXES, ELSE, _tar(), b"l" + BOMB, b"d" + BOMB)):
        (corpus / str(number)).write_bytes(seed)
    stats = fuzz("datasets", runs, tmp_path)
    assert stats["refused"] > 0.3 * runs


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.full)])
def test_graphs_that_were_tampered_with_are_refused_or_work(tmp_path: Path, count: int) -> None:
    """Past their hashes: what stands between them and the robot then is the check by a real inference."""
    command = [sys.executable, str(HERE / "graphs.py"), str(count), str(tmp_path / "toy")]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert sum(outcomes.values()) == count
    assert outcomes["refused"] > 0.5 * count


@needs_atheris
def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "out"
    shutil.copytree(HERE, root / "fuzz")
    folder.mkdir()
    targets = root / "fuzz" / "targets.py"
    before = "    kind, made = message(data)\n"
    assert before in targets.read_text()
    planted = '    if kind == "flow" and (made.height, made.width) == (3, 7):\n        raise MemoryError\n'
    targets.write_text(targets.read_text().replace(before, before + planted))
    command = [sys.executable, str(root / "fuzz" / "drive.py"), "decoders", "100000", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr + done.stdout
    assert list(folder.glob("crash-*")), done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.full)])
def test_a_live_node_takes_whatever_is_sent_and_goes_on(
    tmp_path: Path, ros_env: dict[str, str], count: int, transport: str
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not here")
    from fuzz.decoding import decoded
    from fuzz.inputs import message
    from node.harness import node_and_robot, time_of, value
    from sensor_msgs.msg import CompressedImage, Image
    from toy_bundle import make_toy_bundle

    from karmma_msgs.msg import Audio

    generator = random.Random(1)
    compressed = transport == "compressed"
    how = {"image__transport": transport, "bundle": make_toy_bundle(tmp_path / "toy")}
    with node_and_robot(tmp_path / "log", ros_env, compressed=compressed, **how) as (process, r):
        r.wait_matched()
        sent, past_size = Counter[str](), Counter[str]()
        while sent.total() < count:
            if sent.total() == count // 2:
                halfway_mb = usage_of(process.popen.pid, 0.0).resident_mb
            kind, made = message(generator.randbytes(400), ("compressed" if compressed else "image", "flow", "audio"))
            typed = {"compressed": CompressedImage, "audio": Audio}.get(kind, Image)()
            past_size[kind] += decoded(kind, made) != "size"
            for name, content in vars(made).items():
                if hasattr(typed, name):
                    setattr(typed, name, content)
            typed.header.stamp = time_of(r.node.get_clock().now().nanoseconds)
            {"flow": r.flows, "audio": r.sounds}.get(kind, r.images).publish(typed)
            sent[kind] += 1
            r.pause(0.004)
        played = r.play(1.0)
        last = r.heard(played.start_s, played.end_s)[-1]
        assert last.message.status == last.message.OK
        assert {last.state(name) for name in ("video", "flow", "audio")} == {"OK"}
        assert all(past_size[kind] > 0.3 * sent[kind] for kind in sent), (past_size, sent)
        sensors = [last.modality(name) for name in ("video", "flow", "audio")]
        rejected = sum(sensor.rejected for sensor in sensors)
        assert rejected > 0.2 * count, "much of it was bad"
        looked_at = rejected + sum(sensor.received - sensor.skipped for sensor in sensors)
        assert looked_at > 0.8 * count, "what newer messages replaced is not among it"
        status = r.wait_status("diagnostics", "action_node", lambda s: value(s, "predictions") is not None)
        assert value(status, "status_failed") in (None, "0")
        assert "Traceback" not in process.output
        assert "worker:" not in process.output, "what a mistake of ours in a decoder is logged as"
        assert usage_of(process.popen.pid, 0.0).resident_mb - halfway_mb < 5
