"""Contribution maps: they say who told whom, lie where the case lies, and are zero where nobody spoke."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.ciml.inference.contribution_maps import record
from lib.ciml.inference.explanation import MEASURES, Link, explain, messages_of
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.loss import message_kl
from lib.ciml.training.patches import TrainingCase

MakeCase = Callable[..., TrainingCase]
PLANTED: Link = ("PET", "CT")


def contributions(network, prepared, *, measure):
    """One number for each message."""
    found = explain(network, prepared, measures=(measure,)).contributions[measure]
    return {link: found[link] for link in messages_of(network.decomposition)}


@pytest.fixture
def speaking(network: CimlNetwork) -> CimlNetwork:
    return made_to_speak(network)


def made_to_speak(network: CimlNetwork) -> CimlNetwork:
    """Messages add something from the start, and half of everything is outlined."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for branch in network.branches:
            for channel in branch.channels:
                channel.out.weight.normal_(0.0, 0.5, generator=generator)
        for decoder in network.decoders:
            decoder.head.bias.fill_(0.2)
    return network.eval()


def only(network: CimlNetwork, link: Link) -> CimlNetwork:
    """Every other message is without attention, without content and adds nothing."""
    with torch.no_grad():
        for branch in network.branches:
            for (sender, _, _), channel in zip(branch.senders, branch.channels, strict=True):
                if (sender, branch.subtask.name) != link:
                    for part in (channel.attention, channel.posterior, channel.out):
                        part.weight.zero_()
                        part.bias.zero_()
                    channel.attention.bias.fill_(-20.0)
    return network


@pytest.mark.parametrize("measure", MEASURES)
def test_the_only_sender_that_matters_contributes_most(
    speaking: CimlNetwork, make_case: MakeCase, measure: str
) -> None:
    found = contributions(only(speaking, PLANTED), make_case().prepared, measure=measure)
    assert set(found) == set(messages_of(speaking.decomposition))
    sizes = {link: abs(value) for link, value in found.items()}
    planted = sizes.pop(PLANTED)
    assert planted > 1e-4
    assert max(sizes.values()) < 0.01 * planted


@pytest.mark.parametrize("absent", ["PET", "CT"])
def test_maps_are_zero_from_a_modality_that_is_absent(
    speaking: CimlNetwork, make_case: MakeCase, absent: str
) -> None:
    found = explain(speaking, make_case(absent=absent).prepared)
    assert found.absent == (absent,)
    for measure in MEASURES:
        for (sender, _), values in found.maps[measure].items():
            if sender == absent:
                assert not values.any()
            elif measure != "grad_cam":  # whose negative evidence is cut
                assert values.any()


def test_maps_are_zero_for_a_message_that_is_silenced(speaking: CimlNetwork, make_case: MakeCase) -> None:
    found = explain(speaking, make_case().prepared, silent={PLANTED})
    for measure in MEASURES:
        assert not found.maps[measure][PLANTED].any()
        assert found.contributions[measure][PLANTED] == 0.0
    assert found.maps["addition"]["PET", "MR_T1"].any()


def test_maps_lie_on_the_grid_of_the_case_and_only_around_its_body(
    speaking: CimlNetwork, make_case: MakeCase
) -> None:
    case = make_case(shape=(20, 40, 36)).prepared
    body = np.zeros((20, 40, 36), dtype=bool)
    body[8:12, 15:25, 15:20] = True
    found = explain(speaking, replace(case, foreground=body))
    for maps in found.maps.values():
        for values in maps.values():
            assert values.shape == case.grid.shape
            assert np.isfinite(values).all()
            assert not values[:4].any()
            assert not values[:, :, 24:].any()


def test_information_is_the_kl_of_the_messages_summed_over_levels(speaking: CimlNetwork) -> None:
    array = np.random.default_rng(0).standard_normal((3, 8, 16, 16)).astype(np.float32)
    found = explain(speaking, array, measures=("kl",)).maps["kl"]
    with torch.no_grad():
        messages = speaking(torch.from_numpy(array)[None]).messages
    for link in messages_of(speaking.decomposition):
        nats = sum(
            float(message_kl(message).sum(dim=1).mean())
            for message in messages
            if (message.sender, message.subtask) == link
        )
        assert found[link].mean() == pytest.approx(nats, rel=1e-4)  # interpolation keeps the mean


def test_the_gradient_foretells_what_a_slightly_weaker_message_costs(speaking: CimlNetwork) -> None:
    array = np.random.default_rng(0).standard_normal((3, 8, 16, 16)).astype(np.float32)
    x, present = torch.from_numpy(array)[None], torch.ones(1, 3, dtype=torch.bool)
    found = contributions(speaking, array, measure="gradient")
    tasks = {task.name: task for task in speaking.decomposition.subtasks}
    base = record(speaking, x, present)
    for link in messages_of(speaking.decomposition):
        mask, logit = base.outlined(tasks[link[1]]), {}
        for strength in (1.01, 0.99):
            changed = copy.deepcopy(speaking)
            branch = changed.branches[list(tasks).index(link[1])]
            with torch.no_grad():
                for (sender, _, _), channel in zip(branch.senders, branch.channels, strict=True):
                    if sender == link[0]:
                        channel.out.weight.mul_(strength)
                        channel.out.bias.mul_(strength)
                logit[strength] = float(changed(x).logits[link[1]][mask].mean())
        assert found[link] == pytest.approx((logit[1.01] - logit[0.99]) / 0.02, rel=0.05, abs=2e-3)


@pytest.mark.parametrize("absolute_values", [False, True])
def test_windows_give_what_one_pass_gives_where_they_see_alike(
    network: CimlNetwork, make_case: MakeCase, absolute_values: bool
) -> None:
    torch.manual_seed(0)
    settings = replace(network.settings, absolute_values=absolute_values)
    speaking = made_to_speak(CimlNetwork(network.decomposition, network.modalities, settings))
    case = make_case(shape=(16, 64, 64), radius=5.0).prepared
    whole = explain(speaking, case, measures=("addition",))
    parts = explain(speaking, case, measures=("addition",), max_voxels=16 * 32 * 32)
    alike = [
        np.corrcoef(values.ravel(), parts.maps["addition"][link].ravel())[0, 1]
        for link, values in whole.maps["addition"].items()
    ]
    assert np.mean(alike) > 0.9
    assert min(alike) > (0.85 if absolute_values else 0.9)


def test_explaining_leaves_the_network_as_it_was(speaking: CimlNetwork, make_case: MakeCase) -> None:
    before = copy.deepcopy(speaking.state_dict())
    speaking.train()
    explain(speaking, make_case().prepared)
    assert speaking.training
    assert all(torch.equal(before[name], weight) for name, weight in speaking.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in speaking.parameters())


def test_where_nothing_is_outlined_nothing_is_added_to_an_outline(
    speaking: CimlNetwork, make_case: MakeCase
) -> None:
    with torch.no_grad():
        for decoder in speaking.decoders:
            decoder.head.bias.fill_(-50.0)
    found = explain(speaking, make_case().prepared)
    assert not any(found.contributions["gradient"].values())


def test_what_cannot_be_explained_is_refused(speaking: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case().prepared
    with pytest.raises(ValueError, match="measure must be one of attention, "):
        contributions(speaking, case, measure="wibble")
    with pytest.raises(ValueError, match="must have the channels CT, PET, MR_T1; got A, B, C"):
        explain(speaking, replace(case, modalities=("A", "B", "C")))
    with pytest.raises(ValueError, match="explain needs a 3-D network"):
        explain(speaking, case.array[:2])
