"""Next Sample: reads the plan, leases a case, says why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from lib.datastores.local import CaseDatastore
from lib.plan.store import Offer
from lib.planning import JOB, uniform_order
from lib.refusal import Refusal
from lib.site import Site

DESCRIPTIONS = {
    "mdal": "MaxMD: the largest modality difference first",
    "diversemd": "DiverseMD: diverse cases, in each group the largest modality difference",
    "uniform": "Every case equally likely",
}


class PlannedStrategy(Strategy):
    """The best-ranked case of a strategy's order that is free for the annotator who asks."""

    def __init__(self, site: Site, strategy: str) -> None:
        """Answer from the orders of `strategy`."""
        super().__init__(DESCRIPTIONS[strategy])
        self.site, self.strategy = site, strategy

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        """The next case and the reason for it; empty when nothing is left for this annotator.

        Raises:
            Refusal: If there is no plan yet and the site wants an error then.
        """
        order = self.site.plan.order(self.strategy)
        state = {"state": "planned"} if order else self._without_plan()
        offer = self.site.plan.lease_next(
            order or uniform_order(tuple(case.id for case in self.site.served), self.site.settings.seed),
            annotator=_annotator(request),
            is_open=datastore.is_open,
            lease=timedelta(minutes=self.site.settings.lease_minutes),
        )
        if offer is None:
            return {}
        return {
            "id": offer.case_id,
            "mdal": {**state, "strategy": self.strategy, **_facts(offer, bool(order))},
        }

    def _without_plan(self) -> dict[str, Any]:
        if self.strategy == "uniform":
            return {"state": "uniform"}
        progress = self.site.plan.progress(JOB) or {"state": "unscored", "done": 0.0}
        if self.site.settings.no_plan == "error":
            raise Refusal(
                f"the plan is not ready ({progress['state']}, {100 * progress['done']:.0f} % done). Try "
                "again later, or ask for the strategy uniform.",
                status=503,
            )
        warnings = ["There is no plan yet: this is a random unlabelled case."]
        if not self.site.verdicts:
            warnings.append("The pool check is not finished: this case may be found unusable.")
        return {
            **progress,
            "state": "scoring" if progress["state"] == "running" else progress["state"],
            "warnings": warnings,
        }


def _annotator(request: Mapping[str, Any]) -> str:
    name = request.get("client_id") or "anonymous"
    if not isinstance(name, str) or not name.isprintable() or len(name) > 160:
        raise Refusal(f"client_id must be a name of at most 160 characters; got {str(name)[:40]!r}.")
    return name


def _facts(offer: Offer, planned: bool) -> dict[str, Any]:
    score = offer.score
    facts: dict[str, Any] = {
        "rank": offer.rank,
        "of": offer.of,
        "lease_until": offer.until.isoformat(timespec="seconds"),
    }
    if not planned or score.difference is None or score.percentile is None:
        return facts | {"reason": f"Case {offer.rank} of {offer.of} in a uniform order."}
    pair = score.details.get("most_different_pair")
    return facts | {
        "difference": score.difference,
        "percentile": score.percentile,
        **score.details,
        "reason": f"Case {offer.rank} of {offer.of}: its modalities differ more than those of "
        f"{score.percentile:.0f} % of the other cases" + (f", {pair} most." if pair else "."),
    }
