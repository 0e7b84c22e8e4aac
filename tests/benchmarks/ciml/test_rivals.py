from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.ciml.methods import (
    METHODS,
    SLICES,
    TOLERANCE,
    build,
    led_by,
    methods,
    multiply_accumulates,
    parameters,
    wrong_and_right,
)
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.table import Decomposition, decomposition_for
from lib.ciml.inference.predict import predict
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.train import TrainingSettings, train

THREE, TWO, BRAIN = ("MR_T1", "CT", "PET"), ("MR_T1", "CT"), ("T1", "T1ce", "T2", "FLAIR")
SIZE = (16, 32, 32)
SETTINGS = NetworkSettings()


def task(modalities: tuple[str, ...]) -> Decomposition:
    return decomposition_for(modalities)


def case_of(modalities: tuple[str, ...]) -> TrainingCase:
    random = np.random.default_rng(0)
    array = random.normal(size=(len(modalities), *SIZE)).astype(np.float16)
    label = np.zeros(SIZE, dtype=np.uint8)
    label[4:12, 8:24, 8:24] = 1
    here, body = np.ones(len(modalities), dtype=bool), np.ones(SIZE, dtype=bool)
    return TrainingCase(PreparedCase("one", modalities, array, body, here, Grid(SIZE, np.eye(4))), label)


@pytest.mark.parametrize("modalities", [THREE, TWO, BRAIN])
def test_every_method_has_as_many_parameters_as_ciml_to_within_a_tenth(modalities: tuple[str, ...]) -> None:
    target = parameters(CimlNetwork(task(modalities), modalities, SETTINGS))
    for method in methods(task(modalities)):
        count = parameters(build(method, task(modalities), modalities, SETTINGS, seed=0))
        assert abs(count - target) <= TOLERANCE * target, (method, count, target)


@pytest.mark.parametrize(
    ("modalities", "method"),
    [
        *((THREE, method) for method in (*methods(task(THREE)), SLICES)),
        *((BRAIN, method) for method in ("ciml", "wrong_primary", "concatenation", "hemis", "segresnet")),
    ],
)
def test_every_method_learns_and_outlines_through_the_same_functions(
    modalities: tuple[str, ...], method: str
) -> None:
    network, case = build(method, task(modalities), modalities, SETTINGS, seed=0), case_of(modalities)
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    settings = TrainingSettings(epochs=1, steps_per_epoch=2, batch_size=1, roi_size=SIZE)
    result = train(network, [case], [], settings)
    assert np.isfinite(result.reports[0].loss)
    assert any(not torch.equal(before[name], weights) for name, weights in network.state_dict().items())
    probabilities = predict(network, case.prepared)
    assert probabilities.shape == (len(task(modalities).regions), *SIZE)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("method", [*METHODS, SLICES])
def test_what_the_channel_of_an_absent_modality_holds_changes_nothing(method: str) -> None:
    network = build(method, task(THREE), THREE, SETTINGS, seed=0).eval()
    x = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    present = torch.tensor([[True, False, True], [False, True, False]])
    rubbish = torch.where(present[:, :, None, None, None], x, torch.nan)
    with torch.inference_mode():
        clean, dirty = network(x, present), network(rubbish, present)
    for name, logits in clean.logits.items():
        assert torch.isfinite(logits).all()
        assert torch.equal(logits, dirty.logits[name])


def test_a_network_on_slices_outlines_a_slice_the_same_in_whatever_volume_it_lies() -> None:
    network = build(SLICES, task(THREE), THREE, SETTINGS, seed=0).eval()
    x = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, alone = (network(part).logits["fusion"] for part in (x, x[1:, :, 5:6]))
    assert torch.allclose(whole[1:, :, 5:6], alone, atol=1e-5)
    assert not torch.allclose(whole[1:, :, 4:5], alone, atol=1e-2)


def test_with_every_modality_there_a_mask_changes_nothing() -> None:
    x, everything = torch.randn(1, 3, *SIZE), torch.ones(1, 3, dtype=torch.bool)
    for method in ("concatenation", "hemis", "segresnet", "dynunet"):
        network = build(method, task(THREE), THREE, SETTINGS, seed=0).eval()
        with torch.inference_mode():
            plain, masked = network(x).logits, network(x, everything).logits
        assert all(torch.equal(plain[name], masked[name]) for name in plain)


def test_a_branch_without_messages_sees_its_own_modality_only_and_one_with_concatenation_all() -> None:
    x = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, THREE.index("PET")] += 1.0 + torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
    for method, heard in (("unimodal", False), ("concatenation", True)):
        network = build(method, task(THREE), THREE, SETTINGS, seed=0).eval()
        with torch.inference_mode():
            first, second = network(x), network(other)
        assert not first.messages
        assert torch.equal(first.logits["CT"], second.logits["CT"]) is not heard
        assert not torch.equal(first.logits["PET"], second.logits["PET"])


def test_the_wrong_and_the_right_primary_differ_in_who_leads_alone() -> None:
    for modalities, right in ((THREE, "PET"), (TWO, "MR_T1")):
        leads = [
            build(method, task(modalities), modalities, SETTINGS, seed=0).decomposition
            for method in ("wrong_primary", "right_primary")
        ]
        assert leads == [led_by("CT", task(modalities)), led_by(right, task(modalities))]
        assert all(
            set(each.subtasks[0].auxiliary) | {each.subtasks[0].name} == set(modalities) for each in leads
        )


def test_where_subtasks_differ_the_wrong_primaries_are_the_auxiliary_ones() -> None:
    wrong, right = wrong_and_right(task(BRAIN))
    assert right == task(BRAIN)
    assert "right_primary" not in methods(right)
    for ours, theirs in zip(right.subtasks, wrong.subtasks, strict=True):
        assert (theirs.primary, theirs.auxiliary) == (ours.auxiliary, ours.primary)
        assert theirs.regions == ours.regions


def test_the_mean_and_the_variance_are_those_of_the_present_modalities() -> None:
    network = build("hemis", task(BRAIN), BRAIN, SETTINGS, seed=0).eval()
    seen: list[torch.Tensor] = []
    network.fusion[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, present = torch.randn(1, 4, *SIZE), torch.tensor([[True, False, True, True]])
    with torch.inference_mode():
        network(x, present)
        three = torch.stack([network.encoders[channel](x[:, [channel]])[0] for channel in (0, 2, 3)])
    expected = torch.cat([three.mean(dim=0), three.var(dim=0, unbiased=False)], dim=1)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_first_weights() -> None:
    first, same, other = (
        build("dynunet", task(TWO), TWO, SETTINGS, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_multiply_accumulates_are_those_of_the_convolutions() -> None:
    network = build("only_CT", task(TWO), TWO, SETTINGS, seed=0).train()
    counted = {}

    def count(layer: torch.nn.Conv3d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counted[layer] = output[0].numel() * layer.in_channels * int(np.prod(layer.kernel_size))

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv3d):
            layer.register_forward_hook(count)
    assert multiply_accumulates(network, SIZE) == sum(counted.values())
    assert network.training


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"segresnet, dynunet.*got 'late_fusion'"):
        build("late_fusion", task(TWO), TWO, SETTINGS, seed=0)


def test_a_network_that_no_width_makes_as_large_is_refused() -> None:
    small = NetworkSettings(channels=(1, 1, 1), message_channels=1)
    with pytest.raises(ValueError, match=r"segresnet must have .* parameters to within 10%"):
        build("segresnet", task(TWO), TWO, small, seed=0)
