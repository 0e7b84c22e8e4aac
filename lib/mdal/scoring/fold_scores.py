"""Scores of the held-out cases of one fold, by the model of that fold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.fold_model import FoldModel
from lib.mdal.scoring.heads import Dense, critic_head, embed, embed_views, pool_positions
from lib.mdal.scoring.perturbation import PERTURBATIONS, Displacement, erased, saliency_map, strangers
from lib.mdal.scoring.pmi import Array, Rows, finite_mean, refuse_seen
from lib.runtime.files import replacing
from lib.runtime.own_files import read_arrays

TOP_SHARE = 0.1  # share of a case's positions: those that differ most
_BLOCK = 128  # held-out cases compared with one another at a time; bounds memory for any pool size
_PERTURBED = 64  # held-out cases that are perturbed for the gates


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Scores of the n cases held out of one training, for P pairs of modalities; NaN for an absent modality.

    Attributes:
        rows: Rows of the cases in the pool, shape (n,).
        gaussian_nats: PMI in nats by the Gaussian head, mean over the foreground, shape (n, P).
        top_nats: PMI by the Gaussian head over the tenth of the positions that differ most, shape (n, P).
        critic_nats: PMI in nats by the raw critic, shape (n, P).
        matched: Share of positions at which the critic prefers the case's own counterpart to those of other
            patients, shape (n, P).
        chance: Expected share of matched positions by chance, shape (n, P).
        patch_nats: PMI at every position, shape (n, P, positions), float16.
        rise: Rise of the modality difference in nats, shape (n, 3), when a modality is exchanged with that of
            another patient, shifted, or its most conspicuous place is erased; NaN for untested cases. A shift
            counts by what it raises the difference above its controls: the modality blurred but not
            displaced, and all modalities shifted alike.
        log_mean_ratio: Log mean of exp PMI over exchanged pairs, shape (); 0 if the PMI is calibrated.
        in_sample_nats: Mean PMI of the training cases in nats, shape ().
    """

    rows: Rows
    gaussian_nats: Array
    top_nats: Array
    critic_nats: Array
    matched: Array
    chance: Array
    patch_nats: NDArray[np.float16]
    rise: Array
    log_mean_ratio: Array
    in_sample_nats: Array

    def save(self, path: Path) -> None:
        """Write the scores to one file, atomically."""
        with replacing(path) as part, part.open("wb") as stream:
            np.savez(stream, **vars(self))

    @classmethod
    def load(cls, path: Path) -> FoldScores:
        """Saved scores."""
        return cls(**read_arrays(path))


def score_fold(
    model: FoldModel,
    views: PoolViews,
    patients: NDArray[np.str_],
    rows: Rows,
    *,
    seed: int,
    device: torch.device,
) -> FoldScores:
    """Score the held-out cases of a fold.

    Args:
        model: Model that was trained without the patients of these cases.
        views: Views of the whole pool.
        patients: Patient of each case, shape (N,).
        rows: Rows of the cases to score.
        seed: Seed of the exchanges and shifts.
        device: Device to compute on.

    Raises:
        ValueError: If the model was trained on a patient of these cases.
    """
    refuse_seen(model.trained_on, patients[rows].tolist())
    groups = np.unique(patients[rows], return_inverse=True)[1]
    parts = []
    for block in np.array_split(np.arange(len(rows)), math.ceil(len(rows) / _BLOCK)):
        dense = embed(model.encoders, views, rows[block], device)
        parts.append(_score_block(model, dense, groups[block]))
    tried = np.arange(min(len(rows), _PERTURBED))
    rise, log_mean_ratio = _perturb(model, views, rows[tried], groups[tried], seed, device)
    untried = np.full((len(rows) - len(tried), len(PERTURBATIONS)), math.nan)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return FoldScores(
        rows=rows,
        **joined,
        rise=np.concatenate([rise, untried]),
        log_mean_ratio=np.array(log_mean_ratio),
        in_sample_nats=np.array(model.in_sample_nats),
    )


def _score_block(model: FoldModel, dense: Dense, groups: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    nats = model.head.pmi(dense)
    temperature = float(model.encoders.temperature.detach())
    critic, matched, chance = critic_head(dense, temperature, torch.from_numpy(groups))
    return {
        "gaussian_nats": pool_positions(nats),
        "top_nats": pool_positions(nats, share=TOP_SHARE),
        "critic_nats": critic,
        "matched": matched,
        "chance": chance,
        "patch_nats": nats.numpy().astype(np.float16),
    }


def _perturb(
    model: FoldModel,
    views: PoolViews,
    rows: Rows,
    groups: NDArray[np.intp],
    seed: int,
    device: torch.device,
) -> tuple[Array, float]:
    """Rise of the modality difference in nats, shape (n, 3), averaged over the perturbed modalities."""
    generator = torch.Generator().manual_seed(seed)
    batch, foreground = (
        torch.from_numpy(np.asarray(part[rows], np.float32)) for part in (views.views, views.foreground)
    )
    present, voxel_mm = torch.from_numpy(views.present[rows]), torch.from_numpy(views.voxel_mm[rows])
    dense = embed_views(model.encoders, batch, foreground, present, device)
    before = pool_positions(model.head.pmi(dense))
    donor = strangers(groups, generator)
    other_patient = groups[donor] != groups
    displacement = Displacement.draw(voxel_mm, generator)
    alike = torch.stack([displacement.shifted(volumes) for volumes in batch.unbind(1)], dim=1)
    all_shifted = embed_views(model.encoders, alike, foreground, present, device)
    where = saliency_map(batch, foreground, model.typical)
    rise, ratios = np.full((len(rows), len(PERTURBATIONS), batch.shape[1]), math.nan), []
    for m in range(batch.shape[1]):
        columns = [column for column, pair in enumerate(dense.pairs()) if m in pair]

        def risen(changed: Dense, columns: list[int] = columns) -> Array:
            after = pool_positions(model.head.pmi(changed))
            return finite_mean(before[:, columns] - after[:, columns], axis=1)

        def seen(volumes: Tensor, m: int = m) -> Dense:
            changed = batch.clone()
            changed[:, m] = volumes
            return embed_views(model.encoders, changed, foreground, present, device)

        exchanged = dense.with_modality(m, dense, donor)
        rise[:, 0, m] = np.where(other_patient, risen(exchanged), math.nan)
        controls = [all_shifted, dense.with_modality(m, seen(displacement.blurred(batch[:, m])))]
        one_shifted = dense.with_modality(m, seen(displacement.shifted(batch[:, m])))
        rise[:, 1, m] = risen(one_shifted) - np.max([risen(control) for control in controls], axis=0)
        rise[:, 2, m] = risen(dense.with_modality(m, seen(erased(batch, m, where))))
        nats = model.head.pmi(exchanged)[other_patient][:, columns]
        ratios.append(nats[nats.isfinite()])
    found = torch.cat(ratios)
    ratio = float(found.logsumexp(dim=0)) - math.log(len(found)) if len(found) else math.nan
    return finite_mean(rise, axis=2), ratio
