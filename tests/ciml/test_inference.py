"""A case's probabilities, whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.ciml.decomposition import decomposition_for
from lib.ciml.inference import predict, region_probabilities
from lib.ciml.network import CimlNetwork, Output
from lib.ciml.patches import TrainingCase

MakeCase = Callable[..., TrainingCase]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 3), (17, 31, 23), (16, 32, 32), (5, 40, 7)])
@pytest.mark.parametrize("max_voxels", [10**6, 0])
def test_a_prediction_has_the_shape_of_its_case(
    network: CimlNetwork, make_case: MakeCase, shape: tuple[int, int, int], max_voxels: int
) -> None:
    probabilities = predict(
        network, make_case(0, shape).prepared, roi_size=(8, 16, 16), max_voxels=max_voxels
    )
    assert probabilities.shape == (1, *shape)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_one_pass_equals_the_network_on_the_same_voxels(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case(0, (16, 32, 24)).prepared
    x = torch.from_numpy(np.array(case.array, np.float32))[None]
    with torch.no_grad():
        expected = region_probabilities(network.eval()(x), network.decomposition)[0].numpy()
    np.testing.assert_allclose(predict(network, case), expected, atol=1e-6)


def test_outside_the_body_is_zero_and_not_computed(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case(0, (20, 60, 60)).prepared
    foreground = np.zeros(case.foreground.shape, dtype=bool)
    foreground[:, 20:40, 20:40] = True
    probabilities = predict(network, replace(case, foreground=foreground))
    assert not probabilities[0, :, :16].any()
    assert (probabilities[0, :, 16:44, 16:44] > 0).all()
    assert (predict(network, replace(case, foreground=np.zeros_like(foreground))) > 0).all()


def test_an_array_without_a_case_is_predicted_too(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case().prepared
    np.testing.assert_array_equal(predict(network, case.array), predict(network, case))
    present = np.array([True, False, True])
    assert not np.array_equal(predict(network, case, present=present), predict(network, case))


def test_subtasks_that_outline_the_same_region_are_averaged() -> None:
    decomposition = decomposition_for(("CT", "PET"))
    logits = {"uptake": torch.zeros(1, 1, 1, 1, 1), "anatomy": torch.full((1, 1, 1, 1, 1), 100.0)}
    assert region_probabilities(Output(logits, []), decomposition).item() == pytest.approx(0.75)


def test_regions_stand_in_the_order_of_the_table() -> None:
    decomposition = decomposition_for(("T1", "T1ce", "T2", "FLAIR"))
    logits = {
        "core": torch.tensor([0.0, -100.0]).view(1, 2, 1, 1, 1),
        "whole": torch.full((1, 1, 1, 1, 1), 100.0),
    }
    whole, core, enhancing = region_probabilities(Output(logits, []), decomposition).flatten().tolist()
    assert (whole, core, enhancing) == pytest.approx((1.0, 0.5, 0.0))


def test_prediction_leaves_the_network_in_its_mode(network: CimlNetwork, make_case: MakeCase) -> None:
    predict(network.train(), make_case().prepared)
    assert network.training


def test_a_case_with_other_channels_is_refused(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case().prepared
    with pytest.raises(ValueError, match="the case must have the channels CT, PET, MR_T1; got A, B, C"):
        predict(network, replace(case, modalities=("A", "B", "C")))
    with pytest.raises(ValueError, match="needs a 3-D network and an array"):
        predict(network, case.array[:2])
    with pytest.raises(ValueError, match="at least one modality"):
        predict(network, case, present=np.zeros(3, dtype=bool))
