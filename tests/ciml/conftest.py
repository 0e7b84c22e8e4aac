"""Small synthetic patients: a bright ball in PET, a faint one in CT, none in MR."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.patches import TrainingCase

MODALITIES = ("CT", "PET", "MR_T1")
SMALL = NetworkSettings(channels=(4, 8), strides=((1, 2, 2), (2, 2, 2)), message_channels=2, message_levels=2)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def network() -> CimlNetwork:
    torch.manual_seed(0)
    return CimlNetwork(decomposition_for(MODALITIES), MODALITIES, SMALL)


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., TrainingCase]:
    def make(
        number: int = 0, shape: tuple[int, int, int] = (18, 30, 26), *, radius: float = 6.0, absent: str = ""
    ) -> TrainingCase:
        random = np.random.default_rng(number)
        centre = np.array(shape) / 2 + random.uniform(-3, 3, 3)
        distance = np.linalg.norm(np.indices(shape).T - centre, axis=-1).T
        label = (distance < radius).astype(np.uint8)
        array = 0.2 * random.standard_normal((3, *shape))
        array[1] += 2.0 * label
        array[0] += 0.3 * label
        present = np.array([name != absent for name in MODALITIES])
        array[~present] = 0.0
        np.save(tmp_path / f"{number}.npy", array.astype(np.float16))
        mapped = np.load(tmp_path / f"{number}.npy", mmap_mode="r")
        grid = Grid(shape, np.diag([2.0, 2.0, 3.0, 1.0]))
        return TrainingCase(
            PreparedCase(f"p{number}", MODALITIES, mapped, np.ones(shape, dtype=bool), present, grid), label
        )

    return make
