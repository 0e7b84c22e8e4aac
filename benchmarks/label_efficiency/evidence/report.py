"""The report of the evidence, as Markdown, from the rows alone."""

from __future__ import annotations

from benchmarks.common.tables import markdown_table
from benchmarks.label_efficiency.evidence.cells import title
from benchmarks.label_efficiency.evidence.results import Results
from benchmarks.label_efficiency.evidence.strategies import TITLES
from benchmarks.label_efficiency.evidence.tables import (
    area_table,
    dice_table,
    difference_table,
    distance_table,
    full_table,
    labels_table,
    question_table,
)
from benchmarks.label_efficiency.evidence.tables_of_choices import (
    cost_table,
    damage_sentence,
    difference_group_table,
    equal_foreground_table,
    hypothesis_table,
    same_foreground_table,
)

_READING = (
    "P: share of chance's subsets that the mean is not below. In brackets: seeds run. An empty outline of a "
    "lesion has Dice 0 and is as far off as the volume's diagonal. An interval holds for this pool and for "
    "one scoring of it: another scoring chooses other cases. MDAL as reconstructed from its abstract."
)
_ONE = (
    "Square brackets: 95 % interval, seeds and patients resampled, the patients of both sides together. With "
    "three seeds it is a rough one: in a simulation it held the truth in 92 of 100."
)
_SEVERAL = (
    "Square brackets: 95 % interval by Student's distribution over the divisions of the pool, paired, with "
    "the correction of Nadeau and Bengio for the patients that divisions share."
)


def markdown(results: Results) -> str:
    """Every table with its heading."""
    protocol = results.protocol
    parts = [
        f"# {protocol.name}",
        f"Primary end point, written before the runs: {protocol.primary_end_point}",
        *(f"- {note}" for note in protocol.notes),
        *(f"- Left out: {id}, {why}" for id, why in protocol.without.items()),
        f"{_ONE if protocol.splits == 1 else _SEVERAL} {_READING}",
        "## What was run",
        run_table(results),
        "## Area under the budget curve",
        area_table(results),
        "## Questions",
        question_table(results),
        "## Headroom",
        full_table(results),
        "## Dice",
        dice_table(results),
    ]
    for reference in protocol.references:
        if reference in results.strategies:
            parts += [
                f"## Dice less that of {reference}, Holm's p across the strategies",
                difference_table(results, reference),
            ]
    parts += [
        "## Dice less that of chance at as many foreground voxels, by chance's curve",
        equal_foreground_table(results),
        *_same_foreground(results),
        "## Labels needed for what chance reaches",
        labels_table(results),
        "## Does a larger modality difference make a better training set?",
        "Least squares over chance's subsets. Controls are the logarithm of their mean lesion volume, the "
        "number of damaged cases and the division of the pool.",
        hypothesis_table(results),
        "## Who differs much",
        difference_group_table(results),
        "## Surface distance in mm (outlines of a run that were empty)",
        distance_table(results),
        *_costs(results),
        "## Strategies",
        *(f"- `{name}`: {TITLES.get(name, name)}" for name in _names(results)),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def run_table(results: Results) -> str:
    """Finished and planned cells at each budget."""
    budgets = (*results.protocol.budgets, results.everyone)
    names = dict.fromkeys(name for name, _ in results.by_place)
    rows = [[name, *(_finished(results, name, each) for each in budgets)] for name in names]
    return markdown_table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def _finished(results: Results, name: str, budget: int) -> str:
    planned = len(results.by_place.get((name, budget), []))
    return f"{len(results.finished(name, budget))} of {planned}" if planned else ""


def _same_foreground(results: Results) -> list[str]:
    if not results.protocol.equal_foreground:
        return []
    heading = "## Dice less that of Random with the same foreground voxels, whatever number of cases"
    return [heading, same_foreground_table(results)]


def _costs(results: Results) -> list[str]:
    parts = [
        "## What was bought: foreground voxels",
        cost_table(results, "voxels", digits=0),
        "## What was bought: mean modality difference",
        cost_table(results, "mean_md", digits=2),
        "## What was bought: damaged scans",
        damage_sentence(results),
    ]
    if any(case["damage"] for case in results.cases):
        parts.append(cost_table(results, "damaged", digits=1))
    if any(case["rare"] == "1" for case in results.cases):
        parts += ["## What was bought: rare cases", cost_table(results, "rare", digits=1)]
    return parts


def _names(results: Results) -> list[str]:
    """Names of the strategies with results, each once."""
    every = dict.fromkeys(name for arm in results.protocol.arms for name in arm.seeds)
    return [name for name in every if any(title(name, check=c) in results.strategies for c in (True, False))]
