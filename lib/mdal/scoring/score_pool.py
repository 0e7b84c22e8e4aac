"""Scoring of a pool: modality difference of each case by models that were not trained on its patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray

from lib.mdal import SCORING_VERSION
from lib.mdal.representation.contrastive import ContrastiveSettings
from lib.mdal.representation.embedding import embed_pool, pool_features
from lib.mdal.representation.encoder import place_counts
from lib.mdal.representation.properties import CaseProperties
from lib.mdal.representation.views import VIEW_SHAPE, PoolViews, Shape
from lib.mdal.scoring.fold_model import FoldModel, train_fold
from lib.mdal.scoring.fold_scores import FoldScores, score_fold
from lib.mdal.scoring.folds import Folds, PoolKeys, forget_others, open_folds
from lib.mdal.scoring.pool_places import FoldPlaces
from lib.mdal.scoring.pool_scores import PoolScores, collect
from lib.runtime.computation import Computation
from lib.runtime.distributed import share_out
from lib.runtime.own_files import UNREADABLE, map_array, set_aside
from lib.runtime.progress import OnShareDone

MIN_PATIENTS = 6  # 3 folds of 2; fewer give too few negatives and no pair to compare in a fold


class PoolTooSmall(ValueError):
    """The pool has too few patients or modalities for out-of-fold scoring."""


@dataclass(frozen=True)
class ScoringSettings:
    """Settings of the scoring of a pool.

    Attributes:
        folds: Number of folds; fewer if a fold would have less than two patients. A fold of a third of the
            pool has enough patients to fit a head to.
        seeds: Repeats with other folds and weights, which are averaged; a single one ranks noisily.
        steps: Largest number of contrastive steps of one training; None chooses by pool size and device.
        view: Shape (D, H, W) of the views.
        retrain_share: Share of the pool that may be new or changed before all models are trained again.
        contrastive: Schedule and network size; `steps` replaces its steps.
    """

    folds: int = 3
    seeds: int = 2
    steps: int | None = None
    view: Shape = VIEW_SHAPE
    retrain_share: float = 0.2
    contrastive: ContrastiveSettings = field(default_factory=ContrastiveSettings)

    def __post_init__(self) -> None:
        """Refuse settings that hold out no case."""
        if self.folds < 2 or self.seeds < 1:
            raise ValueError(
                f"folds must be at least 2 and seeds at least 1; got {self.folds} and {self.seeds}."
            )

    def steps_for(self, cases: int, device: torch.device) -> int:
        """Most steps of one training: the setting, or by the number of training cases and the device.

        A small pool is known by heart after a few steps a case. A CPU takes 0.6 to 1.2 s a step.
        """
        least, usual, most = (300, 600, 2000) if device.type == "cuda" else (100, 150, 800)
        wanted = max(min(usual, 8 * cases), 2 * cases)
        return min(most, max(least, wanted)) if self.steps is None else self.steps


def score_pool(
    keys: PoolKeys,
    views: PoolViews,
    properties: CaseProperties,
    modalities: Sequence[str],
    settings: ScoringSettings,
    *,
    folder: Path,
    computation: Computation,
) -> PoolScores:
    """Score a pool in one pass, without labels.

    Models and scores are kept in `folder`. After a kill the next call resumes with the interrupted training.
    A pool that has grown a little is scored by the existing models.

    Args:
        keys: Contents and patients of the N cases, in the order of the views.
        views: Views of the N cases, memory-mapped from a file.
        properties: Label-free measurements of the N cases.
        modalities: Names of the M channels.
        settings: Folds, seeds and networks.
        folder: Folder of the models and scores.
        computation: Device, seed, processes and progress.

    Returns:
        Scores of the N cases.

    Raises:
        PoolTooSmall: If there are too few patients or modalities.
        ValueError: If the arguments do not fit one another.

    Source: Wang et al. 2025, as reconstructed from its abstract.
    """
    _check(keys, views, modalities)
    parts = min(settings.folds, len(set(keys.patients)) // 2)  # a fold needs two patients to compare
    trained = {
        **asdict(settings),
        "method": SCORING_VERSION,
        "modalities": list(modalities),
        "device": computation.device.type,
    }
    del trained["retrain_share"]
    folds = open_folds(
        folder, keys, settings=trained, folds=parts, repeats=settings.seeds, seed=computation.seed,
        retrain_share=settings.retrain_share,
    )  # fmt: skip
    job = FoldJob(views, keys, folds, settings, computation.seed)
    total = settings.seeds * parts

    def report_progress(share: float) -> None:
        computation.on_progress(share, f"training {min(total, 1 + int(share * total))} of {total}")

    share_out(
        job,
        range(total),
        device=computation.device,
        processes=computation.processes,
        on_progress=report_progress,
    )
    scores = [FoldScores.load(job.file("scores", piece)) for piece in range(total)]
    features = pool_features([map_array(job.file("embedding", piece)) for piece in range(parts)])
    places = [
        FoldPlaces([job.file("places", piece) for piece in pieces], [scores[piece].rows for piece in pieces])
        for pieces in np.arange(total).reshape(settings.seeds, parts).tolist()
    ]
    counts = place_counts(views.shape, settings.contrastive.encoder.stride)
    collected = collect(scores, places, counts, job.held_out, views, properties, modalities, features)
    forget_others(folder, keep=job.folder)
    return collected


@dataclass(frozen=True, eq=False)
class FoldJob:
    """Training and scoring of one fold of one repeat; piece = repeat * folds + fold.

    Attributes:
        views: Views of the pool.
        keys: Contents and patients of the N cases.
        folds: Fold in which each patient is held out.
        settings: Folds, seeds and networks.
        seed: Seed of all random draws.
    """

    views: PoolViews
    keys: PoolKeys
    folds: Folds
    settings: ScoringSettings
    seed: int

    def __call__(self, piece: int, device: torch.device, tell: OnShareDone) -> None:
        """Train and score the fold; a step whose file exists is skipped."""
        if self._is_done(piece):
            tell(1.0)
            return
        patients, (repeat, fold) = np.array(self.keys.patients), divmod(piece, self.folds.count)
        held_out = self.held_out[repeat] == fold
        known = np.array([content in self.folds.trained for content in self.keys.contents])
        model = self._model(piece, patients, ~held_out & known, held_out, device, tell)
        if repeat == 0:  # the encoders of one repeat are enough for the features
            embed_pool(model.encoders, self.views, self.file("embedding", piece), device)
        score_fold(
            model, self.views, patients, np.flatnonzero(held_out), self.file("places", piece),
            seed=self._number(piece), device=device,
        ).save(self.file("scores", piece))  # fmt: skip
        tell(1.0)

    @cached_property
    def held_out(self) -> NDArray[np.intp]:
        """Fold in which each case is held out, shape (repeats, N)."""
        return self.folds.of(self.keys)

    @cached_property
    def folder(self) -> Path:
        """Folder of the scores of this pool."""
        return self.folds.folder / self.keys.digest()

    def file(self, what: str, piece: int) -> Path:
        """File of the scores, the PMI at each place or the embedding of a piece."""
        return self.folder / f"{what}-{piece}.{'npz' if what == 'scores' else 'npy'}"

    def _is_done(self, piece: int) -> bool:
        """Whether the files of a piece are complete; a damaged file is set aside."""
        readers: dict[str, Callable[[Path], object]] = {"scores": FoldScores.load, "places": map_array}
        if piece < self.folds.count:
            readers["embedding"] = map_array
        for what, read in readers.items():
            try:
                read(self.file(what, piece))
            except FileNotFoundError:
                return False
            except UNREADABLE as err:
                set_aside(self.file(what, piece), f"{err}. It is computed again.")
                return False
        return True

    def _model(
        self,
        piece: int,
        patients: NDArray[np.str_],
        training: NDArray[np.bool_],
        held_out: NDArray[np.bool_],
        device: torch.device,
        report_progress: OnShareDone,
    ) -> FoldModel:
        path = self.folds.folder / f"model-{piece}.pt"
        try:
            return FoldModel.load(path, device)
        except FileNotFoundError:
            pass
        except (*UNREADABLE, RuntimeError, UnpicklingError) as err:
            set_aside(path, f"{err}. It is trained again.")
        settings, rows = self.settings, np.flatnonzero(training)
        contrastive = replace(settings.contrastive, steps=settings.steps_for(len(rows), device))
        model = train_fold(
            self.views, patients, rows, np.flatnonzero(held_out), contrastive,
            seed=self._number(piece), device=device, on_progress=report_progress,
        )  # fmt: skip
        model.save(path)
        return FoldModel.load(path, device)

    def _number(self, piece: int) -> int:
        return int(np.random.SeedSequence([self.seed, 1, piece]).generate_state(1)[0])


def _check(keys: PoolKeys, views: PoolViews, modalities: Sequence[str]) -> None:
    if not len(keys.contents) == len(keys.patients) == len(views.array) == len(views.present):
        raise ValueError(
            "contents, patients and views must be of the same cases; "
            f"got {len(keys.contents)}, {len(keys.patients)} and {len(views.array)}."
        )
    if len(modalities) != views.present.shape[1]:
        raise ValueError(
            f"views must have one channel for each of {', '.join(modalities)}; got {views.present.shape[1]}."
        )
    if len(modalities) < 2:
        raise PoolTooSmall(
            f"a modality difference needs at least 2 modalities; got {', '.join(modalities) or 'none'}. "
            "Add the other series of each study."
        )
    paired = np.flatnonzero(views.present.sum(axis=1) >= 2)
    patients = len({keys.patients[row] for row in paired})
    if patients < MIN_PATIENTS:
        raise PoolTooSmall(
            f"a pool must have at least {MIN_PATIENTS} patients with two modalities or more to be scored by "
            f"models that never saw them; got {patients}. Add studies, or label these in any order."
        )
