"""A plan as a document for people and programs: every case of the pool, best first."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lib.mdal import pair_names
from lib.mdal.scoring.gates import PLACE_GATE
from lib.mdal.selection.strategies import STRATEGIES, Standing
from lib.pipeline.workspace import Workspace
from lib.plan.budget import Budget
from lib.plan.orm import PlanRow
from lib.plan.scores import CaseScore
from lib.runtime.csv_table import write_csv

MDAL_METHOD = "MDAL as reconstructed from its abstract"
_DECIMALS = 4  # more would be noise, and the same plan must give the same bytes


def budgeted(workspace: Workspace, plan: PlanRow | None, strategy: str) -> int:
    """Number of labelled cases at which the workspace's budget is spent."""
    plateau = plan.about.get("plateau", {}).get(strategy) if plan else None
    return Budget.parse(workspace.settings.budget).cases(
        max(1, len(workspace.verdicts.served)), plateau=plateau
    )


def plan_warnings(plan: PlanRow, strategy: str) -> list[str]:
    """Warnings about a plan; failed gates count only for a strategy that ranks by the difference."""
    if plan.about.get("gates") and not STRATEGIES[strategy].by_difference:
        return []
    return [str(sentence) for sentence in plan.about.get("warnings", [])]


def is_random(plan: PlanRow | None, strategy: str) -> bool:
    """Whether a strategy's order is a random one; without a plan or a scored pool it is."""
    gates = plan.about.get("gates") if plan else None
    if not gates:
        return True
    aligned = any(gate["name"] == PLACE_GATE and gate["passed"] for gate in gates)
    return STRATEGIES[strategy].is_random(aligned=aligned)


def reason(score: CaseScore, rank: int, of: int, *, strategy: str) -> str:
    """One sentence that explains the rank of a case in a strategy's order."""
    place = f"Case {rank} of {of}"
    if score.difference is None or score.percentile is None:
        return f"{place} in random order."
    details = score.details
    standing = Standing(
        score.percentile,
        pair=details.get("most_different_pair", ""),
        extreme=score.extreme,
        salient_percentile=details.get("salient_percentile"),
    )
    return place + STRATEGIES[strategy].explain(standing)


@dataclass(frozen=True)
class PlannedCase:
    """A case with its rank in the order.

    Attributes:
        rank: Rank, from 1.
        id: Id of the case.
        chosen: Whether the case lies within the budget.
        score: Score of the case in the plan.
        warnings: Sentences on what to check before labelling.
    """

    rank: int
    id: str
    chosen: bool
    score: CaseScore
    warnings: tuple[str, ...] = ()

    def pairs(self) -> dict[str, dict[str, float]]:
        """Standardised difference and -PMI in nats of each pair of modalities that the case has."""
        standardised = self.score.details.get("difference_by_pair", {})
        nats = self.score.details.get("pmi_nats_by_pair", {})
        return {
            pair: {"difference": _rounded(value), "difference_nats": _rounded(-nats[pair])}
            for pair, value in standardised.items()
        }


@dataclass(frozen=True)
class PlanDocument:
    """A plan in one strategy's order.

    Attributes:
        strategy: Strategy that made the order.
        budget: Budget that decides how many cases are chosen.
        pairs: Pairs of the pool's modalities, as `CT/PET`.
        cases: Cases, best first.
        quarantined: Reason for quarantine, by case id.
        about: Settings, software, gates, warnings, coverage and plateaus of the plan.
    """

    strategy: str
    budget: Budget
    pairs: tuple[str, ...]
    cases: tuple[PlannedCase, ...]
    quarantined: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, workspace: Workspace) -> PlanDocument:
        """The workspace's newest plan, in the order of its setting `strategy`.

        Raises:
            ValueError: If no plan has this strategy.
        """
        strategy, plan = workspace.settings.strategy, workspace.plan.current()
        order = workspace.plan.order(strategy, plan=plan.id) if plan else ()
        if not plan or not order:
            raise ValueError(
                f"there must be a plan with the strategy {strategy}; there is none. Score the pool."
            )
        scores, chosen = workspace.plan.scores(plan=plan.id), budgeted(workspace, plan, strategy)
        cases = tuple(
            PlannedCase(
                rank,
                id,
                rank <= chosen,
                scores[id],
                (*workspace.verdicts.findings(id), *scores[id].warnings()),
            )
            for rank, id in enumerate(order, start=1)
        )
        return cls(
            strategy,
            Budget.parse(workspace.settings.budget),
            pair_names(workspace.preparation.modalities),
            cases,
            {id: " ".join(workspace.verdicts.findings(id)) for id in sorted(workspace.verdicts.quarantined)},
            dict(plan.about),
        )

    @property
    def chosen(self) -> tuple[PlannedCase, ...]:
        """The cases within the budget."""
        return tuple(case for case in self.cases if case.chosen)

    @property
    def scored(self) -> bool:
        """Whether the modality difference is known; it is unknown where the pool was too small to score."""
        return any(case.score.difference is not None for case in self.cases)

    @property
    def gates(self) -> list[dict[str, Any]]:
        """Results of the gates that judge the scoring."""
        return list(self.about.get("gates", []))

    def to_csv(self) -> str:
        """The plan as CSV: one row per case, then the quarantined cases without a rank."""
        columns = [
            *("rank", "case", "chosen", "difference", "difference_nats", "percentile", "most_different_pair"),
            *(f"{what} {pair}" for pair in self.pairs for what in ("difference", "difference_nats")),
            *("cluster", "warnings"),
        ]
        stream = io.StringIO()
        write_csv(stream, columns, self._rows())
        return stream.getvalue()

    def to_json(self) -> str:
        """The plan as JSON: the content of the table, with the settings, software and gates behind it."""
        about, chosen = self.about, len(self.chosen)
        document = {
            "method": MDAL_METHOD,
            "strategy": self.strategy,
            "order": STRATEGIES[self.strategy].title,
            "budget": {"rule": str(self.budget), "cases": chosen, "of": len(self.cases)},
            "cases": [self._entry(case) for case in self.cases],
            "quarantined": [{"case": id, "reason": reason} for id, reason in self.quarantined.items()],
            **{key: about.get(key) for key in ("warnings", "gates", "coverage", "plateau")},
            **{key: about.get(key) for key in ("settings", "software")},
        }
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def _rows(self) -> Iterator[dict[str, str]]:
        for case in self.cases:
            score = case.score
            yield {
                "rank": str(case.rank),
                "case": case.id,
                "chosen": "yes" if case.chosen else "no",
                "difference": _text(score.difference),
                "difference_nats": _text(score.difference_nats),
                "percentile": _text(score.percentile),
                "most_different_pair": score.details.get("most_different_pair", ""),
                **{
                    f"{what} {pair}": _text(value)
                    for pair, values in case.pairs().items()
                    for what, value in values.items()
                },
                "cluster": "" if score.cluster is None else str(score.cluster),
                "warnings": " ".join(case.warnings),
            }
        for id, reason in self.quarantined.items():
            yield {"case": id, "chosen": "no", "warnings": f"Quarantined. {reason}"}

    def _entry(self, case: PlannedCase) -> dict[str, Any]:
        score = case.score
        numbers = {name: getattr(score, name) for name in ("difference", "difference_nats", "percentile")}
        return {
            "rank": case.rank,
            "case": case.id,
            "chosen": case.chosen,
            **{name: None if value is None else _rounded(value) for name, value in numbers.items()},
            "most_different_pair": score.details.get("most_different_pair"),
            "pairs": case.pairs(),
            "cluster": score.cluster,
            "warnings": list(case.warnings),
        }


def _rounded(value: float) -> float:
    return round(value, _DECIMALS) + 0.0  # no minus before a zero


def _text(value: float | None) -> str:
    return "" if value is None else f"{_rounded(value):.{_DECIMALS}f}"
