from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.mdal.representation.encoder import EncoderSettings, ModalityEncoder, foreground_positions
from lib.mdal.representation.positions import position_box
from lib.mdal.representation.views import COARSE_SHAPE, VIEW_SHAPE, Shape, case_view, view_box
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace

POSITIONS = 6 * 6 * 6


def body() -> np.ndarray:
    """One voxel of a volume for each voxel of its view, and air around."""
    inside = np.zeros((20, 40, 50), dtype=bool)
    inside[4:14, 6:28, 10:32] = True  # with the margin of the view: 12 x 24 x 24
    return inside


@pytest.mark.parametrize("position", [0, 43, 86, 129, 215])
def test_a_position_lies_where_its_feature_looks(position: int) -> None:
    seen = view_box(body())
    assert tuple(part.stop - part.start for part in seen) == COARSE_SHAPE
    torch.manual_seed(0)
    encoder = ModalityEncoder(EncoderSettings(width=2, features=4)).eval()
    view = torch.randn(1, 1, *COARSE_SHAPE, requires_grad=True)
    encoder.body(view).flatten(2)[0, :, position].sum().backward()
    reached = view.grad[0, 0].abs().numpy() > 0  # (D, H, W)
    for axis, part in enumerate(position_box(position, body(), shape=COARSE_SHAPE)):
        found = np.flatnonzero(reached.any(axis=tuple(other for other in range(3) if other != axis)))
        looked_at = found + seen[axis].start
        assert part.start >= looked_at[0]
        assert part.stop - 1 <= looked_at[-1]
        inner = looked_at[0] > seen[axis].start and looked_at[-1] < seen[axis].stop - 1
        if inner:  # not cut by the view's border
            assert abs((part.start + part.stop - 1) / 2 - looked_at.mean()) <= 1


def test_the_positions_cover_the_view_but_for_the_last_half_stride() -> None:
    covered = np.zeros_like(body())
    for position in range(POSITIONS):
        covered[position_box(position, body(), shape=COARSE_SHAPE)] = True
    seen = view_box(body())
    assert covered[seen].mean() > 0.8
    covered[seen] = False
    assert not covered.any()


def test_a_position_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="position must be 0 to 215; got 216"):
        position_box(POSITIONS, body(), shape=COARSE_SHAPE)


def test_the_view_of_an_empty_case_is_all_of_it() -> None:
    assert view_box(np.zeros((3, 4, 5), dtype=bool)) == (slice(0, 3), slice(0, 4), slice(0, 5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "least", "in_air"), [(COARSE_SHAPE, 2_000, 0.0), (VIEW_SHAPE, 20_000, 0.005)]
)
def test_no_place_of_a_real_patient_that_counts_as_body_lies_in_air(
    samples: Callable[..., Path], shape: Shape, least: int, in_air: float
) -> None:
    workspace = Workspace(samples(labels=False), AppSettings())
    shares = []
    for case in workspace.pool.cases:
        prepared = workspace.cache.get(case)
        view = torch.from_numpy(case_view(prepared, shape=shape).array[None, -1].astype(np.float32))
        for position in torch.where(foreground_positions(view)[0])[0].tolist():
            box = position_box(position, prepared.foreground, shape=shape)
            shares.append(prepared.foreground[box].mean())
    assert len(shares) > least
    assert np.mean(np.array(shares) < 0.2) <= in_air  # a fine place is smaller than a voxel of these scans
    assert np.mean(np.array(shares) < 0.5) < 0.025
