"""Subtasks weigh what their outlines of validation cases are worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.reliability import MIN_CASES, reliability_of
from lib.ciml.training.train import TrainingSettings, train

MakeCase = Callable[..., TrainingCase]
CT, PET, MR = 0, 1, 2
EIGHT = TrainingSettings(epochs=4, steps_per_epoch=5, roi_size=(8, 16, 16), validate_every=2)


@pytest.fixture
def by_pet(network: CimlNetwork, make_case: MakeCase) -> CimlNetwork:
    """A network that learned a little; the lesion is bright in PET, faint in CT and not in MR."""
    train(network, [make_case(number) for number in range(20, 24)], [], EIGHT)
    return network


def test_the_subtask_that_outlines_best_weighs_most_while_it_has_its_modality(
    by_pet: CimlNetwork, make_case: MakeCase
) -> None:
    weights = reliability_of(by_pet, [make_case(number) for number in range(6)])
    assert weights is not None
    complete = weights[1, :, 0]
    assert complete.argmax() == PET
    assert complete[PET] > complete[MR]
    assert weights[0, PET, 0] < complete[PET]
    assert float(weights.max()) == 1.0
    assert float(weights.min()) > 0.0


def test_the_same_cases_give_the_same_weights(by_pet: CimlNetwork, make_case: MakeCase) -> None:
    cases = [make_case(number) for number in range(MIN_CASES)]
    first, second = (reliability_of(by_pet, cases) for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


def test_too_few_cases_leave_the_weights_as_they_were(by_pet: CimlNetwork, make_case: MakeCase) -> None:
    assert reliability_of(by_pet, [make_case(number) for number in range(MIN_CASES - 1)]) is None
    assert torch.equal(by_pet.reliability, torch.ones(2, 3, 1))


def test_a_training_weighs_its_subtasks_and_never_outlines_worse_for_it(
    network: CimlNetwork, make_case: MakeCase
) -> None:
    told = []
    validation = [make_case(number) for number in range(MIN_CASES)]
    result = train(network, [make_case(9)], validation, EIGHT, on_epoch=told.append)
    best = max(report.dice for report in told if report.dice is not None)
    assert result.dice is not None
    assert result.dice >= best
