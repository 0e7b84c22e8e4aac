"""A plan of three real patients, written as a scoring writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore

IDS = ("STS_008", "STS_002", "STS_025")  # in the order of the plan


def write_plan(workspace: Workspace, *, scored: bool = True, gates: Sequence[dict[str, Any]] = ()) -> None:
    def score(row: int) -> CaseScore:
        pairs = {"MR_T1/CT": 1.0 - row, "MR_T1/PET": 0.5} if row < 2 else {"MR_T1/CT": -1.0}
        nats = dict.fromkeys(pairs, 0.25)
        details = {"difference_by_pair": pairs, "pmi_nats_by_pair": nats}
        return CaseScore(
            1.23456 - row, 90.0 - 30.0 * row, details, cluster=row % 2, features=np.eye(3)[row] * (row + 1)
        )

    workspace.plan.write(
        content="c",
        seed=0,
        scores={id: score(row) if scored else CaseScore() for row, id in enumerate(IDS)},
        orders={workspace.settings.strategy: IDS},
        about={
            "fingerprint": workspace.fingerprint(),
            "settings": workspace.scoring_settings,
            "warnings": [] if scored else ["At least 6 are needed."],
            "gates": list(gates),
        },
    )
