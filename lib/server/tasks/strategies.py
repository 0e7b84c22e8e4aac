"""Next Sample: choose a case from the plan, lease it and give the reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from lib.cases.case import Case
from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.plan_document import budgeted, plan_warnings, reason
from lib.pipeline.planning import SCORING_JOB, uniform_order
from lib.pipeline.workspace import Workspace
from lib.plan.orm import PlanRow
from lib.plan.scores import CaseScore
from lib.plan.store import Event, Offer, PoolState
from lib.runtime.own_files import Unavailable
from lib.server.boundary.peers import annotator_of
from lib.server.datastore import CaseDatastore
from lib.server.errors import client_error


class PlannedStrategy(Strategy):
    """Offers the best-ranked case of a strategy's order that is free for the annotator."""

    def __init__(self, workspace: Workspace, strategy: str) -> None:
        """Answer from the orders of `strategy`."""
        super().__init__(STRATEGIES[strategy].title)
        self.workspace, self.strategy = workspace, strategy
        self._served: tuple[tuple[Case, ...], frozenset[str]] = ((), frozenset())
        self._left_out: tuple[object, ...] = ()

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        """The next case and the reason for it; empty if the budget is spent or no case is left.

        Raises:
            ClientError: If the database cannot be used.
        """
        try:
            return self._next(request, datastore)
        except Unavailable as err:
            raise client_error(err, status=503) from err

    def _next(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        annotator = annotator_of(request.get("client_id"))
        store, settings = self.workspace.plan, self.workspace.settings
        plan = store.current()
        order = store.order(self.strategy, plan=plan.id) if plan else ()
        state = self._with_plan(plan, order) if plan and order else self._without_plan()
        cases, served = budgeted(self.workspace, plan, self.strategy), self._served_ids()
        news = [_superseded(case_id, event) for case_id, event in store.events.superseded(annotator)]
        offer = store.lease_next(
            order or uniform_order(tuple(case.id for case in self.workspace.verdicts.served), settings.seed),
            annotator=annotator,
            read_pool=lambda: PoolState(served, datastore.labelled() & served),
            lease=timedelta(minutes=settings.lease_minutes),
            stop=cases,
            about={"strategy": self.strategy, "plan": plan.id if plan and order else None},
        )
        if offer is None:
            return {}
        nearest = store.nearest(offer.case_id, datastore.labelled())
        facts = {
            **_facts(self.strategy, offer, planned=bool(order)),
            **({"nearest_labelled": {"id": nearest[0], "distance": nearest[1]}} if nearest else {}),
            "budget": {"cases": cases, "labelled_or_leased": offer.spent, "of": len(served)},
            "warnings": [*news, *state.pop("warnings"), *self._warnings(offer)],
        }
        return {"id": offer.case_id, "mdal": {**facts, **state, "strategy": self.strategy}}

    def _served_ids(self) -> frozenset[str]:
        if self._served[0] is not self.workspace.verdicts.served:  # a pool check changed the served cases
            self._served = (
                self.workspace.verdicts.served,
                frozenset(case.id for case in self.workspace.verdicts.served),
            )
        return self._served[1]

    def _with_plan(self, plan: PlanRow, order: tuple[str, ...]) -> dict[str, Any]:
        """State and warnings where there is a plan."""
        warnings = plan_warnings(plan, self.strategy)
        served = self._served_ids()
        if self._left_out[:2] != (order, served):  # compared by identity first
            self._left_out = (order, served, len(served.difference(order)))
        if missing := self._left_out[2]:
            warnings.append(
                f"The plan is older than the pool: {missing} of its cases are not offered until it is scored "
                "again."
            )
        progress = self.workspace.plan.progress(SCORING_JOB)
        if progress.get("state") == "running":
            warnings.append(f"A newer plan is being computed: {100 * progress['done']:.0f} % done.")
        return {"state": "planned", "plan": plan.id, "warnings": warnings}

    def _without_plan(self) -> dict[str, Any]:
        if self.strategy == "uniform":
            return {"state": "uniform", "warnings": []}
        progress = self.workspace.plan.progress(SCORING_JOB) or {"state": "unscored", "done": 0.0}
        warnings = ["There is no plan yet: this is a random unlabelled case."]
        if not self.workspace.verdicts.by_case and not self.workspace.verdicts.unchecked:
            warnings.append("The pool check is not finished: this case may be found unusable.")
        return {
            **progress,
            "state": "scoring" if progress["state"] == "running" else progress["state"],
            "warnings": warnings,
        }

    def _warnings(self, offer: Offer) -> list[str]:
        """Warnings to read before the case is labelled."""
        problem = [self.workspace.verdicts.trouble] if self.workspace.verdicts.trouble else []
        if offer.passed_over:
            problem.append(
                f"{offer.passed_over} was set aside, as you asked for another case before you submitted it. "
                "It stays reserved for you for now; the page lists it and can give it back."
            )
        if offer.held_since is not None:
            problem.append(
                f"No other case is left: this one was offered under your name at "
                f"{offer.held_since:%H:%M} UTC. If a colleague uses the same name, it may be in their hands."
            )
        return [*problem, *self.workspace.verdicts.findings(offer.case_id), *offer.score.warnings()]


def _superseded(case_id: str, event: Event) -> str:
    """Sentence for a reader whose label is current no more."""
    by, number = event.details.get("by") or "Somebody", event.details.get("of")
    return f"{by} submitted another label of {case_id}: it is current, and yours stays as version {number}."


def _facts(strategy: str, offer: Offer, *, planned: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "rank": offer.rank,
        "of": offer.of,
        "lease_until": offer.until.isoformat(timespec="seconds"),
    }
    score = offer.score if planned else CaseScore()
    why = reason(score, offer.rank, offer.of, strategy=strategy)
    if score.difference is None or score.percentile is None:
        return facts | {"reason": why}
    known = {
        "difference": score.difference,
        "difference_nats": score.difference_nats,
        "percentile": score.percentile,
        "cluster": score.cluster,
    }
    known = {name: value for name, value in known.items() if value is not None}
    return {**score.details, **facts, **known, "reason": why}
