"""Input of the strategies: scores of the candidates, and further scores for the controls."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.divided_pool import PartialWorkspace
from benchmarks.label_efficiency.evidence.control_scores import CONTROL_SCORES
from lib.mdal.representation.views import case_view, gather_views
from lib.mdal.scoring.score_pool import ScoringSettings
from lib.mdal.selection.candidates import Candidates, Rows
from lib.pipeline.planning import candidates_of
from lib.pipeline.scoring import score_workspace
from lib.runtime.digest import digest
from lib.runtime.files import replacing
from lib.runtime.own_files import read_arrays
from lib.runtime.progress import OnProgress

Values = NDArray[np.float64]
_KNOWN = ("features", "difference", "damage", "lesion_proxy", "salient", "saliency_features")


@dataclass(frozen=True, eq=False)
class Knowledge:
    """The candidates with their scores, and the modality differences of the controls.

    Attributes:
        candidates: Candidates as the app's selectors get them.
        differences: What a control uses in place of the modality difference, by its name in
            `CONTROL_SCORES`, each of shape (N,).
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
    controls: Collection[str],
    *,
    processes: int,
    on_progress: OnProgress,
) -> Knowledge:
    """Score a site's served cases, or load the scores that were kept.

    Args:
        workspace: Site of the candidates alone, after the pool check.
        settings: Settings of the scoring.
        folder: Folder for the scores.
        controls: Scores of `CONTROL_SCORES` that are wanted.
        processes: Number of processes that share the work.
        on_progress: Callback that gets the share done and a message.
    """
    file = folder / "knowledge.npz"
    content = digest([workspace.content(), asdict(settings), sorted(controls)])
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
        name: CONTROL_SCORES[name](views, patients, settings, seed=workspace.settings.seed)
        for name in sorted(controls)
    }
    gathered.unlink()
    knowledge = Knowledge(candidates, differences)
    _keep(file, content, knowledge)
    return knowledge


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
