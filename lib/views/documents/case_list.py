"""Every case of the pool in one list: its state, reader, structures and place in the order."""

from __future__ import annotations

from typing import Any, Literal

from lib.labels.store import FINAL
from lib.pipeline.plan_document import is_random
from lib.pipeline.workspace import Workspace

WITH_IMAGES = "found with the images"  # in place of the reader of a label that no reader sent
State = Literal["held back", "labelled", "held by a reader", "not labelled"]


def case_list(workspace: Workspace) -> dict[str, Any]:
    """JSON: the cases by title, and whether their order is a random one.

    Each case has `id`, `title`, `state`, `reader` (who labelled it, or holds it), `structures` of the label
    that its reader sent, `modalities`, `place` in the order in use (None if it has none), `difference`, and
    `findings`, their number.
    """
    plan, strategy = workspace.plan.current(), workspace.settings.strategy
    order = workspace.plan.order(strategy, plan=plan.id) if plan else ()
    places = {id: place for place, id in enumerate(order, start=1)}
    scores = workspace.plan.scores(plan=plan.id) if plan else {}
    labelled, held = workspace.labels.labelled(), workspace.plan.assignments("").held
    rows = []
    for case in workspace.pool.cases:
        version = workspace.labels.log.version(case.id, FINAL) if case.id in labelled else None
        state: State = "not labelled"
        reader = ""
        if case.id in workspace.verdicts.quarantined:
            state = "held back"
        elif case.id in labelled:
            state, reader = "labelled", version.reader if version else WITH_IMAGES
        elif case.id in held:
            state, reader = "held by a reader", held[case.id][0]
        score = scores.get(case.id)
        rows.append(
            {
                "id": case.id,
                "title": case.title,
                "state": state,
                "reader": reader,
                "structures": [name for name, _ in version.segments] if version else [],
                "modalities": list(case.modalities),
                "place": places.get(case.id),
                "difference": None if score is None else score.difference,
                "findings": len(workspace.verdicts.findings(case.id)),
            }
        )
    return {"random": is_random(plan, strategy), "cases": rows}
