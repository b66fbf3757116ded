# SPDX-License-Identifier: Apache-2.0
"""`karmma inspect`: the facts of a bundle, on the screen and as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from toy_bundle import make_toy_bundle

from karmma_ros.console import make_console


def test_the_table_and_the_json_say_what_is_in_the_bundle(karmma: Any, bundle: Path, tmp_path: Path) -> None:
    result = karmma("inspect", bundle, "--json", tmp_path / "facts.json")
    assert result.status == 0
    facts = json.loads((tmp_path / "facts.json").read_text())
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert facts["heads"] == manifest["heads"]
    assert list(facts["modalities"]) == ["video", "flow", "audio"]
    assert facts["modalities"]["video"]["sha256"] == manifest["modalities"]["video"]["sha256"]
    assert facts["bytes"] == sum(path.stat().st_size for path in bundle.iterdir())
    for part in ("video", "flow", "audio", "fusion", "pour bottle", "24x32", "16000 Hz", "check passed"):
        assert part in result.out


def test_a_bundle_that_answers_differently_here_is_refused(karmma: Any, tmp_path: Path) -> None:
    """Hashes alone do not show it: the graphs of another bundle, with their hashes, under this one's check."""
    first, second = make_toy_bundle(tmp_path / "first"), make_toy_bundle(tmp_path / "second", seed=1)
    ours, theirs = (json.loads((folder / "bundle.json").read_text()) for folder in (first, second))
    theirs["check"] = ours["check"]
    (second / "bundle.json").write_text(json.dumps(theirs))
    result = karmma("inspect", second)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1


def test_a_bundle_without_a_modality_and_with_a_single_head(karmma: Any, tmp_path: Path) -> None:
    folder = make_toy_bundle(tmp_path / "small", modalities=("video", "audio"), single_head=True)
    result = karmma("inspect", folder)
    assert result.status == 0
    assert "flow" not in result.out
    assert "head action" in result.out
    shutil.rmtree(folder)


def test_a_name_with_brackets_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    table = Table(title="film [hd].mp4")
    table.add_column("action", min_width=40)
    table.add_row("tap [/x]")
    console.print(table)
    console.print("written to out/[bold]")
    said = capsys.readouterr().out
    assert all(text in said for text in ("film [hd].mp4", "tap [/x]", "out/[bold]"))
