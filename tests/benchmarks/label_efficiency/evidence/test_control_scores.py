"""Scores of the controls, on pools in which the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmarks.label_efficiency.evidence import control_scores
from benchmarks.label_efficiency.evidence.control_scores import cmc_difference, reconstruction_error
from lib.mdal.representation.views import COARSE_SHAPE, PoolViews
from lib.mdal.scoring.score_pool import ScoringSettings

COUNT = 24


def views_of(folder: Path, volumes: np.ndarray, present: np.ndarray | None = None) -> PoolViews:
    """Views (N, M, D, H, W) of bodies that fill them."""
    stacked = np.concatenate([volumes, np.ones_like(volumes[:, :1])], axis=1)
    np.save(folder / "views.npy", stacked.astype(np.float16))
    here = np.ones(volumes.shape[:2], dtype=bool) if present is None else present
    return PoolViews(folder / "views.npy", here, np.ones((len(volumes), 3)))


def textures(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack(
        [
            gaussian_filter(random.normal(size=COARSE_SHAPE), 1.0 + 2.0 * (number % 6) / 5) * 4
            for number in range(count)
        ]
    )


def test_cases_whose_second_modality_is_of_another_patient_differ_by_their_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_scores, "CMC_STEPS", 40)
    first = textures(COUNT, 0) + np.linspace(-2, 2, COUNT)[:, None, None, None]
    volumes = np.stack([first, -first], axis=1)
    volumes[:6, 1] = -first[-6:]
    patients = np.array([f"p{number:02d}" for number in range(COUNT)])
    found = cmc_difference(views_of(tmp_path, volumes), patients, ScoringSettings(), seed=0)
    assert found.shape == (COUNT,)
    assert found[:6].mean() > found[6:].mean() + found[6:].std()


def test_a_case_without_a_pair_gets_the_smallest_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_scores, "CMC_STEPS", 1)
    present = np.ones((6, 2), dtype=bool)
    present[2, 1] = False
    volumes = np.stack([textures(6, 0), textures(6, 1)], axis=1) * present[:, :, None, None, None]
    patients = np.arange(6).astype(str)
    found = cmc_difference(views_of(tmp_path, volumes, present), patients, ScoringSettings(), seed=0)
    assert np.isfinite(found).all()
    assert found[2] == found.min()


def test_what_no_other_patient_looks_like_is_hard_to_reconstruct(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    basis = textures(3, 5)
    volumes = np.einsum("nmk,kdhw->nmdhw", random.normal(size=(COUNT, 2, 3)), basis)
    volumes[7, :, 3:6, 8:14, 8:14] += 6.0
    patients = np.array([f"p{number:02d}" for number in range(COUNT)])
    found = reconstruction_error(views_of(tmp_path, volumes), patients, ScoringSettings(), seed=0)
    assert found.argmax() == 7
