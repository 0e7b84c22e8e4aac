"""The pool check of a site, and how far it is."""

from __future__ import annotations

from lib.pipeline.workspace import Workspace
from lib.plan.jobs import Progress, recording_progress

CHECK = "check"


def check_site(workspace: Workspace, on_progress: Progress | None = None) -> None:
    """Run the pool check and keep its result.

    Args:
        workspace: Whose pool.
        on_progress: Told the share done and how many cases that is, also kept for the page.
    """
    cases, after_stop = len(workspace.pool.cases), "the next check goes on where this one was"
    with recording_progress(workspace.plan.report, CHECK, on_progress, after_stop=after_stop) as tell:
        tell(0.0, f"looking at {cases:,} cases")
        workspace.check(lambda done, of: tell(done / of, f"checked {done:,} of {of:,} cases"))
    workspace.plan.report(CHECK, state="done", done=1.0, message=f"checked {cases:,} cases")
