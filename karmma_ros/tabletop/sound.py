# SPDX-License-Identifier: Apache-2.0
"""The sound of a sequence: contacts ring in the object's material, above a noise floor.

Modal synthesis: a material is a set of damped resonances (partials and decay times typical of glass, ceramic, wood and
metal vessels), excited by the contacts and the rubbing that `motion` reports.
"""

from __future__ import annotations

import numpy as np

from karmma_ros.tabletop.motion import Act
from karmma_ros.tabletop.types import Array
from karmma_ros.tabletop.vocabulary import MATERIALS

__all__ = ["RATE", "render_sound"]

RATE = 16000  # Hz

# Partials in Hz, decay times in s, relative amplitudes.
_MODES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "glass": ((2050, 3900, 5600, 7000), (0.16, 0.12, 0.08, 0.05), (1.0, 0.7, 0.5, 0.3)),
    "ceramic": ((1150, 2500, 3700, 5200), (0.07, 0.05, 0.035, 0.02), (1.0, 0.8, 0.5, 0.3)),
    "wood": ((310, 640, 1050, 1700), (0.035, 0.025, 0.018, 0.012), (1.0, 0.7, 0.5, 0.3)),
    "metal": ((620, 1480, 2790, 4560), (0.28, 0.22, 0.16, 0.1), (0.8, 1.0, 0.8, 0.6)),
}


def _ring(material: str, stretch: float, damping: float) -> Array:
    """Impulse response of a material, (n,) at RATE."""
    frequency, decay, amplitude = _MODES[material]
    t = np.arange(int(0.6 * RATE)) / RATE
    out = np.zeros_like(t)
    for f, d, a in zip(frequency, decay, amplitude, strict=True):
        if f * stretch < 0.48 * RATE:
            out += a * np.exp(-t / (d * damping)) * np.sin(2 * np.pi * f * stretch * t)
    return out / np.sqrt(np.sum(out**2))


def _convolve(signal: Array, response: Array) -> Array:
    n = 1 << int(np.ceil(np.log2(len(signal) + len(response))))
    return np.fft.irfft(np.fft.rfft(signal, n) * np.fft.rfft(response, n), n)[: len(signal)]


def _shaped_noise(rng: np.random.Generator, n: int, low_hz: float, high_hz: float, tilt: float) -> Array:
    """Gaussian noise between two frequencies whose power falls as f ** -tilt; unit standard deviation."""
    spectrum = np.fft.rfft(rng.normal(0, 1, n))
    f = np.fft.rfftfreq(n, 1 / RATE)
    gain = np.where((f >= low_hz) & (f <= high_hz), np.maximum(f, 20.0) ** (-tilt / 2), 0.0)
    out = np.fft.irfft(spectrum * gain, n)
    return out / max(float(out.std()), 1e-12)


def render_sound(acts: list[Act], duration_s: float, rng: np.random.Generator) -> Array:
    """Mono float32 (n,) in [-1, 1] at RATE, quantised to 16 bits so that a WAV file loses nothing."""
    n = round(duration_s * RATE)
    t = np.arange(n) / RATE
    out = np.zeros(n)
    rings = {m: (float(rng.normal(1, 0.07)), float(rng.uniform(0.7, 1.4))) for m in _MODES}
    # Instances differ a little in pitch, but not by their size: that would tell sound-alike nouns apart.
    pitches = {noun: float(rng.normal(1, 0.03)) for noun in MATERIALS}
    level = float(10 ** rng.uniform(-0.35, 0.2))
    for act in acts:
        if act.model is None:
            continue
        first = max(int(act.interval.start_s * RATE), 0)
        last = min(int((act.interval.stop_s + 0.7) * RATE), n)
        span = last - first
        if span <= 0:
            continue
        times = t[first:last]
        material = MATERIALS[act.model.noun]
        stretch, damping = rings[material]
        ring = _ring(material, stretch * pitches[act.model.noun], damping)
        hits = np.zeros(span)
        for contact in act.contacts():
            at = int(contact.time_s * RATE) - first
            width = round(2 + 30 * (1 - contact.sharpness))
            if 0 <= at < span - width:
                hits[at : at + width] += contact.strength * np.hanning(width + 2)[1:-1] * 2.0 / np.sqrt(width)
        rub, hiss = act.friction(times)
        grit = _shaped_noise(rng, span, 60, 7600, 0.3)
        loudness = level * rng.uniform(0.5, 1.3)
        own = _convolve(hits, ring) * 0.55 + _convolve(rub * grit, ring) * 0.045
        own += hiss * _shaped_noise(rng, span, 500, 6500, 0.5) * 0.05
        out[first:last] += loudness * own
    # The room: hiss, hum, and now and then a sound that belongs to nothing on the table.
    floor = 10 ** rng.uniform(-2.6, -1.8)
    out += floor * _shaped_noise(rng, n, 30, 7800, rng.uniform(0.2, 1.2))
    hum = rng.choice([50.0, 60.0])
    out += floor * rng.uniform(0, 0.8) * np.sin(2 * np.pi * hum * t + rng.uniform(0, 6))
    for _ in range(rng.poisson(duration_s * rng.uniform(0.03, 0.3))):
        at = int(rng.uniform(0, max(n - RATE, 1)))
        material = str(rng.choice(list(_MODES)))
        stray = _ring(material, float(rng.uniform(0.6, 1.5)), float(rng.uniform(0.5, 1.5)))
        stop = min(at + len(stray), n)
        out[at:stop] += stray[: stop - at] * rng.uniform(0.05, 0.3) * level
    return (np.rint(np.clip(out * 0.8, -1, 1) * 32767) / 32768).astype(np.float32)
