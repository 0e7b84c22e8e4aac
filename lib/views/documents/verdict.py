"""One verdict on the plan: usable, usable with care, not to be relied on, or no plan, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.plan_document import is_random
from lib.pipeline.planning import QUICK
from lib.pipeline.workspace import Workspace
from lib.plan.orm import PlanRow
from lib.views.documents.expiry import expiry, what_to_do

RETRIEVAL = "retrieval"  # gate without which the difference means nothing


@dataclass(frozen=True)
class Verdict:
    """Verdict on a plan.

    Attributes:
        level: `none` if cases are offered at random for want of a plan.
        sentence: The verdict and its reason.
        action: What to do; empty if nothing is to be done.
    """

    level: Literal["usable", "care", "unreliable", "none"]
    sentence: str
    action: str = ""

    def to_dict(self) -> dict[str, str]:
        """The verdict as JSON."""
        return asdict(self)


def verdict_of(workspace: Workspace, plan: PlanRow | None) -> Verdict:
    """Verdict on the order in use."""
    if plan is None:
        return Verdict(
            "none", "There is no plan yet: cases are offered in random order.", what_to_do(workspace)
        )
    expired = expiry(workspace, plan)
    gates = plan.about.get("gates")
    if not gates:
        reasons = plan.about.get("warnings") or ["The pool was not scored."]
        action = what_to_do(workspace) if expired else ""
        return Verdict("none", " ".join([*reasons, expired]).strip(), action)
    if expired:
        return Verdict("care", f"Usable with care. {expired}", what_to_do(workspace))
    if plan.about.get("settings", {}).get("scoring") == "quick":
        return Verdict("unreliable", f"Do not rely on it. {QUICK}")
    strategy = STRATEGIES[workspace.settings.strategy]
    if is_random(plan, strategy.name):
        why = "" if strategy.random == "always" else ", because the scans show different parts of the body"
        return Verdict("usable", f"Usable: a random order with likely damaged scans last{why}.")
    if not strategy.by_difference:
        return Verdict("usable", f"Usable: {strategy.title[0].lower()}{strategy.title[1:]}.")
    return _of_difference([gate for gate in gates if gate["of_the_order"]])


def _of_difference(gates: Sequence[dict[str, Any]]) -> Verdict:
    """Verdict on an order by the modality difference, from the gates that it depends on."""
    failed = [gate for gate in gates if gate["passed"] is False]
    unknown = [gate for gate in gates if gate["passed"] is None]
    other = "Choose another order, such as --conf strategy=representative, or add studies."
    if too_little := next((gate for gate in failed if gate["name"] == RETRIEVAL), None):
        return Verdict("unreliable", f"Do not rely on it. {too_little['sentence']}", other)
    if failed:
        which = f"{len(failed)} of the {len(gates)} checks that the order depends on failed"
        return Verdict("care", f"Usable with care: {which}.", "Read the failed checks before you label.")
    if unknown:
        which = f"{len(unknown)} of the {len(gates)} checks could not be computed on this pool"
        return Verdict("care", f"Usable with care: no check failed, but {which}.")
    return Verdict("usable", f"Usable: all {len(gates)} checks that the order depends on passed.")
