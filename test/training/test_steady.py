# SPDX-License-Identifier: Apache-2.0
"""Batches that are filled up for a GPU give what they give as they are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from torch import Tensor, nn  # noqa: E402

from karmma_training.networks.steady import ROWS, filled_up, steadily  # noqa: E402


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1])
def test_values_and_gradients_are_those_of_the_batch_as_it_is(rows: int) -> None:
    """Also with channels last, as pictures are, and in three dimensions, as sound is."""
    torch.manual_seed(0)
    pictures = torch.randn(rows, 6, 9, 3).permute(0, 3, 1, 2)
    for convolve, x in (
        (nn.Conv2d(3, 4, 3, 2, 1), pictures),
        (nn.Conv1d(5, 6, 2), torch.randn(rows, 5, 7)),
    ):
        wanted = _with_gradients(convolve, convolve, x)
        found = _with_gradients(convolve, lambda y, c=convolve: filled_up(c, y), x)
        for a, b in zip(wanted, found, strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b)


def _with_gradients(module: nn.Module, convolve, x: Tensor) -> list[Tensor]:  # type: ignore[no-untyped-def]
    module.zero_grad()
    x = x.detach().clone().requires_grad_()
    y = convolve(x)
    y.square().mean().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


def test_few_sizes_are_seen_and_none_other_on_a_cpu() -> None:
    """What cuDNN would plan for."""
    seen: list[int] = []

    def convolve(x: Tensor) -> Tensor:
        seen.append(len(x))
        return 2 * x

    for rows in range(1, 3 * ROWS):
        assert len(filled_up(convolve, torch.zeros(rows, 2))) == rows
    assert set(seen) == {ROWS, 2 * ROWS, 3 * ROWS}
    seen.clear()
    steadily(convolve, torch.zeros(5, 2))
    assert seen == [5]
