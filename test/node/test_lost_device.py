# SPDX-License-Identifier: Apache-2.0
"""A device that is lost while the node runs: what subscribers and diagnostics hear, and that it goes on afterwards."""

from __future__ import annotations

from pathlib import Path

from node.harness import assert_increasing, node_and_robot, value
from node.losing_node import LOST

PATH = Path(__file__).with_name("losing_node.py")


def test_a_lost_device_is_said_and_nothing_is_made_up(tmp_path: Path, ros_env: dict[str, str], toy: Path) -> None:
    lost = tmp_path / "lost"
    environment = ros_env | {LOST: str(lost)}
    with node_and_robot(tmp_path / "log", environment, path=PATH, bundle=toy) as (process, r):
        r.wait_matched()
        r.play(0.5)
        r.wait("a prediction", lambda: r.predictions[-1].message.status == r.predictions[-1].message.OK)

        lost.touch()
        r.forget()
        played = r.play(1.0)
        r.wait("the last frame", lambda: r.predictions[-1].stamp_ns >= played.frames[-1])
        failed = [p.message for p in r.predictions if p.stamp_ns in played.frames[1:]]  # one may have been under way
        assert len(failed) > 10, "one for every frame that came"
        assert {m.status for m in failed} == {failed[0].FAILED}
        assert not any(m.actions or m.verbs or m.nouns for m in failed)
        status = r.wait_status("an error", "action_node", lambda s: s.level == b"\x02")
        assert "the device is lost" in status.message
        assert int(value(status, "inference_retries") or 0) >= 10, "each was tried twice"
        assert "\nsecond line" not in process.output

        lost.unlink()
        r.forget()
        played = r.play(1.0)
        r.wait("the last frame", lambda: r.predictions[-1].stamp_ns >= played.frames[-1])
        assert r.predictions[-1].message.status == r.predictions[-1].message.OK
        assert r.predictions[-1].message.actions
        assert_increasing(r.predictions)
        r.wait_status("no error", "action_node", lambda s: s.level != b"\x02")
