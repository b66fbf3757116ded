# SPDX-License-Identifier: Apache-2.0
"""overlay_node: frames meet their predictions, and somebody has to look."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from node.harness import Robot, ns_of, picture, robot, start, time_of
from sensor_msgs.msg import Image

from karmma_msgs.msg import ActionPrediction, ModalityStatus, ScoredLabel
from karmma_ros.errors import SampleError
from karmma_ros.messages import image_to_msg
from karmma_ros.nodes.matching import Matcher
from karmma_ros.nodes.overlay_view import Viewer

MODULE = "karmma_ros.nodes.overlay_node"


def test_a_frame_and_its_prediction_meet_whichever_comes_first() -> None:
    matcher: Matcher[str, str] = Matcher(wait_s=0.3)
    assert matcher.frame(1, "frame", 0.0) is None
    assert matcher.prediction(1, "prediction") == (1, "frame", "prediction")
    assert matcher.prediction(2, "prediction") is None
    assert matcher.frame(2, "frame", 0.1) == (2, "frame", "prediction")
    assert matcher.overdue(9.0) == []


def test_a_frame_whose_prediction_does_not_come_waits_no_longer_than_it_may() -> None:
    matcher: Matcher[str, str] = Matcher(wait_s=0.3)
    matcher.frame(1, "frame", 10.0)
    assert matcher.overdue(10.29) == []
    assert matcher.overdue(10.31) == [(1, "frame", None)]
    assert matcher.prediction(1, "too late") is None
    assert matcher.overdue(99.0) == []


def test_frames_that_were_skipped_are_left_out() -> None:
    matcher: Matcher[str, str] = Matcher(wait_s=0.3)
    for stamp in (1, 2, 3):
        matcher.frame(stamp, f"frame {stamp}", 0.0)
    assert matcher.prediction(2, "prediction") == (2, "frame 2", "prediction")
    assert matcher.overdue(9.0) == [(3, "frame 3", None)]
    matcher.prediction(9, "prediction")
    matcher.frame(8, "skipped", 9.0)
    assert matcher.overdue(99.0) == []


def test_frames_that_have_no_room_to_wait_are_shown_without_a_prediction() -> None:
    """A wait of 2 s at 30 Hz is 60 frames; without a recogniser none of 600 is ever predicted."""
    matcher: Matcher[int, int] = Matcher(wait_s=2.0)
    shown = []
    for index in range(600):
        now_s = index / 30
        match = matcher.frame(index, index, now_s)
        shown += ([match] if match else []) + matcher.overdue(now_s)
    shown += matcher.overdue(99.0)
    assert shown == [(index, index, None) for index in range(600)]


def test_a_recording_that_starts_again_is_followed() -> None:
    matcher: Matcher[str, str] = Matcher(wait_s=0.3)
    matcher.prediction(100_000_000_000, "prediction")
    matcher.frame(5, "frame", 0.0)
    assert matcher.prediction(5, "prediction") == (5, "frame", "prediction")


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.randoms(use_true_random=False))
def test_every_predicted_frame_is_shown_once_with_its_own(predicted: list[bool], random: object) -> None:
    """Frames and predictions each in order, mixed in any way; those not predicted are shown bare, once, or never."""
    matcher: Matcher[int, int] = Matcher(wait_s=1e9)
    streams = [list(range(len(predicted))), [i for i, yes in enumerate(predicted) if yes]]
    shown, bare = [], []
    while any(streams):
        kind = random.choice([i for i in (0, 1) if streams[i]])  # type: ignore[attr-defined]
        if abs((streams[0] or [999])[0] - (streams[1] or [999])[0]) > 20:  # neither is late for ever
            kind = int((streams[0] or [999])[0] > (streams[1] or [999])[0])
        stamp = streams[kind].pop(0)
        match = matcher.frame(stamp, stamp, 0.0) if kind == 0 else matcher.prediction(stamp, stamp)
        if match is not None and match.prediction is None:
            bare.append(match.frame)
        elif match is not None:
            assert match.frame == match.prediction == stamp
            shown.append(stamp)
    assert shown == [i for i, yes in enumerate(predicted) if yes]
    assert len(bare) == len(set(bare))
    assert not any(predicted[i] for i in bare)


def test_a_name_without_end_is_cut() -> None:
    """Shortening it to the width of the picture would take minutes."""
    name = "bottle" * 100_000
    message = ActionPrediction(actions=[ScoredLabel(name=name, score=0.5)], modalities=[ModalityStatus(name=name)])
    view = Viewer().view(message)
    assert (view.actions[0][0], *view.sensors) == (name[:200], name[:200])


# --- the process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def overlaid(tmp_path: Path, ros_env: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Robot]:
    """A robot around an overlay_node; an indirect parameter is the transport of the images."""
    transport = getattr(request, "param", "raw")
    process = start(tmp_path / "log", ros_env, module=MODULE, image__transport=transport)
    try:
        with robot(compressed=transport == "compressed") as r:
            r.watched = process
            r.actions = r.node.create_publisher(ActionPrediction, "action_node/actions", 10)  # type: ignore[attr-defined]
            yield r
        assert process.end() == 0, process.output
    finally:
        process.popen.kill()


def watch(r: Robot) -> list[Image]:
    heard: list[Image] = r.listen(Image, "overlay_node/image")
    for publisher in (r.images, r.actions):  # type: ignore[attr-defined]
        r.wait("the overlay to listen", partial(publisher.get_subscription_count))
    return heard


def predict(
    r: Robot,
    stamp: int | Time,
    *,
    trigger: int = ActionPrediction.CAMERA,
    video: int = ModalityStatus.OK,
    **changes: object,
) -> None:
    """:param stamp: [ns], or as it is in the header. :param changes: other fields of the message."""
    values: dict[str, object] = {
        "actions": [ScoredLabel(id=1, name="pour bottle", score=0.8)],
        "modalities": [ModalityStatus(name="video", state=video)],
    }
    message = ActionPrediction(trigger=trigger, latency=0.005, **(values | changes))
    message.header.stamp = stamp if isinstance(stamp, Time) else time_of(stamp)
    r.actions.publish(message)  # type: ignore[attr-defined]


def shown(r: Robot, heard: list[Image], stamp_ns: int) -> np.ndarray:
    message = r.wait("the picture", lambda: next((m for m in heard if ns_of(m.header.stamp) == stamp_ns), None))
    assert message.encoding == "rgb8"
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


@pytest.mark.parametrize(
    ("overlaid", "height", "width"),
    [("raw", 240, 320), ("raw", 1080, 1920), ("compressed", 240, 320)],
    indirect=["overlaid"],
)
def test_a_frame_is_shown_with_its_prediction_and_its_own_header(overlaid: Robot, height: int, width: int) -> None:
    heard = watch(overlaid)
    rgb = picture(120, 0, height=height, width=width)
    overlaid.send_image(1_000_000_000, rgb)
    predict(overlaid, 1_000_000_000)
    drawn, rgb = shown(overlaid, heard, 1_000_000_000), overlaid.as_received(rgb)
    assert heard[0].header.frame_id == "camera"
    assert drawn.shape == rgb.shape
    between = slice(height // 6, height * 3 // 4)  # the panels
    assert np.array_equal(drawn[between], rgb[between])
    assert drawn[height * 4 // 5 :].max() > rgb.max()  # written in light letters


def test_a_frame_without_a_prediction_is_shown_after_a_while(overlaid: Robot) -> None:
    heard = watch(overlaid)
    overlaid.send_image(1_000_000_000, picture(120, 0, height=240, width=320))
    bare = shown(overlaid, heard, 1_000_000_000)
    overlaid.send_image(2_000_000_000, picture(120, 0, height=240, width=320))
    predict(overlaid, 2_000_000_000)
    assert not np.array_equal(bare, shown(overlaid, heard, 2_000_000_000))


def test_while_the_camera_is_gone_its_last_picture_stays_dark(overlaid: Robot) -> None:
    heard = watch(overlaid)
    rgb = picture(120, 0, height=240, width=320)
    overlaid.send_image(1_000_000_000, rgb)
    predict(overlaid, 1_000_000_000)
    shown(overlaid, heard, 1_000_000_000)
    predict(overlaid, 1_033_000_000, trigger=ActionPrediction.TIMER)  # the camera is only late: no picture
    predict(overlaid, 2_000_000_000, trigger=ActionPrediction.TIMER, video=ModalityStatus.STALE)
    dark = shown(overlaid, heard, 2_000_000_000)
    assert dark.shape == rgb.shape
    assert dark[40:180].mean() < 0.5 * rgb[40:180].mean()
    assert len(heard) == 2


def test_nothing_is_heard_while_nobody_looks(overlaid: Robot) -> None:
    subscription = overlaid.node.create_subscription(Image, "overlay_node/image", lambda _: None, 1)
    overlaid.wait("the camera to be heard", overlaid.images.get_subscription_count)
    overlaid.node.destroy_subscription(subscription)
    overlaid.wait("the camera no longer to be heard", lambda: overlaid.images.get_subscription_count() == 0)


def test_a_broken_image_is_said_and_survived(overlaid: Robot) -> None:
    heard = watch(overlaid)
    broken = Image(height=2, width=2, encoding="rgb8", step=1)
    broken.header.stamp = time_of(1_000_000_000)
    overlaid.images.publish(broken)
    overlaid.wait("the line", lambda: overlaid.watched is not None and "wrong step" in overlaid.watched.output)
    overlaid.send_image(2_000_000_000, picture(120, 0))
    shown(overlaid, heard, 2_000_000_000)


def test_odd_predictions_are_said_and_their_frames_shown_without(overlaid: Robot) -> None:
    heard = watch(overlaid)
    rgb = picture(120, 0, height=240, width=320)
    overlaid.send_image(1_000_000_000, rgb)
    bare = shown(overlaid, heard, 1_000_000_000)  # after `wait`, without a prediction
    odd: tuple[dict[str, object], ...] = (
        {"actions": [ScoredLabel(id=1, name="pour bottle", score=float("nan"))]},
        {"modalities": [ModalityStatus(name="video", state=8)]},
        {"status": 9},
    )
    for second, changes in enumerate(odd, start=2):
        overlaid.send_image(second * 10**9, rgb)
        predict(overlaid, second * 10**9, **changes)
        assert np.array_equal(shown(overlaid, heard, second * 10**9), bare)
    line = "prediction: prediction cannot be: the score of 'pour bottle' is nan"
    overlaid.wait("the line", lambda: overlaid.watched is not None and line in overlaid.watched.output)
    overlaid.send_image(9_000_000_000, rgb)
    predict(overlaid, 9_000_000_000)
    assert not np.array_equal(shown(overlaid, heard, 9_000_000_000), bare)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"actions": [ScoredLabel(name="pour bottle", score=float("inf"))]}, "the score of 'pour bottle' is inf"),
        ({"modalities": [ModalityStatus(name="video", state=8)]}, "state 8 of 'video'"),
        ({"status": 9}, "status 9"),
    ],
)
def test_what_is_odd_in_a_prediction_is_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SampleError, match=f"prediction cannot be: {said}"):
        Viewer().view(ActionPrediction(**changes))


def test_a_stamp_that_fits_no_message_is_said_and_survived(overlaid: Robot) -> None:
    """More than a second of nanoseconds: the last second that there is, and one more."""
    heard = watch(overlaid)
    odd = Time(sec=2**31 - 1, nanosec=1_000_000_000)
    frame = image_to_msg(1, "camera", picture(120, 0))
    frame.header.stamp = odd
    overlaid.images.publish(frame)
    line = "video: impossible stamp: a stamp of 2147483648000000000 ns does not fit"
    overlaid.wait("the line", lambda: overlaid.watched is not None and line in overlaid.watched.output)
    predict(overlaid, odd, trigger=ActionPrediction.TIMER, video=ModalityStatus.STALE)
    line = line.replace("video", "prediction")
    overlaid.wait("its line", lambda: overlaid.watched is not None and line in overlaid.watched.output)
    overlaid.send_image(2_000_000_000, picture(120, 0))
    shown(overlaid, heard, 2_000_000_000)
