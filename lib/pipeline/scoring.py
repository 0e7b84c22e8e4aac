"""From cases to scores: views of the cases, then models trained on other cases."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from lib.cases.case import Case
from lib.cases.preprocessing import FORMAT_VERSION
from lib.mdal.representation.contrastive import ContrastiveSettings
from lib.mdal.representation.encoder import EncoderSettings
from lib.mdal.representation.properties import CaseProperties
from lib.mdal.representation.views import COARSE_SHAPE, VIEW_VERSION, CaseView, Shape, case_view, gather_views
from lib.mdal.scoring.folds import PoolKeys
from lib.mdal.scoring.pool_scores import PoolScores
from lib.mdal.scoring.score_pool import ScoringSettings, score_pool
from lib.pipeline.workspace import Workspace
from lib.runtime.computation import Computation
from lib.runtime.devices import device_of
from lib.runtime.progress import OnProgress, stage_of
from lib.runtime.words import counted

_READ = 0.1  # share of the work done after the reading
CONTRASTIVE = {
    "small": ContrastiveSettings(),
    "large": ContrastiveSettings(
        batch=64, learning_rate=3e-3, encoder=EncoderSettings(width=24, features=64)
    ),
}


@dataclass(frozen=True, eq=False)
class WorkspaceScores:
    """Scores of the served cases of a workspace.

    Attributes:
        cases: Cases, in the order of the scores.
        scores: Scores of the N cases.
        view: Shape (D, H, W) of the views.
        modalities: Names of the M channels.
        properties: Properties measured without a label, each of shape (N, …).
    """

    cases: tuple[Case, ...]
    scores: PoolScores
    view: Shape
    modalities: tuple[str, ...]
    properties: CaseProperties

    def measured(self, row: int) -> dict[str, Any]:
        """Properties of a case that the gates compare with its difference, by the gates' names.

        Returns:
            JSON without unknown values. `voxel_mm` has the viewers' order, W first.
        """
        noise = zip(self.modalities, self.properties.signal_to_noise[row], strict=True)
        numbers = {
            "foreground volume": self.properties.foreground_ml[row],
            "lesion proxy": self.scores.lesion_proxy[row],
            **{f"signal to noise of {name}": value for name, value in noise},
        }
        known = {name: float(f"{value:.4g}") for name, value in numbers.items() if math.isfinite(value)}
        spacing = self.properties.spacing[row].round(2).tolist()  # rounded as in `protocol_gate`
        return {**known, "voxel_mm": spacing[::-1]}


def score_workspace(
    workspace: Workspace,
    *,
    settings: ScoringSettings | None = None,
    processes: int,
    on_progress: OnProgress,
) -> WorkspaceScores:
    """Score the served cases of a workspace.

    The cases are sorted by a hash of their contents, so that the scores do not depend on the case ids.

    Args:
        workspace: Workspace whose served cases are scored.
        settings: Settings of the scoring; None takes those of the workspace.
        processes: Number of processes that share the work on a CPU.
        on_progress: Called with the share done and a message.

    Raises:
        PoolTooSmall: If there are too few patients or modalities.
        UserError: If a case cannot be read.
    """
    settings = settings or scoring_settings(workspace)
    contents = _contents(workspace, settings.view)
    cases = tuple(sorted(workspace.verdicts.served, key=lambda case: (contents[case.id], case.id)))
    patient_of: dict[str, str] = {}  # cases with the same content are one patient, whatever the names
    patients = [patient_of.setdefault(contents[case.id], case.patient) for case in cases]
    keys = PoolKeys(tuple(contents[case.id] for case in cases), tuple(patients))

    def report_read(done: int) -> None:
        on_progress(_READ * done / len(cases), f"read {done} of {counted(len(cases))}")

    gathered = workspace.folders.work / "views.npy"
    for part in workspace.folders.work.glob(".part-*-views.npy"):  # left by a scoring that was killed
        part.unlink(missing_ok=True)
    try:
        views, properties = gather_views(
            _views(workspace, cases, contents, settings.view, report_read), len(cases), gathered
        )
        scores = score_pool(
            keys, views, properties, workspace.preparation.modalities,
            settings,
            folder=workspace.folders.work / "scoring",
            computation=Computation(
                device_of(workspace.settings.device), workspace.settings.seed, processes,
                stage_of(on_progress, _READ, 1.0),
            ),
        )  # fmt: skip
    finally:
        gathered.unlink(missing_ok=True)
    return WorkspaceScores(cases, scores, settings.view, workspace.preparation.modalities, properties)


def scoring_settings(workspace: Workspace) -> ScoringSettings:
    """Scoring settings of a workspace."""
    large = device_of(workspace.settings.device).type == "cuda"
    settings = ScoringSettings(contrastive=CONTRASTIVE["large" if large else "small"])
    if workspace.settings.scoring == "quick":
        quick = replace(settings.contrastive, checks=0)
        return replace(settings, folds=2, steps=4, view=COARSE_SHAPE, contrastive=quick)
    return settings


def _contents(workspace: Workspace, view: Shape) -> dict[str, str]:
    """Hash of what the encoders see of each served case: its files and the preparation of the view."""
    method = [VIEW_VERSION, FORMAT_VERSION, view, asdict(workspace.preparation)]
    return {
        id: hashlib.blake2b(json.dumps([content, method]).encode(), digest_size=16).hexdigest()
        for id, content in workspace.records.content_hashes(workspace.verdicts.served).items()
    }


def _views(
    workspace: Workspace,
    cases: tuple[Case, ...],
    contents: dict[str, str],
    shape: Shape,
    report_read: Callable[[int], None],
) -> Iterator[CaseView]:
    """The view of every case: read where it was saved before; unused views are removed."""
    folder, used = workspace.folders.work / "views", set()
    for done, case in enumerate(cases):
        report_read(done)
        file = folder / f"{contents[case.id]}.npz"
        view = CaseView.load(file)
        if view is None:
            view = case_view(workspace.cache.get(case), shape=shape)
            view.save(file)
        used.add(file)
        yield view
    for file in folder.glob("*.npz"):
        if file not in used:
            file.unlink(missing_ok=True)
