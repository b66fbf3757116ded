# SPDX-License-Identifier: Apache-2.0
"""Recordings with a stretch that cannot be read: every stage goes on with the rest of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from rich.console import Console  # noqa: E402

from karmma_ros.errors import KarmmaError, MediaError  # noqa: E402
from karmma_training.checkpoint import load_model  # noqa: E402
from karmma_training.data.features import FeatureCache, make_features  # noqa: E402
from karmma_training.data.windows import WindowSampler  # noqa: E402
from karmma_training.evaluation.evaluate import encode_recording  # noqa: E402
from karmma_training.evaluation.predictor import ModelPredictor  # noqa: E402
from karmma_training.learning.pretrain import SampleSampler, unimodal_accuracy  # noqa: E402
from karmma_training.networks.model import Unimodal  # noqa: E402

if TYPE_CHECKING:
    from fixtures.training import TinyRun

    from karmma_training.data.recording import Recording

HOLE = 90  # the first picture that cannot be read, of 180


def holed(recording: Recording, first: int = HOLE) -> Recording:
    """The recording, of whose video nothing from picture `first` on can be read."""
    made, read = copy.copy(recording), recording.read

    def refuse(modality: str, which: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if modality == "video" and (which >= first).any():
            raise MediaError("scene: a hole in the file")
        return read(modality, which)

    made.read = refuse  # type: ignore[method-assign]
    return made


def test_stage_0_draws_elsewhere_and_judges_the_rest(tiny_run: TinyRun, caplog: pytest.LogCaptureFixture) -> None:
    recording = holed(tiny_run.train[0])
    samples, targets = SampleSampler([recording], tiny_run.config, "video", batch=32, seed=0).batch(0)
    assert len(samples) == len(targets) == 32
    assert caplog.text.count("no sample is drawn there") == 1, "one warning a recording"
    model, config, labels, _ = load_model(tiny_run.run)
    unimodal = Unimodal(model, "video").eval()
    tried: list[int] = []
    unimodal.register_forward_pre_hook(lambda _, given: tried.append(len(given[0])))
    accuracy = unimodal_accuracy(unimodal, [recording], "video", config, labels.sizes())
    assert set(accuracy) == {"verb", "noun"}
    assert sum(tried) == HOLE / 3, "every third frame, up to the hole"
    assert unimodal_accuracy(unimodal, [holed(recording, 0)], "video", config, labels.sizes()) == {}


def test_an_action_that_cannot_be_read_is_not_drawn(tiny_run: TinyRun) -> None:
    """Its turn comes once an epoch."""
    config = copy.deepcopy(tiny_run.config)
    config.data.draw, config.modalities = "actions", ["video"]
    sampler = WindowSampler([holed(tiny_run.train[0], 0), tiny_run.train[1]], config, batch=16, seed=0)
    batch = sampler.batch(0)
    assert (batch.origin[:, 0] == 1).all()
    assert len(batch.targets) == 16


def test_tokens_of_what_cannot_be_read_are_those_of_what_was_before(tiny_run: TinyRun, tmp_path: Any) -> None:
    model, _, labels, _ = load_model(tiny_run.run)
    predictor, whole = ModelPredictor(model, labels), tiny_run.train[0]
    caches = []
    for name, recording in (("whole", whole), ("holed", holed(whole))):
        args = (tmp_path / name, [recording])
        make_features(*args, predictor.encode, predictor.specs, predictor.contexts, Console(quiet=True))
        caches.append(FeatureCache(*args, predictor.specs, predictor.contexts))
    count = len(whole.stamps["video"])
    expected, found = (cache.tokens(0, "video", np.arange(count)) for cache in caches)
    np.testing.assert_allclose(found[:HOLE], expected[:HOLE], atol=1e-3)
    assert (found[HOLE:] == found[HOLE - 1]).all()
    rest = (predictor.encode, predictor.specs, predictor.contexts, Console(quiet=True))
    with pytest.raises(KarmmaError, match="nothing of video in"):
        make_features(tmp_path / "nothing", [holed(whole, 0)], *rest)


def test_what_cannot_be_read_is_missing_in_an_evaluation(tiny_run: TinyRun) -> None:
    model, _, labels, _ = load_model(tiny_run.run)
    recording = holed(tiny_run.validation[0])
    encoded = encode_recording(ModelPredictor(model, labels), recording)
    assert len(encoded.stamps["video"]) == len(encoded.tokens["video"]) == HOLE
    assert len(encoded.stamps["flow"]) == len(recording.stamps["flow"])
    assert len(encoded.times_ns) == len(
        encode_recording(ModelPredictor(model, labels), tiny_run.validation[0]).times_ns
    )
