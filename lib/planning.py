"""From a site's pool to its ordered plan: check, score, select, write."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.compute import device_of
from lib.mdal.score import PoolScores, PoolTooSmall, ScoringSettings, score_pool
from lib.mdal.selection import SELECTORS
from lib.mdal.views import write_views
from lib.plan.store import CaseScore
from lib.site import Site

logger = logging.getLogger(__name__)

JOB = "mdal"
_TELL_S = 1.0  # between two reports of progress
_CHECKED, _READ = 0.1, 0.2  # shares of the work done after the check and after the reading
Progress = Callable[[float, str], None]


def plan_pool(site: Site, *, on_progress: Progress | None = None) -> int:
    """Bring a site's plan up to date.

    The same content and settings give the plan that is there. A pool too small to be scored gets a plan that
    says so, in uniform order.

    Args:
        site: Whose pool.
        on_progress: Told the share done and what is being done, also kept for `/info/`.

    Returns:
        The plan's version.

    Raises:
        CaseError: If the studies hold no case.
    """
    told = -math.inf

    def tell(done: float, message: str) -> None:
        nonlocal told
        if time.monotonic() - told < _TELL_S:
            return
        told = time.monotonic()
        site.plan.report(JOB, state="running", done=done, message=message)
        if on_progress:
            on_progress(done, message)

    with FileLock(site.work / "scoring.lock"):  # of two scorings the second finds nothing to do
        return _plan_pool(site, tell)


@lru_cache(maxsize=4)
def uniform_order(ids: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """Every case equally likely at every place; the seed decides."""
    return tuple(ids[place] for place in np.random.default_rng(seed).permutation(len(ids)))


def _plan_pool(site: Site, tell: Progress) -> int:
    try:
        tell(0.0, "checking the pool")
        if not site.recall_check():
            site.check(lambda done, of: tell(_CHECKED * done / of, f"checked {done} of {of} cases"))
        content, current = site.content(), site.plan.current()
        if current is not None and current.content == content:
            site.plan.report(JOB, state="done", done=1.0, message="nothing changed")
            return current.id
        plan = _make(site, content, tell)
        site.plan.report(JOB, state="done", done=1.0, message=f"plan {plan} is ready")
        return plan
    except Exception as err:
        site.plan.report(JOB, state="failed", done=0.0, message=str(err))
        raise


def _make(site: Site, content: str, tell: Progress) -> int:
    cases, seed = site.served, site.settings.seed
    ids = [case.id for case in cases]
    about: dict[str, Any] = {
        "software": {name: version(name) for name in ("monai", "torch", "scikit-learn")},
        "settings": site.scoring_settings,
        "fingerprint": site.fingerprint(),
        "warnings": [],
    }
    try:
        scores = _score(site, cases, tell)
    except PoolTooSmall as err:
        logger.warning("the pool could not be scored: %s", err)
        about["warnings"] = [f"Cases are offered in uniform order: {err}"]
        order = uniform_order(tuple(ids), seed)
        return site.plan.write(
            content=content,
            seed=seed,
            scores={id: CaseScore() for id in ids},
            orders={name: order for name in SELECTORS},
            about=about,
        )
    about["gates"] = {name: value if math.isfinite(value) else None for name, value in scores.gates.items()}
    budget = max(1, round(site.settings.budget * len(ids)))
    orders = {
        name: select(scores.features, scores.md, scores.ids, budget, np.random.default_rng(seed))
        for name, select in SELECTORS.items()
    }
    return site.plan.write(
        content=content,
        seed=seed,
        orders=orders,
        about=about,
        scores={id: _case_score(scores, place) for place, id in enumerate(scores.ids)},
    )


def _score(site: Site, cases: tuple[Case, ...], tell: Progress) -> PoolScores:
    settings = ScoringSettings(
        folds=site.settings.folds, seeds=site.settings.repeats, steps=site.settings.scoring_steps or None
    )
    read = 0

    def read_case(case: Case) -> Any:
        nonlocal read
        tell(_CHECKED + (_READ - _CHECKED) * read / len(cases), f"read {read} of {len(cases)} cases")
        read += 1
        return site.cache.get(case)

    file = site.work / "views.npy"  # one for the site: a killed scoring's is written over by the next
    try:
        views = write_views(cases, read_case, file)
        return score_pool(
            [case.id for case in cases],
            [case.patient for case in cases],
            views,
            site.preparation.modalities,
            settings,
            seed=site.settings.seed,
            device=device_of(site.settings.device),
            on_progress=lambda done, message: tell(_READ + (1.0 - _READ) * done, message),
        )
    finally:
        file.unlink(missing_ok=True)


def _case_score(scores: PoolScores, place: int) -> CaseScore:
    def by_pair(values: NDArray[np.float64]) -> dict[str, float]:
        found = zip(scores.pairs, values[place], strict=True)
        return {pair: float(value) for pair, value in found if math.isfinite(value)}

    differences = by_pair(scores.pair_md)
    details: dict[str, Any] = {
        "difference_by_pair": differences,
        "pmi_nats_by_pair": by_pair(scores.gaussian_nats.mean(axis=2)),
        "critic_nats_by_pair": by_pair(scores.critic_nats.mean(axis=2)),
    }
    if differences:
        details["most_different_pair"] = max(differences, key=lambda pair: (differences[pair], pair))
    return CaseScore(float(scores.md[place]), float(scores.md_percentile[place]), details)
