# SPDX-License-Identifier: Apache-2.0
"""The method itself: missing-modality tokens, read-out, votes, dropout; each test fails when its rule is broken."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from karmma_training.data.dropout import ModalityDropout, SlotSubset, TokenRunDropout  # noqa: E402
from karmma_training.networks.fusion import mean_present  # noqa: E402
from karmma_training.networks.model import Fusion  # noqa: E402
from karmma_training.presets import preset  # noqa: E402

HEADS = {"verb": 5, "noun": 4}


def make_fusion(**changes: object) -> Fusion:
    torch.manual_seed(0)
    config = preset("tiny")
    for name, value in changes.items():
        setattr(config.fusion, name, value)
    return Fusion(config, HEADS).eval()


def window(fusion: Fusion, batch: int = 3, share: float = 0.6) -> tuple[dict, dict]:
    generator = torch.Generator().manual_seed(1)
    tokens, present = {}, {}
    for m, s in fusion.specs.items():
        tokens[m] = torch.randn(batch, s.slots * s.tokens, s.dim, generator=generator)
        present[m] = torch.rand(batch, s.slots * s.tokens, generator=generator) < share
    return tokens, present


def test_gradients_reach_the_learned_tokens_of_an_absent_modality() -> None:
    fusion = make_fusion()
    tokens, present = window(fusion)
    present["video"][:] = False
    sum(v.square().sum() for v in fusion(tokens, present).values()).backward()
    embed = fusion.block.embed
    assert embed.modality_token["video"].grad.abs().sum() > 0
    assert (embed.token_token["video"].grad.abs().sum(1) > 0).all(), "every token-specific token learns"
    assert embed.project["video"].weight.grad.abs().sum() == 0, "the projection of an absent modality does not"
    assert embed.project["audio"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("missing", ["learned", "masked", "zeroed"])
def test_nan_behind_absent_tokens_changes_neither_logits_nor_gradients(missing: str) -> None:
    results = []
    for fill in (0.0, float("nan")):
        fusion = make_fusion(missing=missing)
        tokens, present = window(fusion)
        for m in tokens:
            tokens[m][~present[m]] = fill
        logits = fusion(tokens, present)
        sum(v.square().sum() for v in logits.values()).backward()
        results.append((logits, {n: p.grad.clone() for n, p in fusion.named_parameters() if p.grad is not None}))
    (a, grad_a), (b, grad_b) = results
    for head in a:
        assert torch.equal(a[head], b[head])
    for name in grad_a:
        assert torch.equal(grad_a[name], grad_b[name]), name


def test_permuting_absent_inputs_changes_nothing() -> None:
    fusion = make_fusion()
    tokens, present = window(fusion)
    before = fusion(tokens, present)
    for m in tokens:
        for row in range(len(tokens[m])):
            absent = (~present[m][row]).nonzero()[:, 0]
            tokens[m][row, absent] = tokens[m][row, absent.flip(0)]
    after = fusion(tokens, present)
    assert torch.equal(before["verb"], after["verb"])


def test_a_present_token_does_change_the_logits() -> None:
    fusion = make_fusion()
    tokens, present = window(fusion)
    before = fusion(tokens, present)["verb"]
    row, token = present["flow"].nonzero()[0].tolist()
    tokens["flow"][row, token] += 1
    after = fusion(tokens, present)["verb"]
    assert not torch.equal(before[row], after[row])


def test_read_out_averages_over_present_tokens_only() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    mean = mean_present(tokens, torch.tensor([[True, True, False]]))
    assert torch.allclose(mean, torch.tensor([[2.0, 3.0]]))
    assert torch.equal(mean_present(tokens, torch.zeros(1, 3, dtype=torch.bool)), torch.zeros(1, 2))


def test_a_modality_without_tokens_casts_no_vote_unless_asked_to() -> None:
    for votes in (False, True):
        fusion = make_fusion(absent_votes=votes)
        tokens, present = window(fusion)
        present["audio"][:] = False
        before = fusion(tokens, present)["verb"]
        with torch.no_grad():
            fusion.mlp.mlps[1 + list(fusion.specs).index("audio")][-1].bias += 10
        after = fusion(tokens, present)["verb"]
        assert torch.equal(before, after) != votes


def test_an_absent_modality_votes_on_what_fusion_made_of_its_tokens() -> None:
    fusion = make_fusion(absent_votes=True)
    tokens, present = window(fusion, share=1.0)
    present["audio"][:] = False
    at = 1 + list(fusion.specs).index("audio")
    before = fusion.block(tokens, present)[:, at]
    tokens["video"] = tokens["video"] + 1
    assert not torch.allclose(fusion.block(tokens, present)[:, at], before), "another modality's input changes its vote"
    now = fusion.block(tokens, present)[:, at]
    tokens["audio"] = tokens["audio"] + 1
    assert torch.equal(fusion.block(tokens, present)[:, at], now), "its own does not"


def test_present_voters_are_averaged() -> None:
    fusion = make_fusion()
    tokens, present = window(fusion, share=1.0)
    before = fusion(tokens, present)["verb"]
    with torch.no_grad():
        fusion.mlp.mlps[2][-1].bias += 4.0  # one voter of four
    assert torch.allclose(fusion(tokens, present)["verb"] - before, torch.ones_like(before), atol=1e-5)


@pytest.mark.parametrize("missing", ["learned", "masked"])
def test_masked_tokens_are_not_attended_to_and_learned_ones_are(missing: str) -> None:
    fusion = make_fusion(missing=missing)
    tokens, present = window(fusion)
    for m in present:
        present[m][:, 3] = False
    before = fusion(tokens, present)["verb"]
    with torch.no_grad():  # what an absent slot's learned vector changes comes through attention
        for m in tokens:
            fusion.block.embed.token_token[m][3] += torch.randn(fusion.block.cls.shape)
    same = torch.allclose(fusion(tokens, present)["verb"], before, atol=1e-6)
    assert same == (missing == "masked")


def test_modality_dropout_keeps_at_least_one_recorded_modality() -> None:
    rng = np.random.default_rng(0)
    recorded = rng.random((5000, 3)) < 0.7
    kept = ModalityDropout(0.9).draw(recorded, rng)
    assert not (kept & ~recorded).any(), "what was not recorded cannot be kept"
    assert (kept.any(1) == recorded.any(1)).all()
    full = ModalityDropout(0.9).draw(np.ones((5000, 3), bool), rng)
    assert np.abs(full.mean(0) - full.mean()).max() < 0.03, "no modality is favoured"
    assert ModalityDropout(0.0).draw(recorded, rng).sum() == recorded.sum()
    dropped = ~ModalityDropout(0.3).draw(np.ones((20000, 3), bool), rng)
    assert abs(dropped.mean() - (0.3 - 0.3**3 / 3)) < 0.01, "0.3, less the one that stays when all would go"


def test_token_runs_are_contiguous_and_never_everything() -> None:
    rng = np.random.default_rng(0)
    newest = oldest = inner = 0
    for _ in range(500):
        keep = TokenRunDropout(1.0).draw(10, rng)
        gone = np.flatnonzero(~keep)
        assert 1 <= len(gone) < 10
        assert (np.diff(gone) == 1).all()
        newest += not keep[0]
        oldest += not keep[-1]
        inner += bool(keep[0] and keep[-1])
    assert min(newest, oldest, inner) > 30, "died, started late and lost in between all occur"
    assert TokenRunDropout(0.0).draw(10, rng).all()


def test_slot_subsets_stay_within_the_present_slots() -> None:
    rng = np.random.default_rng(0)
    present = rng.random(20) < 0.5
    for _ in range(200):
        keep = SlotSubset(0.0, 0.25, 0.6).draw(present, rng)
        assert not (keep & ~present).any()
        assert 1 <= keep.sum() <= round(0.6 * present.sum())
    assert (SlotSubset(1.0, 0.25, 0.6).draw(present, rng) == present).all()
    assert not SlotSubset(0.0, 0.25, 0.6).draw(np.zeros(20, bool), rng).any()
