# SPDX-License-Identifier: Apache-2.0
"""From a detector's message to boxes: units, turns, categories, and everything that is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karmma_ros.decode_detections import detections_to_boxes
from karmma_ros.detections import prepare_detections
from karmma_ros.errors import SampleError
from karmma_ros.memory import wipe

SIZE = (200, 100)  # width, height
NUMBERS = {"hand": 0, "cup": 1}
ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def result(class_id: Any = "cup", score: Any = 0.5) -> SimpleNamespace:
    return SimpleNamespace(hypothesis=SimpleNamespace(class_id=class_id, score=score))


def detection(
    x: Any = 50.0, y: Any = 40.0, w: Any = 20.0, h: Any = 10.0, theta: Any = 0.0, *, results: Any = None
) -> SimpleNamespace:
    """As in vision_msgs 4: pixels, (x, y) is the centre."""
    center = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)
    bbox = SimpleNamespace(center=center, size_x=w, size_y=h)
    return SimpleNamespace(results=[result()] if results is None else results, bbox=bbox)


def message(*detections: Any) -> SimpleNamespace:
    return SimpleNamespace(detections=list(detections))


def decode(*detections: Any, **how: Any) -> np.ndarray:
    given = {"numbers": NUMBERS, "size": SIZE} | how
    return detections_to_boxes(message(*detections), **given)


def test_pixels_become_widths_and_heights_of_the_image() -> None:
    boxes = decode(detection(), detection(0, 100, 400, 2, results=[result("hand", 1)]))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [(0.2, 0.35, 0.3, 0.45, 0.5, 1), (-1, 0.99, 1, 1.01, 1, 0)], atol=1e-6)


def test_nothing_found_is_an_answer() -> None:
    boxes = decode()
    assert (boxes.shape, boxes.dtype) == ((0, 6), np.float32)


def test_the_layout_before_vision_msgs_4_is_read_too() -> None:
    old = detection()
    old.bbox.center = SimpleNamespace(x=50.0, y=40.0, theta=0.0)
    np.testing.assert_array_equal(decode(old), decode(detection()))


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_boxes_are_turned_with_the_image(rotate: int) -> None:
    width, height = SIZE
    picture = np.zeros((height, width), np.uint8)
    picture[35:45, 40:60] = 255  # what `detection()` is a box around
    upright = cv2.rotate(picture, ROTATIONS[rotate]) if rotate else picture
    rows, columns = np.nonzero(upright)
    corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    expected = np.divide(corners, (*upright.shape[::-1], *upright.shape[::-1]))
    np.testing.assert_allclose(decode(detection(), rotate=rotate)[0, :4], expected, atol=1e-6)


def test_another_turn_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="rotate must be"):
        decode(detection(), rotate=45)


@pytest.mark.parametrize("theta", [0.3, -0.3, math.pi / 2, 2.5, math.pi])
def test_a_turned_box_counts_by_the_upright_one_around_it(theta: float) -> None:
    corners = np.array([(sx * 10, sy * 5) for sx in (-1, 1) for sy in (-1, 1)])
    turn = np.array([(math.cos(theta), -math.sin(theta)), (math.sin(theta), math.cos(theta))])
    points = corners @ turn.T + (50, 40)
    expected = np.divide((*points.min(axis=0), *points.max(axis=0)), (*SIZE, *SIZE))
    np.testing.assert_allclose(decode(detection(theta=theta))[0, :4], expected, atol=1e-6)


@pytest.mark.parametrize("theta", [0.009, -0.009])
def test_a_box_that_is_nearly_upright_is(theta: float) -> None:
    np.testing.assert_array_equal(decode(detection(theta=theta)), decode(detection()))


@pytest.mark.parametrize(
    ("class_id", "number"),
    [
        ("hand", 0),
        ("cup", 1),
        ("0", 0),
        ("1", 1),
        ("01", 1),
        ("2", None),
        ("-1", None),
        ("1.0", None),
        ("Cup", None),
        ("", None),
        ("\u0661", None),  # a digit elsewhere
        ("\u00b2", None),
        ("9" * 5000, None),
    ],
)
def test_a_category_is_found_by_name_or_number(class_id: str, number: int | None) -> None:
    one = detection(results=[result(class_id)])
    assert decode(one)[:, 5].tolist() == ([] if number is None else [number])
    other = {"hand": 0, "cup": 1, "object": 2}
    expected = 2 if number is None else number
    assert decode(one, numbers=other)[:, 5].tolist() == [expected]


def test_a_name_goes_before_a_number() -> None:
    assert decode(detection(results=[result("0")]), numbers={"1": 0, "0": 1})[0, 5] == 1


def test_the_best_result_counts_whatever_it_is() -> None:
    results = [result("hand", 0.2), result("cup", 0.9), result("hand", 0.3)]
    assert decode(detection(results=results))[0, 4:].tolist() == pytest.approx([0.9, 1])
    assert len(decode(detection(results=[result("dragon", 0.9), result("cup", 0.1)]))) == 0


def test_what_has_no_result_or_no_known_category_is_passed_over() -> None:
    empty, strange = detection(w=0.0, results=[]), detection(math.nan, results=[result("dragon")])
    assert decode(empty, detection(), strange)[:, 5].tolist() == [1]


NOT_FINITE, NO_SIZE = "detections are not finite", "detections have no size"


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (detection(math.nan), NOT_FINITE),
        (detection(y=math.inf), NOT_FINITE),
        (detection(w=-math.inf), NOT_FINITE),
        (detection(h=math.nan), NOT_FINITE),
        (detection(theta=math.inf), NOT_FINITE),
        (detection(results=[result(score=math.nan)]), NOT_FINITE),
        (detection(results=[result(), result(score=math.nan)]), NOT_FINITE),
        (detection(10**400), NOT_FINITE),
        (detection(1e300), NOT_FINITE),  # no float32
        (detection(1.7e308, w=1.7e308), NOT_FINITE),  # nor a float64
        (detection(results=[result(score=1e300)]), NOT_FINITE),
        (detection(w=0.0), NO_SIZE),
        (detection(h=-1.0), NO_SIZE),
        (detection("50"), "malformed message"),
        (detection(True), "malformed message"),
        (detection(theta=None), "malformed message"),
        (detection(results=7), "malformed message"),
        (detection(results="text"), "malformed message"),
        (detection(results=[None]), "malformed message"),
        (detection(results=[result(class_id=1)]), "malformed message"),
        (detection(results=[result(class_id=b"cup")]), "malformed message"),
        (SimpleNamespace(results=[result()]), "malformed message"),
        (SimpleNamespace(results=[result()], bbox=SimpleNamespace(size_x=1, size_y=1)), "malformed message"),
        (SimpleNamespace(bbox=detection().bbox), "malformed message"),
        (None, "malformed message"),
    ],
)
def test_what_is_no_detection_is_refused(made: Any, cause: str) -> None:
    with pytest.raises(SampleError) as error:
        decode(detection(), made)
    assert error.value.cause == cause


@pytest.mark.parametrize("detections", [None, 3, "text", b"bytes", {}])
def test_what_holds_no_detections_is_refused(detections: Any) -> None:
    with pytest.raises(SampleError, match="malformed message: detections"):
        detections_to_boxes(SimpleNamespace(detections=detections), NUMBERS, SIZE)
    with pytest.raises(SampleError, match="malformed message: detections"):
        detections_to_boxes(SimpleNamespace(), NUMBERS, SIZE)


def test_too_many_are_refused_before_one_is_looked_at() -> None:
    with pytest.raises(SampleError) as error:
        decode(*[None] * 4, max_boxes=3)
    assert error.value.cause == "too many detections"
    assert len(decode(*[detection()] * 3, max_boxes=3)) == 3


@pytest.mark.parametrize("found", [[], [detection()]])
def test_without_the_size_of_the_image_nothing_can_be_said(found: list[Any]) -> None:
    with pytest.raises(SampleError) as error:
        decode(*found, size=None)
    assert error.value.cause == "detections came before the size of the image is known"
    assert "detections.image_width" in error.value.detail


def test_a_message_can_be_wiped() -> None:
    sent = message(detection())
    wipe(sent)
    assert len(sent.detections) == 1


numbers = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.text(max_size=3), st.none(), st.floats(1, 1e3), st.floats(1, 1e3)
)
results = st.lists(st.builds(result, st.one_of(st.sampled_from(["cup", "1", "x"]), numbers), numbers), max_size=3)
whatever = st.one_of(
    st.builds(detection, numbers, numbers, numbers, numbers, numbers, results=results), st.none(), st.integers()
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(whatever, st.builds(detection, results=results)), max_size=4), st.sampled_from([0, 90, 180, 270])
)
def test_any_message_is_boxes_or_refused(found: list[Any], rotate: int) -> None:
    try:
        boxes = decode(*found, rotate=rotate)
    except SampleError:
        return
    assert np.isfinite(boxes).all()
    assert (boxes[:, 0] <= boxes[:, 2]).all()
    assert (boxes[:, 1] <= boxes[:, 3]).all()
    prepare_detections(boxes, 4, len(NUMBERS))
