"""Expiry of a plan: whether it still fits the pool and the settings."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import Any

from lib.pipeline.planning import SCORING_JOB, is_current, settings_that_matter
from lib.pipeline.workspace import Workspace
from lib.plan.orm import PlanRow

_LOOK_S = 5  # interval between two looks at the files
SCORE_AGAIN = "Score the pool: restart the server, or run `python main.py select` on the studies."


def expiry(workspace: Workspace, plan: PlanRow) -> str:
    """Reason why a plan no longer fits the pool and the settings; empty if it fits."""
    if _is_current(workspace, plan, int(time.monotonic() / _LOOK_S)):
        return ""
    now = json.loads(json.dumps(settings_that_matter(workspace, plan)))
    then = plan.about.get("settings", {})
    changed = [
        f"{key} was {_word(then.get(key))}, now {_word(value)}"
        for key, value in now.items()
        if then.get(key) != value
    ]
    planned = set(workspace.plan.order(workspace.settings.strategy, plan=plan.id))
    served = {case.id for case in workspace.verdicts.served}
    counts = [
        f"{len(ids):,} {'case is' if len(ids) == 1 else 'cases are'} {what}"
        for ids, what in ((served - planned, "not in it"), (planned - served, "no longer served"))
        if ids and planned
    ]
    why = "; ".join([*changed, *counts]) or "files of the studies changed since"
    return f"This plan has expired: {why}."


def what_to_do(workspace: Workspace) -> str:
    """What to do about a plan that is missing or has expired."""
    scoring = workspace.plan.progress(SCORING_JOB)
    if scoring.get("state") == "running":
        return "The pool is being scored; a new plan follows by itself."
    return SCORE_AGAIN


@lru_cache(maxsize=1)
def _is_current(workspace: Workspace, plan: PlanRow, _period: int) -> bool:
    """Cached for a period, as it looks at every file of the pool."""
    return is_current(workspace, plan)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "empty"
    return "empty" if value in ("", None) else str(value)
