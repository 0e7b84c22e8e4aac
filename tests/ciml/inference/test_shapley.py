"""How much of an outline each modality accounts for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.ciml.inference import shapley
from lib.ciml.inference.predict import predict
from lib.ciml.inference.shapley import sentence_of, shapley_of
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.training.patches import TrainingCase

MakeCase = Callable[..., TrainingCase]
SHAPE = (16, 32, 32)


class Halves(CimlNetwork):
    """Outlines the left half of the image if there is a CT, and the right half if there is a PET."""

    def decode(self, features, present, shape, **_) -> Output:
        logits = torch.full((1, 1, *shape), -9.0)
        half = shape[2] // 2
        if self.modalities.index("CT") in features:
            logits[..., :half] = 9.0
        if self.modalities.index("PET") in features:
            logits[..., half:] = 9.0
        return Output(dict.fromkeys((task.name for task in self.decomposition.subtasks), logits), [])


@pytest.fixture
def halves(network: CimlNetwork) -> CimlNetwork:
    network.__class__ = Halves
    return network


def test_the_values_are_those_of_the_closed_form(halves: CimlNetwork, make_case: MakeCase) -> None:
    values = shapley_of(halves, make_case(0, SHAPE).prepared, np.ones((1, *SHAPE), dtype=bool))
    assert values == pytest.approx({"CT": 0.5, "PET": 0.5, "MR_T1": 0.0})


@pytest.mark.parametrize("absent", [None, "PET"])
def test_the_values_sum_to_the_agreement_of_all_modalities(
    network: CimlNetwork, make_case: MakeCase, absent: str | None
) -> None:
    case = make_case(0, SHAPE, **({"absent": absent} if absent else {})).prepared
    outlined = predict(network, case, precision="float32") >= 0.5
    assert outlined.any()
    values = shapley_of(network, case, outlined)
    assert set(values) == set(network.modalities) - {absent}
    assert 0.5 < sum(values.values()) <= 1.0 + 1e-6


def test_all_slices_of_a_case_that_has_few_agree_wholly(
    network: CimlNetwork, make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapley, "SHARE", 100.0)
    case = make_case(0, SHAPE).prepared
    outlined = predict(network, case, precision="float32") >= 0.5
    assert sum(shapley_of(network, case, outlined).values()) == pytest.approx(1.0, abs=0.01)


def test_of_two_outlines_far_apart_the_slices_of_the_larger_are_used(
    halves: CimlNetwork, make_case: MakeCase
) -> None:
    outlined = np.zeros((1, *SHAPE), dtype=bool)
    outlined[:, 0, :2, :2] = True
    outlined[:, -2:] = True
    values = shapley_of(halves, make_case(0, SHAPE).prepared, outlined)
    assert values["CT"] > 0.1
    assert values["CT"] == pytest.approx(values["PET"], abs=0.01)


def test_one_modality_alone_accounts_for_all(halves: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case(0, SHAPE).prepared
    alone = replace(case, present=np.array([name == "CT" for name in halves.modalities]))
    outlined = np.zeros((1, *SHAPE), dtype=bool)
    outlined[..., : SHAPE[2] // 2] = True
    assert shapley_of(halves, alone, outlined) == {"CT": 1.0}


def test_without_an_outline_there_are_no_values(network: CimlNetwork, make_case: MakeCase) -> None:
    assert shapley_of(network, make_case(0, SHAPE).prepared, np.zeros((1, *SHAPE), dtype=bool)) == {}


def test_the_network_is_left_as_it_was(network: CimlNetwork, make_case: MakeCase) -> None:
    network.train()
    shapley_of(network, make_case(0, SHAPE).prepared, np.ones((1, *SHAPE), dtype=bool))
    assert network.training


@pytest.mark.parametrize(
    ("values", "absent", "sentence"),
    [
        (
            {"CT": 0.1, "PET": 0.5, "MR_T1": 0.2},
            (),
            "PET accounts for 62 % of this outline, MR_T1 for 25 % and CT for 12 % (Shapley values).",
        ),
        (
            {"CT": 0.2, "PET": 0.6},
            ("MR_T1",),
            "PET accounts for 75 % of this outline, CT for 25 % (Shapley values). MR_T1 absent.",
        ),
        (
            {"CT": -0.01, "PET": 1.0},
            (),
            "PET accounts for 101 % of this outline, CT for −1 % (Shapley values).",
        ),
        ({"CT": 1.0}, (), "CT accounts for 100 % of this outline (Shapley values)."),
        ({}, ("PET",), "Nothing was outlined, so no modality accounts for it. PET absent."),
    ],
)
def test_the_sentence_names_the_largest_first(
    values: dict[str, float], absent: tuple[str, ...], sentence: str
) -> None:
    assert sentence_of(values, absent) == sentence
