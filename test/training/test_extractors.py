# SPDX-License-Identifier: Apache-2.0
"""Extractors: log-mel against a plain computation, units of flow, shapes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_training.bundle.export import sample_inputs  # noqa: E402
from karmma_training.config_file import apply_overrides  # noqa: E402
from karmma_training.networks.extractors import LogMel, build_extractor  # noqa: E402
from karmma_training.presets import preset  # noqa: E402


def test_log_mel_equals_a_windowed_fourier_transform() -> None:
    rate, hop, mels = 16000, 200, 48
    sound = 0.3 * np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    module = LogMel(rate, hop, mels)
    ours = module(torch.from_numpy(sound)[None])[0].numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * hop) / (2 * hop))
    frames = np.stack([sound[k * hop : (k + 2) * hop] * window for k in range(len(sound) // hop - 1)])
    power = np.abs(np.fft.rfft(frames)) ** 2 / (2 * hop)
    frequencies = np.fft.rfftfreq(2 * hop, 1 / rate)
    inside = (frequencies >= 40) & (frequencies <= 0.49 * rate)
    expected = np.log(module.bands.numpy() @ power[:, inside].T + 1e-6)
    assert ours.shape == (mels, 31)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize(("hop", "mels"), [(200, 48), (160, 128)])
def test_every_band_hears_something(hop: int, mels: int) -> None:
    """Also where bands are narrower than the distance between two frequencies."""
    bands = LogMel(16000, hop, mels).bands
    assert bands.sum(1).min() > 0.05
    peaks = bands.argmax(1)
    assert (peaks.diff() >= 0).all(), "in order"


def test_a_tone_shows_in_its_own_mel_band() -> None:
    module = LogMel(16000, 200, 48)
    time = np.arange(6400) / 16000
    peaks = [
        int(module(torch.tensor(np.sin(2 * np.pi * hz * time), dtype=torch.float32)[None])[0].mean(1).argmax())
        for hz in (200, 500, 1000, 2000, 4000)
    ]
    assert peaks == sorted(set(peaks)), "higher tones peak in higher bands"


@pytest.mark.parametrize("modality", ["video", "flow", "audio"])
@pytest.mark.parametrize("tokens", [1, 3])
def test_tokens_have_the_configured_shape(modality: str, tokens: int) -> None:
    config = apply_overrides(preset("tiny"), [f"{modality}.tokens={tokens}"])
    extractor = build_extractor(modality, config).eval()
    samples = torch.from_numpy(sample_inputs(config, modality, 4, np.random.default_rng(0)))
    assert extractor(samples).shape == (4, tokens, config.slots(modality).dim)


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    config = preset("tiny")
    extractor = build_extractor("video", config)
    samples = torch.from_numpy(sample_inputs(config, "video", 16, np.random.default_rng(0)))
    extractor.train()(samples)  # so that the running statistics are not those of initialisation
    before = extractor.eval()(samples)
    extractor.fuse()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in extractor.modules())
    assert torch.allclose(before, extractor(samples), atol=1e-4)
