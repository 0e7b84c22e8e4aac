"""A case's probabilities, whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.inference.predict import Answer, infer, predict, region_probabilities
from lib.ciml.inference.windows import voxels_within, window_of
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.patches import TrainingCase

MakeCase = Callable[..., TrainingCase]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 3), (17, 31, 23), (16, 32, 32), (5, 40, 7)])
@pytest.mark.parametrize("max_voxels", [10**6, 0])
def test_a_prediction_has_the_shape_of_its_case(
    network: CimlNetwork, make_case: MakeCase, shape: tuple[int, int, int], max_voxels: int
) -> None:
    probabilities = predict(network, make_case(0, shape).prepared, max_voxels=max_voxels)
    assert probabilities.shape == (1, *shape)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_one_pass_equals_the_network_on_the_same_voxels(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case(0, (16, 32, 24)).prepared
    x = torch.from_numpy(np.array(case.array, np.float32))[None]
    with torch.no_grad():
        expected = region_probabilities(network.eval()(x), network.decomposition)[0].numpy()
    np.testing.assert_allclose(predict(network, case, precision="float32"), expected, atol=1e-6)


def test_half_precision_moves_no_probability_by_more_than_a_hundredth(
    network: CimlNetwork, make_case: MakeCase
) -> None:
    case = make_case(0, (16, 32, 24)).prepared
    exact, quick = (predict(network, case, precision=name) for name in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - quick).max() < 0.01


def test_an_undecided_network_has_the_uncertainty_of_a_coin_and_a_sure_one_none(
    network: CimlNetwork, make_case: MakeCase
) -> None:
    case = make_case().prepared
    for bias, nats in ((0.0, np.log(2)), (40.0, 0.0)):
        with torch.no_grad():
            for decoder in network.decoders:
                decoder.head.weight.zero_()
                decoder.head.bias.fill_(bias)
        assert infer(network, case).uncertainty == pytest.approx(nats, abs=1e-6)


class Small(CimlNetwork):
    """Runs out of memory where it is given more than so many voxels."""

    limit = 0

    def forward(self, x: torch.Tensor, *arguments: object, **named: object) -> Output:
        if x[0, 0].numel() > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x, *arguments, **named)


def answer_within(network: CimlNetwork, case: TrainingCase, limit: int) -> Answer:
    small = Small(network.decomposition, network.modalities, network.settings)
    small.load_state_dict(network.state_dict())
    small.limit = limit
    return infer(small, case.prepared, max_voxels=16 * 1024)


def test_a_case_that_memory_does_not_hold_is_done_in_smaller_windows_and_says_so(
    network: CimlNetwork, make_case: MakeCase
) -> None:
    case = make_case(0, (16, 32, 32))
    whole, split = answer_within(network, case, 16 * 1024), answer_within(network, case, 4 * 1024)
    assert whole.fallback == ""
    assert "memory did not hold it as planned" in split.fallback
    assert split.fallback.endswith("computed on the CPU, 16 x 16 x 16 voxels at once.")
    assert split.probabilities.shape == whole.probabilities.shape
    with pytest.raises(torch.OutOfMemoryError):
        answer_within(network, case, 0)


@pytest.mark.parametrize(
    ("shape", "most", "window"),
    [
        ((10, 30, 30), 10**6, (12, 32, 32)),
        ((10, 30, 30), 6144, (12, 16, 32)),
        ((100, 8, 8), 4096, (16, 16, 16)),
        ((100, 300, 300), 0, (8, 16, 16)),
        ((1, 1, 1), 10, (8, 16, 16)),
    ],
)
def test_a_window_is_the_largest_that_memory_holds(
    shape: tuple[int, ...], most: int, window: tuple[int, ...]
) -> None:
    divisor = (4, 8, 8)
    assert window_of(shape, divisor, most) == window


def test_a_larger_network_gets_fewer_voxels_at_once() -> None:
    modalities = ("T1", "T1ce", "T2", "FLAIR")
    tiny, base = (
        CimlNetwork(decomposition_for(modalities), modalities, NetworkSettings.of_size(size))
        for size in ("tiny", "base")
    )
    assert voxels_within(1e9, base, "float32") < voxels_within(1e9, base, "bfloat16")
    assert voxels_within(1e9, base, "bfloat16") < voxels_within(1e9, tiny, "bfloat16")


def test_outside_the_body_is_zero_and_not_computed(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case(0, (20, 60, 60)).prepared
    foreground = np.zeros(case.foreground.shape, dtype=bool)
    foreground[:, 20:40, 20:40] = True
    probabilities = predict(network, replace(case, foreground=foreground))
    assert not probabilities[0, :, :18].any()
    assert (probabilities[0, :, 18:42, 18:42] > 0).all()
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


@pytest.mark.parametrize(
    ("reliability", "expected"),
    [((1.0, 1.0), 0.75), ((0.2, 0.2), 0.75), ((1.0, 0.0), 0.5), ((0.5, 1.0), 5 / 6)],
)
def test_the_mean_is_weighted_by_reliability_and_plain_where_the_weights_are_equal(
    reliability: tuple[float, float], expected: float
) -> None:
    decomposition = decomposition_for(("CT", "PET"))
    logits = {"uptake": torch.zeros(1, 1, 1, 1, 1), "anatomy": torch.full((1, 1, 1, 1, 1), 100.0)}
    weights = torch.tensor(reliability).view(1, 2, 1)
    merged = region_probabilities(Output(logits, [], weights), decomposition)
    assert merged.item() == pytest.approx(expected)


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
