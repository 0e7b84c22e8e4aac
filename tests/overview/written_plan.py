"""A plan of three real patients, written as a scoring writes it."""

from __future__ import annotations

import numpy as np

from lib.plan.scores import CaseScore
from lib.site import Site

IDS = ("STS_008", "STS_002", "STS_025")  # in the order of the plan


def write_plan(site: Site, *, scored: bool = True) -> None:
    def score(row: int) -> CaseScore:
        pairs = {"MR_T1/CT": 1.0 - row, "MR_T1/PET": 0.5} if row < 2 else {"MR_T1/CT": -1.0}
        nats = dict.fromkeys(pairs, 0.25)
        details = {"difference_by_pair": pairs, "pmi_nats_by_pair": nats}
        return CaseScore(
            1.23456 - row, 90.0 - 30.0 * row, details, cluster=row % 2, features=np.eye(3)[row] * (row + 1)
        )

    site.plan.write(
        content="c",
        seed=0,
        scores={id: score(row) if scored else CaseScore() for row, id in enumerate(IDS)},
        orders={site.settings.strategy: IDS},
        about={
            "fingerprint": site.fingerprint(),
            "settings": site.scoring_settings,
            "warnings": [] if scored else ["At least 6 are needed."],
        },
    )
