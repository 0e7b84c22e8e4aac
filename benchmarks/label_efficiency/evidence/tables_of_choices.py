"""Tables on the chosen cases: what they cost, what they are, and what that explains."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata, spearmanr

from benchmarks.common.paired import Difference, holm
from benchmarks.common.tables import markdown_table
from benchmarks.label_efficiency.evidence.results import Results, split_of
from benchmarks.label_efficiency.evidence.statistics import slope
from benchmarks.label_efficiency.evidence.strategies import EQUAL, FULL
from benchmarks.label_efficiency.evidence.tables import MISSING, said
from lib.mdal.scoring.difference import extreme


def cost_table(results: Results, column: str, *, digits: int) -> str:
    """A property of the chosen cases at each budget, mean over the planned seeds."""
    names = dict.fromkeys(name for name, _ in results.by_place if name != FULL)
    rows = [
        [
            name,
            *(
                f"{results.planned(name, budget, column).mean():,.{digits}f}"
                for budget in results.protocol.budgets
            ),
        ]
        for name in names
    ]
    return markdown_table(["strategy", *(f"{each} cases" for each in results.protocol.budgets)], rows)


def equal_foreground_table(results: Results) -> str:
    """Dice of each strategy less that of chance at as many foreground voxels, read off chance's curve.

    The curve is one of straight lines between chance's budgets and all candidates, over the logarithm of the
    voxels.
    """
    chance, budgets = results.protocol.references[0], results.protocol.budgets
    points = [
        (float(results.column(name, budget, "voxels").mean()), float(values.mean()))
        for name, budget in (*((chance, budget) for budget in budgets), (FULL, results.everyone))
        if len(values := results.dice(name, budget))
    ]
    if len(points) < 2:
        return "Chance was not run at two budgets yet.\n"
    voxels, dice = np.array(sorted(points)).T
    rows = []
    for name in results.strategies:
        cells = []
        for budget in budgets:
            values = results.dice(name, budget)
            bought = results.column(name, budget, "voxels").mean() if len(values) else 0.0
            known = len(values) and voxels[0] <= bought <= voxels[-1]
            usual = np.interp(np.log(max(bought, 1.0)), np.log(voxels), dice)
            cells.append(f"{values.mean() - usual:+.3f}" if known else MISSING)
        if name != chance and not name.startswith(EQUAL):
            rows.append([name, *cells])
    return markdown_table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def same_foreground_table(results: Results) -> str:
    """Dice of strategies less that of Random with the same foreground voxels, Holm's p across the cells."""
    budgets, compared = results.protocol.budgets, results.protocol.equal_foreground
    found: dict[tuple[str, int], Difference] = {}
    for name in compared:
        for budget in budgets:
            values = [results.dice(each, budget) for each in (name, f"{EQUAL}{name}")]
            if all(map(len, values)):
                found[name, budget] = results.difference(values[0], values[1])
    adjusted = holm({place: each.p for place, each in found.items()})
    rows = []
    for name in compared:
        places = [(name, budget) for budget in budgets]
        cells = (said(found[place], adjusted[place]) if place in found else MISSING for place in places)
        rows.append([name, *cells])
    return markdown_table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def hypothesis_table(results: Results) -> str:
    """Slope of the Dice of chance's subsets on their mean difference.

    Lesion volume, the number of damaged cases and the division of the pool are controlled for.
    """
    rows = []
    for budget in results.protocol.budgets:
        name = results.protocol.references[0]
        cells = results.finished(name, budget)
        if not cells:
            continue
        volume, damaged, difference = (
            results.column(name, budget, column) for column in ("volume_ml", "damaged", "mean_md")
        )
        split = np.array([split_of(cell) for cell in cells])
        divisions = [(split == number).astype(float) for number in range(1, results.protocol.splits)]
        found = slope(results.outcomes(name, budget), difference, np.log(volume), damaged, *divisions)
        mark = " (named before the runs)" if budget == results.protocol.hypothesis_budget else ""
        rows.append([f"{budget}{mark}", str(len(cells)), str(found) if found else MISSING])
    return markdown_table(["cases", "subsets", "change of Dice per SD of the subset's mean MD"], rows)


def difference_group_table(results: Results) -> str:
    """Mean percentile of the modality difference in groups of the served candidates."""
    served = [case for case in results.cases if case["served"] == "1"]
    if len(served) < 3:
        return "Too few candidates are served.\n"
    difference, volume_ml = (
        np.array([float(case[column]) for case in served]) for column in ("difference", "volume_ml")
    )
    split = np.array([split_of(case) for case in served])
    percentile, volume = np.empty(len(served)), []
    for number in np.unique(split):
        of = split == number
        percentile[of] = 100.0 * (rankdata(difference[of]) - 0.5) / of.sum()
        volume.append(spearmanr(difference[of], volume_ml[of]).statistic)
    suspect = extreme(difference)  # rows of the first study: the mean difference was the guard
    if "suspect" in served[0]:
        suspect = np.array([case["suspect"] == "1" for case in served])
    damages = sorted({case["damage"] for case in served} - {""})
    groups = {
        "all": np.ones(len(served), dtype=bool),
        **{f"damaged: {kind}": np.array([case["damage"] == kind for case in served]) for kind in damages},
        "sound": np.array([not case["damage"] for case in served]),
        "sound and rare": np.array([not case["damage"] and case["rare"] == "1" for case in served]),
    }
    rows = [
        [name, str(of.sum()), f"{percentile[of].mean():.0f}", str(suspect[of].sum())]
        for name, of in groups.items()
        if of.any()
    ]
    return markdown_table(["candidates", "cases", "mean percentile", "extreme"], rows) + (
        f"\nSpearman of the difference and the lesion's volume: {np.mean(volume):+.2f}.\n"
    )


def damage_sentence(results: Results) -> str:
    """Sentence on the number of damaged candidates and how many of them the check held back."""
    damaged = [case for case in results.cases if case["damage"]]
    if not damaged:
        return "Of no candidate is it known that its scans are damaged.\n"
    held = sum(case["served"] == "0" for case in damaged)
    sound = sum(case["served"] == "0" and not case["damage"] for case in results.cases)
    return (
        f"{len(damaged)} of {len(results.cases)} candidates are damaged; the check held back {held} of them "
        f"and {sound} sound ones.\n"
    )
