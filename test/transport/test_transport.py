# SPDX-License-Identifier: Apache-2.0
"""Whole camera images from process to process, and a user's own transport left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from karmma_ros import transport
from karmma_ros.share import share_path

SENDER = Path(__file__).with_name("sender.py")
FRAMES = 60


def test_the_profile_is_given_to_both_generations_of_fast_dds() -> None:
    environ: dict[str, str] = {}
    done = transport.prepare(environ)
    profile = str(share_path("config/fastdds.xml"))
    assert str(done.profile) == profile
    assert environ == dict.fromkeys(("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"), profile)
    assert transport.prepare(environ) == done  # again: ours is not mistaken for the user's


@pytest.mark.parametrize(
    "setting",
    [
        {"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "mine.xml"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
    ],
)
def test_a_users_own_choice_is_kept(setting: dict[str, str]) -> None:
    environ = dict(setting)
    done = transport.prepare(environ)
    assert done.profile is None
    assert next(iter(setting)) in done.kept
    assert environ == setting


def test_a_profile_in_the_working_folder_is_the_users_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    monkeypatch.chdir(tmp_path)
    environ = {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
    assert transport.prepare(environ).profile is None
    monkeypatch.chdir(tmp_path.parent)
    assert transport.prepare(environ).profile is not None


def test_the_allocator_is_set_where_it_is_glibcs() -> None:
    import os

    glibc = "CS_GNU_LIBC_VERSION" in os.confstr_names and bool(os.confstr("CS_GNU_LIBC_VERSION"))
    assert transport.prepare({}).allocator is glibc


def test_vga_images_arrive_whole_under_best_effort(ros_env: dict[str, str]) -> None:
    """Another process sends 60 VGA images at 30 Hz; with Fast DDS's own settings nearly all of them are lost.

    Does not assert how many the default settings lose: that is Fast DDS's affair.
    """
    env = {name: value for name, value in ros_env.items() if name not in transport.PROFILE_VARIABLES}
    receiver = subprocess.run(
        [sys.executable, str(SENDER.with_name("receiver.py")), str(SENDER), str(FRAMES)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert receiver.returncode == 0, receiver.stderr
    assert int(receiver.stdout.split()[-1]) >= 0.8 * FRAMES, receiver.stderr
