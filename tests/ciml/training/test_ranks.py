"""Processes that train one network together."""

from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn

from lib.ciml.training.ranks import Ranks


def test_a_process_that_is_alone_has_no_ranks() -> None:
    assert Ranks.joined() is None


def together(rank: int, folder: str) -> None:
    """What each of two processes does: a gradient on both, one on the second only, one on none."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks = Ranks.joined()
    assert ranks is not None
    parameters = [nn.Parameter(torch.zeros(size)) for size in (2, 3, 1)]
    frozen = nn.Parameter(torch.zeros(4), requires_grad=False)
    parameters[0].grad = torch.full((2,), 1.0 + rank)
    if rank == 1:
        parameters[1].grad = torch.full((3,), 8.0)
    ranks.average([*parameters, frozen])
    shared = ranks.share({"epoch": 3} if rank == 0 else None)
    torch.save(([parameter.grad for parameter in parameters], shared), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_every_rank_gets_the_mean_gradient_and_what_the_first_one_has(tmp_path: Path) -> None:
    spawn(together, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        gradients, shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for gradient, expected in zip(gradients, (1.5, 4.0, 0.0), strict=True):
            assert (gradient == expected).all()
        assert shared == {"epoch": 3}
