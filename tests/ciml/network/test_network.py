"""Shapes, messages and missing modalities."""

from __future__ import annotations

import itertools

import pytest
import torch

from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.network.backbone import InstanceNorm
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.message import MessageChannel
from lib.ciml.network.settings import NetworkSettings

SETS = {2: ("CT", "PET"), 3: ("CT", "PET", "MR_T1"), 4: ("T1", "T1ce", "T2", "FLAIR")}


def _build(modalities: tuple[str, ...], **settings: object) -> CimlNetwork:
    torch.manual_seed(0)
    return CimlNetwork(decomposition_for(modalities), modalities, NetworkSettings(**settings))


def _open_messages(network: CimlNetwork) -> None:
    """Give every message something to add, as training would."""
    for module in network.modules():
        if isinstance(module, MessageChannel):
            torch.nn.init.normal_(module.out.weight)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_subtask_answers_at_the_size_of_the_input(spatial_dims: int, count: int) -> None:
    network = _build(SETS[count], spatial_dims=spatial_dims)
    axes = (8, 16, 24)[-spatial_dims:]
    output = network(torch.randn(2, count, *axes))
    assert {name: tuple(logits.shape) for name, logits in output.logits.items()} == {
        task.name: (2, len(task.regions), *axes) for task in network.decomposition.subtasks
    }
    senders = sum(len(task.auxiliary) for task in network.decomposition.subtasks)
    assert len(output.messages) == 3 * senders
    for message in output.messages:
        assert message.mu.shape == message.logvar.shape
        assert message.mu.shape[1] == network.settings.message_channels
        assert message.attention.shape == (2, 1, *message.mu.shape[2:])
        assert ((message.attention > 0) & (message.attention < 1)).all()


@pytest.mark.parametrize("size", ["tiny", "base", "large"])
def test_each_size_builds_and_runs(size: str) -> None:
    settings = NetworkSettings.of_size(size)
    network = CimlNetwork(decomposition_for(SETS[2]), SETS[2], settings).eval()
    axes = [2 * step for step in settings.divisor]
    with torch.no_grad():
        assert network(torch.randn(1, 2, *axes)).logits["uptake"].shape == (1, 1, *axes)
    assert NetworkSettings.from_dict(settings.to_dict()) == settings


def test_a_fresh_network_is_its_unimodal_branches() -> None:
    network = _build(SETS[3]).train()
    x = torch.randn(1, 3, 8, 16, 16)
    alone = torch.tensor([[False, True, False]])
    fused = network(x).logits["PET"]
    torch.testing.assert_close(fused, network(x, alone).logits["PET"], rtol=0, atol=0)
    _open_messages(network)
    assert not torch.allclose(network(x).logits["PET"], fused)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_subset_of_modalities_gives_a_finite_answer_and_gradient(count: int) -> None:
    network = _build(SETS[count])
    _open_messages(network)
    x = torch.randn(1, count, 4, 16, 16)
    for flags in itertools.product([False, True], repeat=count):
        if not any(flags):
            continue
        network.zero_grad()
        output = network(x, torch.tensor([flags]))
        sum(logits.square().mean() for logits in output.logits.values()).backward()
        assert all(logits.isfinite().all() for logits in output.logits.values())
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        sent = {message.sender for message in output.messages}
        assert sent <= {name for name, flag in zip(network.modalities, flags, strict=True) if flag}


def test_what_an_absent_channel_holds_changes_nothing() -> None:
    network = _build(SETS[3]).eval()
    _open_messages(network)
    x = torch.randn(2, 3, 4, 16, 16)
    present = torch.tensor([[True, False, True], [True, True, True]])
    other = x.clone()
    other[0, 1] = float("nan")
    for name, logits in network(x, present).logits.items():
        torch.testing.assert_close(logits, network(other, present).logits[name])


def test_a_case_is_answered_alike_alone_and_in_a_mixed_batch() -> None:
    network = _build(SETS[3]).eval()
    _open_messages(network)
    x = torch.randn(2, 3, 4, 16, 16)
    present = torch.tensor([[True, False, False], [True, True, True]])
    together, alone = network(x, present).logits, network(x[:1], present[:1]).logits
    for name in together:
        torch.testing.assert_close(together[name][:1], alone[name])


@pytest.mark.parametrize("absolute_values", [True, False])
@pytest.mark.parametrize("modality", SETS[3])
def test_the_scale_of_a_modality_with_units_reaches_the_answer_and_no_other(
    modality: str, absolute_values: bool
) -> None:
    network = _build(SETS[3], absolute_values=absolute_values).eval()
    _open_messages(network)
    x = torch.randn(1, 3, 8, 32, 32)
    louder = x.clone()
    louder[:, SETS[3].index(modality)] *= 5
    before, after = network(x).logits[modality], network(louder).logits[modality]
    moved = float((after - before).abs().max() / before.std())
    if absolute_values and modality in ("CT", "PET"):
        assert moved > 0.5
    else:
        assert moved < 1e-3


@pytest.mark.parametrize("axes", [(8, 8), (4, 8, 8)])
def test_training_and_inference_normalise_alike(axes: tuple[int, ...]) -> None:
    norm, x = InstanceNorm(3, 3), torch.randn(2, 3, *axes)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm.train()(x), norm.eval()(x))


def test_a_shift_of_hounsfield_units_reaches_the_answer() -> None:
    network = _build(SETS[3]).eval()
    x = torch.randn(1, 3, 8, 32, 32)
    denser = x.clone()
    denser[:, 0] += 1.0
    before, after = network(x).logits["CT"], network(denser).logits["CT"]
    assert (after - before).abs().max() > 0.5 * before.std()


def test_the_reliability_of_a_subtask_depends_on_whether_its_modality_is_there() -> None:
    network = _build(SETS[3])
    network.reliability[1, 0], network.reliability[0, 2] = 0.25, 0.5
    x, present = torch.randn(2, 3, 8, 16, 16), torch.tensor([[True, True, True], [True, True, False]])
    weights = network(x, present).reliability
    assert weights is not None
    assert weights[:, :, 0].tolist() == [[0.25, 1.0, 1.0], [0.25, 1.0, 0.5]]
    whole = network(x).reliability
    assert whole is not None
    assert whole[:, :, 0].tolist() == [[0.25, 1.0, 1.0]]


def test_messages_are_noisy_in_training_and_still_in_use() -> None:
    network = _build(SETS[2])
    _open_messages(network)
    x = torch.randn(1, 2, 4, 16, 16)
    draws = [network(x, generator=torch.Generator().manual_seed(seed)).logits["uptake"] for seed in (1, 1, 2)]
    torch.testing.assert_close(draws[0], draws[1], rtol=0, atol=0)
    assert not torch.allclose(draws[0], draws[2])
    network.eval()
    torch.testing.assert_close(network(x).logits["uptake"], network(x).logits["uptake"], rtol=0, atol=0)


def test_a_modality_that_only_sends_still_helps_a_subtask_without_its_primary() -> None:
    network = _build(SETS[2]).eval()
    _open_messages(network)
    present = torch.tensor([[True, False]])
    first, second = (network(torch.randn(1, 2, 4, 16, 16), present).logits["uptake"] for _ in range(2))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    ("shape", "present", "message"),
    [
        ((1, 2, 8, 16, 16), None, r"x must be \(B, 3"),
        ((1, 3, 16, 16), None, r"x must be \(B, 3"),
        ((1, 3, 7, 16, 16), None, "spatial axes must be multiples"),
        ((1, 3, 4, 8, 8), None, "and larger"),
        ((1, 3, 8, 16, 16), [[False] * 3], "at least one modality a row"),
        ((1, 3, 8, 16, 16), [[True] * 2], "present must be"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(
    shape: tuple[int, ...], present: list[list[bool]] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _build(SETS[3])(torch.zeros(shape), None if present is None else torch.tensor(present))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3; got 4"):
        NetworkSettings(spatial_dims=4)
    with pytest.raises(ValueError, match="one entry a level"):
        NetworkSettings(channels=(8, 16))
    with pytest.raises(ValueError, match="message_levels must be at least 1"):
        NetworkSettings(message_levels=0)
    with pytest.raises(ValueError, match="size must be one of tiny"):
        NetworkSettings.of_size("huge")
    with pytest.raises(ValueError, match="include PET, CT; got CT"):
        CimlNetwork(decomposition_for(("CT", "PET")), ("CT",))


def test_a_silent_message_is_not_sent_and_the_others_are() -> None:
    network = _build(SETS[3]).eval()
    _open_messages(network)
    x = torch.randn(1, 3, 4, 16, 16)
    full, silent = network(x), network(x, silent={("CT", "PET")})
    assert {(message.sender, message.subtask) for message in full.messages} - {
        (message.sender, message.subtask) for message in silent.messages
    } == {("CT", "PET")}
    assert not torch.allclose(full.logits["PET"], silent.logits["PET"])
    torch.testing.assert_close(full.logits["CT"], silent.logits["CT"], rtol=0, atol=0)


def test_naming_every_modality_as_present_is_the_same_as_naming_none() -> None:
    network = _build(SETS[3]).eval()
    _open_messages(network)
    x = torch.randn(2, 3, 4, 16, 16)
    named = network(x, torch.ones(2, 3, dtype=torch.bool)).logits
    for name, logits in network(x).logits.items():
        torch.testing.assert_close(logits, named[name], rtol=0, atol=0)


def test_the_network_can_be_exported_with_every_modality_present() -> None:
    network = _build(SETS[2]).eval()
    _open_messages(network)

    class Uptake(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x).logits["uptake"]

    x = torch.randn(1, 2, 4, 16, 16)
    exported = torch.export.export(Uptake(), (x,)).module()
    torch.testing.assert_close(exported(x), network(x).logits["uptake"])


def test_settings_of_a_network_that_is_no_longer_built_are_refused() -> None:
    kept = NetworkSettings().to_dict()
    assert NetworkSettings.from_dict({**kept, "strict_markov": False}) == NetworkSettings()
    with pytest.raises(ValueError, match="deep_supervision is no longer part of the network"):
        NetworkSettings.from_dict({**kept, "deep_supervision": True})
