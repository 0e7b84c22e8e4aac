"""InfoNCE against the equation."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch.nn.functional import normalize

from lib.mdal.representation.info_nce import info_nce


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1
    )


def naive(first, second, temperature, groups=None, valid=None):
    """The equation, one term at a time."""
    terms = []
    for p in range(len(first)):
        for i in range(first.shape[1]):
            if valid is not None and not valid[p][i]:
                continue
            for x, y in ((first[p], second[p]), (second[p], first[p])):
                total = 0.0
                for j in range(len(y)):
                    negative = groups is None or groups[i] != groups[j]
                    if (j == i or negative) and (valid is None or valid[p][j]):
                        total += math.exp(float(x[i] @ y[j]) / temperature)
                terms.append(-float(x[i] @ y[i]) / temperature + math.log(total))
    return sum(terms) / len(terms)


def test_info_nce_is_the_equation_written_out():
    first, second = unit(5, 7, seed=1), unit(5, 7, seed=2)
    assert float(info_nce(first, second, 0.2)) == pytest.approx(naive(first[None], second[None], 0.2))


def test_dense_info_nce_is_the_equation_at_every_position_with_patients_and_gaps():
    first, second = unit(4, 6, 5, seed=3), unit(4, 6, 5, seed=4)
    groups = torch.tensor([0, 0, 1, 2, 2, 3])
    valid = torch.rand(4, 6, generator=torch.Generator().manual_seed(5)) > 0.3
    found = float(info_nce(first, second, 0.3, groups=groups, valid=valid))
    assert found == pytest.approx(naive(first, second, 0.3, groups.tolist(), valid.tolist()))


def test_info_nce_is_the_cross_modal_ntxent_of_pytorch_metric_learning():
    first, second = unit(9, 6, seed=1), unit(9, 6, seed=2)
    loss = NTXentLoss(temperature=0.2)

    def theirs(anchors, others):
        own, other = torch.arange(9), torch.arange(9)  # one object would mean one batch, without positives
        return float(loss(anchors, own, ref_emb=others, ref_labels=other))

    expected = (theirs(first, second) + theirs(second, first)) / 2
    assert float(info_nce(first, second, 0.2)) == pytest.approx(expected)


def test_both_directions_count_the_same():
    first, second = unit(3, 6, 5, seed=6), unit(3, 6, 5, seed=7)
    assert float(info_nce(first, second, 0.1)) == pytest.approx(float(info_nce(second, first, 0.1)))


def test_gradients_are_those_of_finite_differences():
    first, second = unit(2, 4, 3, seed=8).requires_grad_(), unit(2, 4, 3, seed=9).requires_grad_()
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, True, True, False], [True, False, True, True]])
    groups = torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda x, y, t: info_nce(x, y, t, groups=groups, valid=valid), (first, second, temperature)
    )


def test_loss_and_gradient_stay_finite_at_a_small_temperature_and_with_nothing_valid():
    first, second = unit(6, 4, seed=1).float().requires_grad_(), unit(6, 4, seed=2).float()
    for valid in (None, torch.zeros(6, dtype=torch.bool), torch.arange(6) == 2):
        loss = info_nce(first, second, 0.01, groups=torch.zeros(6, dtype=torch.long), valid=valid)
        (gradient,) = torch.autograd.grad(loss + info_nce(first, second, 0.01), first)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_another_case_of_the_same_patient_is_never_a_negative():
    first, second = unit(3, 4, 5, seed=1), unit(3, 4, 5, seed=2)
    second[:, 1] = first[:, 0]  # the hardest of negatives, were it one
    of_one_patient, of_two = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 3, 1, 2])
    kept = info_nce(first, second, 0.1, groups=of_one_patient)
    assert float(kept) < float(info_nce(first, second, 0.1, groups=of_two)) - 0.5
    assert info_nce(first[:, :2], second[:, :2], 0.1, groups=of_one_patient[:2]) == 0.0


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"must both be \(B, K\) or \(P, B, K\); got \(4, 3\) and \(5, 3\)"):
        info_nce(unit(4, 3), unit(5, 3), 0.1)
