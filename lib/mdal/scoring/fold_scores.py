"""Scores of the held-out cases of one fold, by the model of that fold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor

from lib.mdal.representation.encoder import place_counts
from lib.mdal.representation.views import PoolViews, Shape, coarse
from lib.mdal.scoring.fold_model import FIT_CASES, FoldModel
from lib.mdal.scoring.heads import CrossFittedHead, Dense, critic_nats, embed, embed_views, pool_positions
from lib.mdal.scoring.perturbation import PERTURBATIONS, Displacement, erased, saliency_map, strangers
from lib.mdal.scoring.place_difference import (
    PlaceScale,
    above_whole_case,
    case_difference,
    whole_case,
)
from lib.mdal.scoring.pmi import Array, Rows, finite_mean, refuse_seen
from lib.mdal.scoring.pool_places import departure_of_case
from lib.runtime.files import replacing
from lib.runtime.own_files import read_arrays

TOP_SHARE = 0.1  # share of a case's positions: those that differ most
_BLOCK = 96  # held-out cases compared with one another at a time; bounds memory for any pool size
_PERTURBED = 12  # held-out cases that are perturbed for the gates
_LEAST_COMPARED = 3  # cases that must know a place for the scale of the gates


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Scores of the n cases held out of one training, for P pairs of modalities; NaN for an absent modality.

    The PMI at each place is kept in a file of its own, shape (n, P, places), float16.

    Attributes:
        rows: Rows of the cases in the pool, shape (n,).
        gaussian_nats: PMI in nats by the Gaussian head, mean over the foreground, shape (n, P).
        top_nats: PMI by the Gaussian head over the tenth of the positions that differ most, shape (n, P).
        critic_nats: PMI in nats by the raw critic, shape (n, P).
        matched: Share of the places of unseen patients at which their own counterpart is found, shape ().
        chance: Expected share by chance, shape ().
        steps: Number of steps of the training that were of use, and the largest number, shape (2,).
        ended_early: Whether the training ended because the matching no longer rose, shape ().
        rise: Rise of the modality difference in deviations, shape (n, 3): of the whole case when a modality
            is exchanged with that of another patient or shifted, and of its most different places when the
            most conspicuous one is erased from a modality; NaN for untested cases. A shift counts by what it
            raises the difference above its controls: the modality blurred but not displaced, and all
            modalities shifted alike.
        log_mean_ratio: Log mean of exp PMI over exchanged pairs, shape (); 0 if the PMI is calibrated.
        in_sample_nats: Mean PMI of the training cases in nats, shape ().
    """

    rows: Rows
    gaussian_nats: Array
    top_nats: Array
    critic_nats: Array
    matched: Array
    chance: Array
    steps: NDArray[np.intp]
    ended_early: NDArray[np.bool_]
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
    places: Path,
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
        places: The .npy file to write the PMI at each place to, shape (n, P, places), float16.
        seed: Seed of the exchanges and shifts.
        device: Device to compute on.

    Raises:
        ValueError: If the model was trained on a patient of these cases.
    """
    refuse_seen(model.trained_on, patients[rows].tolist())
    groups = np.unique(patients[rows], return_inverse=True)[1]
    fitted = np.arange(len(rows))[:: -(-len(rows) // FIT_CASES)]
    fitted = fitted[np.argsort(groups[fitted], kind="stable")]
    head = CrossFittedHead.fit(
        embed(model.encoders, views, rows[fitted], device), fitted, groups, otherwise=model.head
    )
    temperature = float(model.encoders.temperature.detach())
    parts: dict[str, list[Array]] = {name: [] for name in ("gaussian_nats", "top_nats", "critic_nats")}
    with replacing(places) as part:
        written: NDArray[np.float16] | None = None
        for block in np.array_split(np.arange(len(rows)), math.ceil(len(rows) / _BLOCK)):
            dense = embed(model.encoders, views, rows[block], device)
            nats = head.pmi(dense, block)
            if written is None:
                written = np.lib.format.open_memmap(part, "w+", np.float16, (len(rows), *nats.shape[1:]))
            written[block] = nats.numpy()
            parts["gaussian_nats"].append(pool_positions(nats))
            parts["top_nats"].append(pool_positions(nats, share=TOP_SHARE))
            parts["critic_nats"].append(critic_nats(dense, temperature, torch.from_numpy(groups[block])))
    tried = np.arange(min(len(rows), _PERTURBED))
    rise, log_mean_ratio = _perturb(model, head, views, rows[tried], groups[tried], seed, device)
    untried = np.full((len(rows) - len(tried), len(PERTURBATIONS)), math.nan)
    course = model.course
    return FoldScores(
        rows=rows,
        **{name: np.concatenate(found) for name, found in parts.items()},
        matched=np.array(course.best),
        chance=np.array(course.chance),
        steps=np.array([course.best_steps, course.most_steps]),
        ended_early=np.array(course.ended_early),
        rise=np.concatenate([rise, untried]),
        log_mean_ratio=np.array(log_mean_ratio),
        in_sample_nats=np.array(model.in_sample_nats),
    )


class _Judge:
    """Modality difference of changed cases, on the scale of the unchanged ones."""

    def __init__(self, head: CrossFittedHead, dense: Dense, counts: Shape) -> None:
        self._head, self._counts = head, counts
        before = -self.nats(dense)
        self._scale = PlaceScale.of(before, least=_LEAST_COMPARED)
        self.before = self._scale.standardise(before)

    def nats(self, dense: Dense, columns: list[int] | None = None) -> Array:
        """PMI at each place of some pairs, or of all, shape (n, P, places)."""
        return self._head.pmi(dense, np.arange(len(dense.features)), columns).numpy()

    def places(self, nats: Array) -> Array:
        """Difference of each place, shape (n, P, places)."""
        return self._scale.standardise(-nats)

    def whole(self, places: Array, columns: list[int]) -> Array:
        """Rise of the median over the places in some pairs, shape (n,)."""
        after, before = (whole_case(case_difference(of[:, columns])) for of in (places, self.before))
        return after - before

    def most(self, places: Array, columns: list[int]) -> Array:
        """Rise of the places that depart most in some pairs, shape (n,)."""
        after, before = (
            above_whole_case(departure_of_case(of[:, columns], self._counts)) for of in (places, self.before)
        )
        return after - before


def _perturb(
    model: FoldModel,
    head: CrossFittedHead,
    views: PoolViews,
    rows: Rows,
    groups: NDArray[np.intp],
    seed: int,
    device: torch.device,
) -> tuple[Array, float]:
    """Rise of the modality difference, shape (n, 3), averaged over the perturbed modalities."""
    generator = torch.Generator().manual_seed(seed)
    everything = torch.from_numpy(np.asarray(views.array[rows], np.float32))
    batch, foreground = everything[:, :-1], everything[:, -1]
    present, voxel_mm = torch.from_numpy(views.present[rows]), torch.from_numpy(views.voxel_mm[rows])
    dense = embed_views(model.encoders, batch, foreground, present, device)
    judge = _Judge(head, dense, place_counts(views.shape, model.encoders.settings.stride))
    donor = strangers(groups, generator)
    other_patient = groups[donor] != groups
    displacement = Displacement.draw(voxel_mm, generator)
    alike = torch.stack([displacement.shifted(volumes) for volumes in batch.unbind(1)], dim=1)
    all_shifted = judge.places(judge.nats(embed_views(model.encoders, alike, foreground, present, device)))
    small = coarse(everything)
    where = saliency_map(small[:, :-1], small[:, -1], model.typical)
    rise, ratios = np.full((len(rows), len(PERTURBATIONS), batch.shape[1]), math.nan), []
    for m in range(batch.shape[1]):
        columns = [column for column, pair in enumerate(dense.pairs()) if m in pair]

        def changed(volumes: Tensor, m: int = m, columns: list[int] = columns) -> Array:
            """Places with one modality in another state; the other modalities are not embedded again."""
            alone = torch.zeros_like(present)
            alone[:, m] = present[:, m]
            views_of_all = batch.clone()
            views_of_all[:, m] = volumes
            other = embed_views(model.encoders, views_of_all, foreground, alone, device)
            return judge.places(judge.nats(dense.with_modality(m, other), columns))

        exchanged = judge.nats(dense.with_modality(m, dense, donor), columns)
        whole = judge.whole(judge.places(exchanged), columns)
        rise[:, 0, m] = np.where(other_patient, whole, math.nan)
        controls = [all_shifted, changed(displacement.blurred(batch[:, m]))]
        one_shifted = changed(displacement.shifted(batch[:, m]))
        rise[:, 1, m] = judge.whole(one_shifted, columns) - np.max(
            [judge.whole(control, columns) for control in controls], axis=0
        )
        rise[:, 2, m] = judge.most(changed(erased(batch, m, where)), columns)
        nats = exchanged[other_patient][:, columns]
        ratios.append(nats[np.isfinite(nats)])
    found = np.concatenate(ratios)
    ratio = float(logsumexp(found)) - math.log(len(found)) if len(found) else math.nan
    return finite_mean(rise, axis=2), ratio
