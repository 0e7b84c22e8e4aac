"""The gate of a shift: blur, which every interpolated shift brings, does not pass for a displacement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from lib.mdal.representation.contrastive import TrainingCourse
from lib.mdal.representation.encoder import Encoders, EncoderSettings
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.fold_model import FoldModel
from lib.mdal.scoring.fold_scores import score_fold
from lib.mdal.scoring.gates import rise_gate
from lib.mdal.scoring.heads import GaussianHead, embed, embed_views, pool_positions
from lib.mdal.scoring.perturbation import Displacement, typical_appearance

COUNT, SHAPE, CPU = 60, (12, 24, 24), torch.device("cpu")
VOXEL_MM = 8.0


class Sharpness(Encoders):
    """Sees how sharp a volume is, and nothing of where its content lies."""

    def forward(self, views: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        edges = sum(views.diff(dim=axis).square().mean(dim=(2, 3, 4)) for axis in (2, 3, 4))
        return edges.log()[:, :, None, None].expand(-1, -1, 1, 6 * 6 * 6)


class Content(Encoders):
    """Sees the brightness of each place."""

    def forward(self, views: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool3d(views, (2, 4, 4)).flatten(2)[:, :, None]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> PoolViews:
    """Two modalities that show one field, as sharp in one as in the other, each with noise of its own."""
    random = np.random.default_rng(0)
    array = np.ones((COUNT, 3, *SHAPE), dtype=np.float16)
    for case in array:
        sigma = random.uniform(0.6, 1.6)
        field = random.normal(size=SHAPE)
        for m in range(2):
            case[m] = 5 * gaussian_filter(field + 0.3 * random.normal(size=SHAPE), sigma, mode="wrap")
    file: Path = tmp_path_factory.mktemp("views") / "views.npy"
    np.save(file, array)
    return PoolViews(file, np.ones((COUNT, 2), dtype=bool), np.full((COUNT, 3), VOXEL_MM))


def scored(encoders: Encoders, views: PoolViews, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rise above the controls, and rise above the undamaged case, of the second half of the cases."""
    encoders.eval()
    training, held_out = np.arange(COUNT // 2), np.arange(COUNT // 2, COUNT)
    patients = np.array([f"p{row:02d}" for row in range(COUNT)])
    head = GaussianHead.fit(embed(encoders, views, training, CPU))
    typical = typical_appearance(views.coarse(training), views.present[training])
    course = TrainingCourse({1: 0.5}, 0.1, 1, 1)
    model = FoldModel(encoders, course, head, frozenset(patients[training]), 0.0, typical)
    rise = score_fold(model, views, patients, held_out, folder / "places.npy", seed=0, device=CPU).rise[:, 1]
    batch, present, body = views.of_patients(np.arange(COUNT)).batch(held_out)
    drawn = Displacement.draw(torch.full((len(held_out), 3), VOXEL_MM), torch.Generator().manual_seed(0))
    moved = torch.stack([drawn.shifted(batch[:, 0]), batch[:, 1]], dim=1)
    before, after = (
        pool_positions(head.pmi(embed_views(encoders, each, body, present, CPU)))[:, 0]
        for each in (batch, moved)
    )
    return rise, before - after


def test_blur_alone_does_not_pass_for_a_shift(views: PoolViews, tmp_path: Path) -> None:
    rise, uncontrolled = scored(Sharpness(2, EncoderSettings()), views, tmp_path)
    assert rise_gate("shifted", uncontrolled).passed is True  # as it was without controls
    assert rise_gate("shifted", rise).passed is False


def test_a_displacement_of_the_content_passes(views: PoolViews, tmp_path: Path) -> None:
    rise, uncontrolled = scored(Content(2, EncoderSettings()), views, tmp_path)
    assert rise_gate("shifted", uncontrolled).passed is True
    assert rise_gate("shifted", rise).passed is True
