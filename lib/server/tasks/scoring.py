"""Scoring of the pool, in MONAI Label's child process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.tasks.scoring import ScoringMethod

from lib.pipeline.planning import SCORING_JOB, plan_pool
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import spare_cores
from lib.server.datastore import CaseDatastore
from lib.server.tasks.progress_log import SHOWN, ProgressLog
from lib.views.pictures.strips import Strips

logger = logging.getLogger(__name__)


class ModalityDifferenceScoring(ScoringMethod):
    """Check the pool, score every case's modality difference, write the plan."""

    def __init__(self, workspace: Workspace) -> None:
        """Score the pool of a workspace."""
        super().__init__(
            "MDAL as reconstructed from its abstract: one-shot plan of which cases to label first"
        )
        self.workspace = workspace

    def info(self) -> dict[str, Any]:
        """Description, and progress of a running scoring."""
        return {"description": self.description, "progress": self.workspace.plan.progress(SCORING_JOB)}

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        """Bring the plan up to date; returns at once if nothing changed."""
        start = time.monotonic()
        progress = None if SHOWN in os.environ else ProgressLog("scoring", logger)
        plan = plan_pool(self.workspace, processes=spare_cores(), on_progress=progress)
        Strips(self.workspace).keep_chosen()  # the map shows them without delay
        current = self.workspace.plan.current()
        return {
            "plan": plan,
            "seconds": round(time.monotonic() - start, 1),
            "gates": current.about.get("gates", []) if current else [],
        }
