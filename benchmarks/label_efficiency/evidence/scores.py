"""Input of the strategies: scores of the candidates, and further scores for the controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.label_efficiency.evidence.pool import PartialWorkspace
from lib.mdal.representation.encoder import Encoders, EncoderSettings, place_counts
from lib.mdal.representation.views import PoolViews, case_view, gather_views
from lib.mdal.scoring.fold_model import FIT_CASES, train_fold
from lib.mdal.scoring.heads import GaussianHead, embed
from lib.mdal.scoring.place_difference import standardise_places
from lib.mdal.scoring.pmi import assign_folds
from lib.mdal.scoring.pool_places import CaseDifferences
from lib.mdal.scoring.pool_scores import lowest_if_unknown
from lib.mdal.scoring.score_pool import ScoringSettings
from lib.mdal.selection.candidates import Candidates, Rows
from lib.pipeline.planning import candidates_of
from lib.pipeline.scoring import score_workspace
from lib.runtime.digest import digest
from lib.runtime.files import replacing
from lib.runtime.own_files import read_arrays
from lib.runtime.progress import OnProgress

Values = NDArray[np.float64]
_CPU = torch.device("cpu")
_BLOCK = 64  # cases that are embedded at a time
_KNOWN = ("features", "difference", "damage", "lesion_proxy", "salient", "saliency_features")


@dataclass(frozen=True, eq=False)
class Knowledge:
    """The candidates with their scores, and the modality differences of the controls.

    Attributes:
        candidates: Candidates as the app's selectors get them.
        differences: Modality differences by control, each of shape (N,). `in_sample` comes from models that
            were trained on the case itself, `random_encoder` from untrained encoders, out of fold.
        sound_kinds: Kind of lesion by id, for undamaged cases with a known truth; only `oracle` uses it.
    """

    candidates: Candidates
    differences: Mapping[str, Values]
    sound_kinds: Mapping[str, str] = field(default_factory=dict)

    def sample(self, share: float, *, seed: int) -> Knowledge:
        """A random share of the candidates, which does not depend on their order."""
        by_id = np.array(sorted(range(len(self.candidates)), key=self.candidates.ids.__getitem__))
        count = round(share * len(by_id))
        return self.take(np.sort(np.random.default_rng([seed, count]).permutation(by_id)[:count]))

    def take(self, rows: Rows) -> Knowledge:
        """The cases of these rows, in the order of the rows."""
        return Knowledge(
            taken := self.candidates.take(rows),
            {name: values[rows] for name, values in self.differences.items()},
            {id: self.sound_kinds[id] for id in taken.ids if id in self.sound_kinds},
        )

    def with_difference(self, name: str) -> Candidates:
        """The candidates with the modality difference of a control in place of their own."""
        return replace(self.candidates, difference=self.differences[name])


def know(
    workspace: PartialWorkspace,
    settings: ScoringSettings,
    folder: Path,
    *,
    processes: int,
    on_progress: OnProgress,
) -> Knowledge:
    """Score a site's served cases, or load the scores that were kept.

    Args:
        workspace: Site of the candidates alone, after the pool check.
        settings: Settings of the scoring.
        folder: Folder for the scores.
        processes: Number of processes that share the work.
        on_progress: Callback that gets the share done and a message.
    """
    file = folder / "knowledge.npz"
    content = digest([workspace.content(), asdict(settings)])
    if (kept := _kept(file, content)) is not None:
        return kept
    scored = score_workspace(
        workspace,
        settings=settings,
        processes=processes,
        on_progress=lambda done, said: on_progress(0.7 * done, said),
    )
    candidates = candidates_of(scored)
    gathered = folder / "control-views.npy"
    views, _ = gather_views(
        (case_view(workspace.cache.get(case), shape=settings.view) for case in scored.cases),
        len(candidates),
        gathered,
    )
    patients = np.array([case.patient for case in scored.cases])
    on_progress(0.8, "controls that need other scores")
    differences = {
        "in_sample": in_sample_difference(views, patients, settings, seed=workspace.settings.seed),
        "random_encoder": random_encoder_difference(views, patients, settings, seed=workspace.settings.seed),
    }
    gathered.unlink()
    knowledge = Knowledge(candidates, differences)
    _keep(file, content, knowledge)
    return knowledge


def in_sample_difference(
    views: PoolViews, patients: NDArray[np.str_], settings: ScoringSettings, *, seed: int
) -> Values:
    """Modality difference by models that were trained on every case, mean of the repeats, shape (N,)."""
    rows = np.arange(len(patients))
    contrastive = replace(settings.contrastive, steps=settings.steps_for(len(rows), _CPU), checks=0)
    found = []
    for repeat in range(settings.seeds):
        model = train_fold(
            views, patients, rows, rows, contrastive,
            seed=_number(seed, 0, repeat), device=_CPU, on_progress=lambda done: None,
        )  # fmt: skip
        found.append(
            _lesion_focused(_nats(model.head, model.encoders, views, rows), np.zeros_like(rows), views)
        )
    return np.asarray(np.mean(found, axis=0))


def random_encoder_difference(
    views: PoolViews, patients: NDArray[np.str_], settings: ScoringSettings, *, seed: int
) -> Values:
    """Modality difference out of fold by the head on untrained encoders, mean of the repeats, shape (N,)."""
    groups = np.unique(patients, return_inverse=True)[1]
    found = []
    for repeat in range(settings.seeds):
        number = _number(seed, 1, repeat)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            encoders = Encoders(views.present.shape[1], settings.contrastive.encoder).eval()
        parts = min(settings.folds, len(set(groups.tolist())) // 2)
        fold, nats = assign_folds(groups, folds=parts, seed=number), np.empty(0)
        for part in range(parts):
            training, held_out = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
            fitted = training[:: -(-len(training) // FIT_CASES)]
            head = GaussianHead.fit(embed(encoders, views, fitted, _CPU))
            scored = _nats(head, encoders, views, held_out)
            nats = nats if nats.size else np.full((len(patients), *scored.shape[1:]), np.nan)
            nats[held_out] = scored
        found.append(_lesion_focused(nats, fold, views))
    return np.asarray(np.mean(found, axis=0))


def _nats(head: GaussianHead, encoders: Encoders, views: PoolViews, rows: Rows) -> Values:
    """PMI of some cases at each place, shape (n, P, places), computed in blocks."""
    blocks = np.array_split(rows, -(-len(rows) // _BLOCK))
    return np.concatenate([head.pmi(embed(encoders, views, block, _CPU)).numpy() for block in blocks])


def _lesion_focused(nats: Values, fold: Rows, views: PoolViews) -> Values:
    """Lesion-focused difference of each case, as in `PoolScores.md` before it is standardised."""
    counts = place_counts(views.shape, EncoderSettings().stride)
    places = standardise_places(nats, fold).astype(np.float16)
    return lowest_if_unknown(CaseDifferences.of(places, counts).lesion)


def _number(seed: int, control: int, repeat: int) -> int:
    """Seed of a control's training, different from every seed of the scores themselves."""
    return int(np.random.SeedSequence([seed, 2, control, repeat]).generate_state(1)[0])


def _keep(file: Path, content: str, knowledge: Knowledge) -> None:
    of = knowledge.candidates
    with replacing(file) as part, part.open("wb") as stream:
        np.savez(
            stream,
            content=np.array(content),
            ids=np.array(of.ids),
            aligned=np.array(of.aligned),
            **of.matrices(),
            **of.columns(),
            **{f"by {name}": values for name, values in knowledge.differences.items()},
        )


def _kept(file: Path, content: str) -> Knowledge | None:
    """Scores that were kept of the same cases and settings; None without them."""
    if not file.exists():
        return None
    found = read_arrays(file)
    if str(found["content"]) != content:
        return None
    differences = {name.removeprefix("by "): value for name, value in found.items() if name.startswith("by ")}
    known = {name: found[name] for name in _KNOWN}
    candidates = Candidates(tuple(found["ids"].tolist()), **known, aligned=bool(found["aligned"]))
    return Knowledge(candidates, differences)
