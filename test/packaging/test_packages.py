# SPDX-License-Identifier: Apache-2.0
"""Both packages are described alike: one version everywhere, and a changelog that leads up to it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import karmma_ros

ROOT = Path(__file__).parents[2]
PACKAGES = {"karmma_ros": ROOT, "karmma_msgs": ROOT / "karmma_msgs"}


def of_manifest(folder: Path, tag: str) -> str:
    return ElementTree.parse(folder / "package.xml").getroot().findtext(tag, "")


def test_there_is_one_version() -> None:
    said = {of_manifest(folder, "version") for folder in PACKAGES.values()} | {karmma_ros.__version__}
    said |= set(re.findall(r'version="(.*?)"', (ROOT / "setup.py").read_text(encoding="utf-8")))
    assert len(said) == 1


@pytest.mark.parametrize("name", PACKAGES)
def test_a_changelog_is_of_its_package_and_leads_up_to_its_version(name: str) -> None:
    """As catkin_prepare_release wants it: the newest section is the package's version, or not yet released."""
    folder = PACKAGES[name]
    assert of_manifest(folder, "name") == name
    text = (folder / "CHANGELOG.rst").read_text(encoding="utf-8")
    title = f"Changelog for package {name}"
    assert text.startswith(f"{'^' * len(title)}\n{title}\n{'^' * len(title)}\n")
    newest, *_ = re.findall(r"^(.+)\n-+\n\* ", text, flags=re.M)
    assert newest == "Forthcoming" or newest.split()[0] == of_manifest(folder, "version")


def test_every_message_is_in_the_changelog() -> None:
    text = (PACKAGES["karmma_msgs"] / "CHANGELOG.rst").read_text(encoding="utf-8")
    messages = {path.stem for path in (ROOT / "karmma_msgs" / "msg").glob("*.msg")}
    assert {name for name in messages if f"``{name}``" not in text} == set()
