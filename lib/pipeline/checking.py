"""The pool check of a workspace, and its progress."""

from __future__ import annotations

from lib.pipeline.workspace import Workspace
from lib.plan.jobs import recording_progress
from lib.runtime.progress import OnProgress
from lib.runtime.words import counted

CHECK_JOB = "check"


def check_workspace(workspace: Workspace, on_progress: OnProgress | None = None) -> None:
    """Run the pool check and record its result.

    Args:
        workspace: Workspace to check.
        on_progress: Called with the share done and the number of cases checked; both are also recorded for
            the page.
    """
    cases, after_stop = len(workspace.pool.cases), "the next check resumes where this one stopped"
    recording = recording_progress(workspace.plan.report, CHECK_JOB, on_progress, after_stop=after_stop)
    with recording as report_progress:
        report_progress(0.0, f"looking at {counted(cases)}")
        workspace.check(lambda done, of: report_progress(done / of, f"checked {done:,} of {counted(of)}"))
    workspace.plan.report(CHECK_JOB, state="done", done=1.0, message=f"checked {counted(cases)}")
