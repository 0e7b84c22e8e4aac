"""A plan in the terminal: the chosen cases, the gates, the warnings."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib.pipeline.plan_document import MDAL_METHOD, PlanDocument
from lib.runtime.words import counted

_LISTED = 20  # chosen cases listed; the rest are only counted
_MARKS = {True: ("passed", "green"), False: ("failed", "red"), None: ("not known", "yellow")}


def plan_summary(document: PlanDocument) -> RenderableType:
    """Summary of a plan, to read before labelling starts."""
    parts: list[RenderableType] = [chosen_table(document)]
    wanted, of = document.budget, len(document.cases)
    if wanted.rule == "count" and wanted.amount > of:
        parts.append(
            Text(f"the budget of {wanted} is more than the {of} cases: all are chosen", style="yellow")
        )
    parts += [
        Text(f"look at {case.id}: {' '.join(case.warnings)}", style="yellow")
        for case in document.chosen[:_LISTED]
        if case.warnings
    ]
    if document.gates:
        parts.append(gates_table(document))
    shown = {gate["sentence"] for gate in document.gates}
    parts += [
        Text(f"warning: {sentence}", style="yellow")
        for sentence in document.about.get("warnings", [])
        if sentence not in shown
    ]
    if held := len(document.quarantined):
        cases = "1 case is" if held == 1 else f"{held} cases are"
        parts.append(
            Text(
                f"{cases} in quarantine and not in the order; the end of the file lists the reasons",
                style="yellow",
            )
        )
    return Group(*parts)


def chosen_table(document: PlanDocument) -> Table:
    """Table of the first chosen cases."""
    chosen, rule = document.chosen, str(document.budget) or "the whole pool"
    table = Table(
        title=Text(f"{len(chosen)} of {counted(len(document.cases))} by {document.strategy}, budget {rule}"),
        caption=Text(MDAL_METHOD),
        title_justify="left",
        caption_justify="left",
    )
    for column in ("rank", "MD", "percentile", "cluster"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("pair that differs most", "case"):
        table.add_column(column, overflow="fold")
    for case in chosen[:_LISTED]:
        score = case.score
        table.add_row(
            str(case.rank),
            "" if score.difference is None else f"{score.difference:+.2f}",
            "" if score.percentile is None else f"{score.percentile:.0f}",
            "" if score.cluster is None else str(score.cluster),
            Text(score.details.get("most_different_pair", "")),
            Text(case.id),
        )
    if len(chosen) > _LISTED:
        table.caption = Text(f"… and {len(chosen) - _LISTED} more in the file. {MDAL_METHOD}")
    return table


def gates_table(document: PlanDocument) -> Table:
    """Table of the gates that judge the scoring."""
    table = Table(title="Gates: whether to trust this", title_justify="left")
    table.add_column("gate", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("result", overflow="fold")
    for gate in document.gates:
        word, colour = _MARKS[gate["passed"]]
        table.add_row(Text(gate["name"].replace("_", " ")), Text(word, style=colour), Text(gate["sentence"]))
    return table
