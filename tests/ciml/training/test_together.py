"""Ranks of torchrun that train one network together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.optimisation import Batch, Optimisation
from lib.ciml.training.train import TrainingSettings
from lib.runtime.distributed import broadcast, rank_count

NAMES = ("CT", "PET", "MR_T1")
SMALL = NetworkSettings(channels=(4, 8), strides=((1, 2, 2), (2, 2, 2)), message_channels=2, message_levels=2)
SETTINGS = TrainingSettings(gradient_norm=1e9)
SHAPE = (8, 16, 16)


def a_network(seed: int) -> CimlNetwork:
    """Small network without the messages' noise."""
    torch.manual_seed(seed)
    return CimlNetwork(decomposition_for(NAMES), NAMES, SMALL).eval()


def batch_without(modality: int) -> Batch:
    """Batch of one sample that lacks a modality."""
    random = torch.Generator().manual_seed(modality)
    image = torch.randn(1, 3, *SHAPE, generator=random)
    present = torch.tensor([[channel != modality for channel in range(3)]])
    return image, present, (torch.rand(1, 1, *SHAPE, generator=random) > 0.7).float()


def one_step(network: CimlNetwork, batch: Batch, *, together: bool) -> list[torch.Tensor | None]:
    """Gradient of each weight."""
    run = Optimisation(network, [], SETTINGS, seed=0, device=torch.device("cpu"), together=together)
    run.step(batch)
    return [weight.grad for weight in network.parameters()]


def work(rank: int, folder: str) -> None:
    """Each rank starts from other weights and sees a patch that lacks another modality."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = a_network(seed=rank)
    gradient = one_step(network, batch_without(rank), together=True)
    shared = broadcast({"epoch": 3} if rank == 0 else None)
    torch.save((gradient, network.state_dict(), shared, rank_count()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_step_by_the_mean_of_their_gradients_though_each_lacks_another_modality(
    tmp_path: Path,
) -> None:
    spawn(work, (str(tmp_path),), nprocs=2)
    alone = [one_step(a_network(seed=0), batch_without(modality), together=False) for modality in (0, 1)]
    for rank in range(2):
        gradient, weights, shared, count = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for found, first, second in zip(gradient, *alone, strict=True):
            parts = [part for part in (first, second) if part is not None]
            assert (found is None) == (not parts)
            if found is not None:
                torch.testing.assert_close(found, torch.stack(parts).sum(0) / 2, rtol=1e-3, atol=1e-6)
        assert (shared, count) == ({"epoch": 3}, 2)
        for name, other in torch.load(tmp_path / "0.pt", weights_only=True)[1].items():
            np.testing.assert_array_equal(weights[name], other)


def test_a_process_without_torchrun_is_alone() -> None:
    assert rank_count() == 1
