# SPDX-License-Identifier: Apache-2.0
"""Bad input to any command: one clear line on stderr, exit status 2, nothing written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import make_video, session_members, wait_until

CASES: dict[str, tuple[list[str], str]] = {
    "unknown subcommand": (["dance"], "dance"),
    "unknown option": (["video", "{video}", "--loud"], "--loud"),
    "video: no file given": (["video"], "FILE"),
    "video: missing file": (["video", "{tmp}/nothing.mp4", "--bundle", "{bundle}", "--out", "{out}"], "no such file"),
    "video: a folder": (["video", "{tmp}", "--bundle", "{bundle}", "--out", "{out}"], "not a file"),
    "video: text": (["video", "{text}", "--bundle", "{bundle}", "--out", "{out}"], "not a readable"),
    "video: sound only": (["video", "{wav}", "--bundle", "{bundle}", "--out", "{out}"], "no video"),
    "video: no such bundle": (["video", "{video}", "--bundle", "nobody", "--out", "{out}"], "nobody"),
    "video: broken bundle": (["video", "{video}", "--bundle", "{broken}", "--out", "{out}"], "SHA-256"),
    "video: out is a file": (["video", "{video}", "--bundle", "{bundle}", "--out", "{text}"], "not a folder"),
    "video: out below a file": (["video", "{video}", "--bundle", "{bundle}", "--out", "{text}/deep"], "not a folder"),
    "video: threads": (["video", "{video}", "--threads", "0"], "--threads"),
    "inspect: no such bundle": (["inspect", "{tmp}/nothing"], "no bundle here"),
    "inspect: broken bundle": (["inspect", "{broken}", "--json", "{out}/facts.json"], "SHA-256"),
    "inspect: json into a file's inside": (
        ["inspect", "{bundle}", "--json", "{text}/facts.json"],
        "ot a directory|exists",
    ),
    "inspect: json is a folder": (["inspect", "{bundle}", "--json", "{tmp}"], "is a folder"),
    "synth: nothing to do": (["synth", "{out}"], "nothing to render"),
    "synth: no folder": (["synth", "--clips", "1"], "OUT is missing"),
    "synth: negative": (["synth", "{out}", "--clips", "-3"], "negative"),
    "synth: not a number": (["synth", "{out}", "--clips", "many"], "many"),
    "synth: seed": (["synth", "{out}", "--clips", "1", "--seed", "x"], "whole number"),
    "synth: no minutes": (["synth", "{out}", "--sequences", "1", "--minutes", "0"], "above 0"),
    "synth: shares": (["synth", "{out}", "--clips", "1", "--split-shares", "0", "0", "0"], "split-shares"),
    "synth: share is a word": (["synth", "{out}", "--clips", "1", "--split-shares", "a", "0", "0"], "share"),
    "synth: not empty": (["synth", "{full}", "--clips", "1"], "not empty"),
    "synth: a file": (["synth", "{text}", "--clips", "1"], "not a folder"),
    "synth: too much": (["synth", "{out}", "--sequences", "1", "--minutes", "1e9"], "GB are needed"),
    "synth: sheet is a folder": (["synth", "--contact-sheet", "{tmp}"], "folder"),
    "doctor: no camera": (["doctor", "--camera", "big"], "640x480@30"),
    "demo: no such bundle": (["demo", "--bundle", "nobody", "--out", "{out}"], "nobody"),
    "demo: too short": (["demo", "--bundle", "{bundle}", "--seconds", "1", "--out", "{out}"], "--seconds"),
    "demo: not a number": (["demo", "--seconds", "soon", "--out", "{out}"], "soon"),
    "demo: missing video": (
        ["demo", "--bundle", "{bundle}", "--video", "{tmp}/no.mp4", "--out", "{out}"],
        "no such file",
    ),
    "demo: text as video": (["demo", "--bundle", "{bundle}", "--video", "{text}", "--out", "{out}"], "not a readable"),
    "demo: out is a file": (["demo", "--bundle", "{bundle}", "--out", "{text}"], "not a folder"),
}


@pytest.fixture
def places(tmp_path: Path, bundle: Path) -> dict[str, Path]:
    """The files that the cases speak of."""
    import shutil

    import numpy as np

    from karmma_ros.media import write_wav

    shutil.copytree(bundle, tmp_path / "broken")
    with (tmp_path / "broken" / "video.onnx").open("ab") as file:
        file.write(b"\0")
    (tmp_path / "text.mp4").write_text("this is no video")
    write_wav(tmp_path / "sound.wav", np.zeros(1600, np.float32), 16000)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("keep me")
    return {
        "tmp": tmp_path,
        "out": tmp_path / "out",
        "bundle": bundle,
        "broken": tmp_path / "broken",
        "text": tmp_path / "text.mp4",
        "wav": tmp_path / "sound.wav",
        "full": tmp_path / "full",
        "video": make_video(tmp_path / "video.mp4", seconds=0.4),
    }


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(case, places, karmma, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    arguments, part = CASES[case]
    monkeypatch.chdir(places["tmp"])  # so that a default --out would show up too
    before = tree(places["tmp"])
    result = karmma(*(argument.format(**places) for argument in arguments))
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("karmma: ")
    assert any(alternative in result.err for alternative in part.split("|"))
    assert "Traceback" not in result.err + result.out
    assert tree(places["tmp"]) == before
    assert not places["out"].exists()


def test_every_command_explains_itself_without_ros_or_torch(karmma) -> None:  # type: ignore[no-untyped-def]
    assert karmma("--help").status == 0
    for command in ("demo", "doctor", "video", "inspect", "synth"):
        result = karmma(command, "--help")
        assert result.status == 0
        assert result.out.startswith(f"usage: karmma {command}")
    code = """
import sys
from karmma_ros.cli.main import main
main(["--help"])
print({"rclpy", "torch", "av"} & set(sys.modules))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert output.stdout.splitlines()[-1] == "set()"


def test_no_arguments_is_a_mistake_that_is_answered_with_the_help(karmma) -> None:  # type: ignore[no-untyped-def]
    result = karmma()
    assert result.status == 2
    assert "subcommands" in result.out


@pytest.mark.parametrize(
    ("command", "module", "remedy"),
    [
        (["train", "--out", "x"], "karmma_training", "pip install '.[training]' in the repository"),
        (["demo", "--bundle", "{bundle}", "--out", "{out}"], "rclpy", "make demo"),
        (["demo", "--bundle", "{bundle}", "--out", "{out}"], "karmma_msgs", "colcon"),
        (["video", "{video}"], "onnxruntime", "pip install onnxruntime"),
    ],
)
def test_a_missing_package_is_one_line_with_the_remedy(
    command: list[str], module: str, remedy: str, places: dict[str, Path]
) -> None:
    """In a process of its own, where the package cannot be found."""
    arguments = [argument.format(**places) for argument in command]
    code = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
from karmma_ros.cli.main import main
sys.exit(main({arguments!r}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2, run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert remedy in run.stderr
    assert not places["out"].exists()


def test_no_space_left_is_one_line(places: dict[str, Path], karmma, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A disk that fills up while records are written: the error comes from the system, from deep inside."""
    import karmma_ros.cli.video as video

    def full(record: object) -> str:
        raise OSError(28, "No space left on device", str(places["out"] / "predictions.jsonl"))

    monkeypatch.setattr(video, "to_line", full)
    result = karmma("video", places["video"], "--bundle", places["bundle"], "--out", places["out"])
    assert result.status == 2
    assert result.err == f"karmma: {places['out']}/predictions.jsonl: No space left on device\n"
    assert not [path for path in places["out"].rglob("*") if path.is_file()]


def test_ctrl_c_while_rendering_leaves_nothing_and_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "karmma_ros.cli.main", "synth", str(tmp_path / "data"), "--clips", "500"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until(lambda: any(tmp_path.rglob("*.wav")), 60)  # a worker is in the middle of a clip
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone in the group
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err + out
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not session_members(process.pid), 10)  # nobody is left
