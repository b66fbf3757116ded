# SPDX-License-Identifier: Apache-2.0
"""Folders that appear whole or not at all, also where they cannot simply be put in another's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from karmma_ros.files import whole_file, whole_folder


def test_a_link_to_an_empty_folder_stays_and_its_target_is_filled(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out"
    link.symlink_to("disk")
    with whole_folder(link) as folder:
        (folder / "work").write_text("of hours")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "work").read_text() == "of hours"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "out"]


def test_a_mount_point_is_refused_before_the_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == mounted)
    begun = False
    with pytest.raises(FileExistsError, match="is a mount point: name a folder in it"), whole_folder(mounted):
        begun = True
    assert not begun


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut may leave the name and nothing in it."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        done.append(f"to disk: {Path(os.readlink(f'/proc/self/fd/{handle}')).suffix or 'folder'}")
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        done.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    with whole_file(tmp_path / "last.pt") as temporary:
        temporary.write_bytes(b"weights")
    assert done == ["to disk: .pt", "renamed", "to disk: folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
