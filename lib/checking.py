"""The pool check of a site, and how far it is."""

from __future__ import annotations

from lib.plan.jobs import Progress, teller
from lib.site import Site

CHECK = "check"


def check_site(site: Site, on_progress: Progress | None = None) -> None:
    """Run the pool check and keep its result.

    Args:
        site: Whose pool.
        on_progress: Told the share done and how many cases that is, also kept for the page.
    """
    tell = teller(site.plan.report, CHECK, on_progress)
    tell(0.0, f"looking at {len(site.pool.cases):,} cases")
    try:
        site.check(lambda done, of: tell(done / of, f"checked {done:,} of {of:,} cases"))
    except KeyboardInterrupt:
        message = "stopped; the next check goes on where this one was"
        site.plan.report(CHECK, state="interrupted", done=0.0, message=message)
        raise
    except Exception as err:
        site.plan.report(CHECK, state="failed", done=0.0, message=str(err))
        raise
    site.plan.report(CHECK, state="done", done=1.0, message=f"checked {len(site.pool.cases):,} cases")
