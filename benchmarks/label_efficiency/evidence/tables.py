"""The tables of the evidence, each as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata, spearmanr

from benchmarks.common.paired import Difference, Values, holm, probability
from benchmarks.label_efficiency.evidence.results import Results, key_of, split_of
from benchmarks.label_efficiency.evidence.statistics import area, labels_needed, slope
from benchmarks.label_efficiency.evidence.strategies import EQUAL, FULL
from lib.mdal.scoring.difference import extreme

_SHORT = "-"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


def area_table(results: Results) -> str:
    """Area under the budget curve of each strategy, and its difference to the references."""
    budgets, references = results.protocol.budgets, results.protocol.references
    areas = {name: area(results.curve(name), budgets) for name in results.strategies}
    areas = {name: values for name, values in areas.items() if len(values)}
    compared = {each: _against(results, areas, each) for each in references if each in areas}
    header = ["strategy", "seeds", "area", *(f"less {each}" for each in compared)]
    header += [f"Holm, {each}" for each in compared]
    rows = [
        [
            name,
            str(len(values)),
            str(results.interval(values)),
            *(str(found[name][0]) if name in found else _SHORT for found in compared.values()),
            *(probability(found[name][1]) if name in found else _SHORT for found in compared.values()),
        ]
        for name, values in _best_first(areas)
    ]
    return table(header, rows)


def dice_table(results: Results) -> str:
    """Mean Dice with its interval at each budget, and its percentile among chance's subsets."""
    budgets = results.protocol.budgets
    chance = {each: results.dice(results.protocol.references[0], each) for each in budgets}
    rows = []
    for name in results.strategies:
        cells = []
        for budget in budgets:
            values = results.dice(name, budget)
            if not len(values):
                cells.append(_SHORT)
                continue
            subsets = chance[budget].mean(axis=1) if len(chance[budget]) else np.empty(0)
            place = f" P{100 * (subsets <= values.mean()).mean():.0f}" if len(subsets) else ""
            cells.append(f"{results.interval(values)}{place} ({len(values)})")
        rows.append([name, *cells])
    return table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def difference_table(results: Results, reference: str) -> str:
    """Paired difference to a reference at each budget, with Holm's p across the strategies."""
    budgets, found = results.protocol.budgets, {}
    for budget in budgets:
        dice = {name: results.dice(name, budget) for name in results.strategies}
        found[budget] = _against(results, dice, reference)
    rows = [
        [name, *(_said(*found[each][name]) if name in found[each] else _SHORT for each in budgets)]
        for name in results.strategies
        if name != reference
    ]
    return table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def full_table(results: Results) -> str:
    """Dice with all candidates, and the headroom above chance's curve."""
    everyone = results.dice(FULL, results.everyone)
    if not len(everyone):
        return "Training on all candidates was not run yet.\n"
    reference = results.protocol.references[0]
    rows = [[f"all {results.everyone}", str(results.interval(everyone)), "1", _SHORT]]
    for budget in results.protocol.budgets:
        values = results.dice(reference, budget)
        if len(values):
            share, headroom = values.mean() / everyone.mean(), results.difference(everyone, values)
            rows.append([str(budget), str(results.interval(values)), f"{share:.3f}", str(headroom)])
    return table(["cases", f"Dice ({reference})", "share of all", "headroom"], rows)


def distance_table(results: Results) -> str:
    """Average surface distance in mm, and the number of empty outlines in a run."""
    rows = []
    for name in results.strategies:
        cells = []
        for budget in results.protocol.budgets:
            values = results.measured("surface_distance", name, budget)
            runs = [results.runs[key_of(cell)]["empty"] for cell in results.finished(name, budget)]
            empty = np.mean([int(count) for count in runs])
            cells.append(f"{values.mean():.1f} ({empty:.1f})" if len(values) else _SHORT)
        rows.append([name, *cells])
    return table(["strategy", *(f"{each} cases" for each in results.protocol.budgets)], rows)


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
    return table(["strategy", *(f"{each} cases" for each in results.protocol.budgets)], rows)


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
            cells.append(f"{values.mean() - usual:+.3f}" if known else _SHORT)
        if name != chance and not name.startswith(EQUAL):
            rows.append([name, *cells])
    return table(["strategy", *(f"{each} cases" for each in budgets)], rows)


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
        said = (_said(found[place], adjusted[place]) if place in found else _SHORT for place in places)
        rows.append([name, *said])
    return table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def labels_table(results: Results) -> str:
    """Labels that a strategy needs to reach chance's Dice at each budget."""
    budgets = results.protocol.budgets
    means = {
        name: [float(values.mean()) for budget in budgets if len(values := results.dice(name, budget))]
        for name in results.strategies
    }
    chance = means.get(results.protocol.references[0], [])
    if len(chance) < len(budgets):
        return "Chance was not run at every budget yet.\n"
    rows = [
        [name, *(_labels(budgets, curve, level) for level in chance)]
        for name, curve in means.items()
        if len(curve) == len(budgets)
    ]
    return table(["strategy", *(f"as {each} by chance" for each in budgets)], rows)


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
        rows.append([f"{budget}{mark}", str(len(cells)), str(found) if found else _SHORT])
    return table(["cases", "subsets", "change of Dice per SD of the subset's mean MD"], rows)


def question_table(results: Results) -> str:
    """Answers to the questions of the protocol, by area under the budget curve."""
    budgets = results.protocol.budgets
    found: dict[str, Difference] = {}
    for first, second in results.protocol.questions:
        areas = [area(results.curve(name), budgets) for name in (first, second)]
        if all(len(values) for values in areas):
            found[f"{first} above {second}"] = results.difference(*areas)
    adjusted = holm({name: each.p for name, each in found.items()})
    rows = [
        [name, str(each), probability(adjusted[name]), _verdict(each, adjusted[name])]
        for name, each in found.items()
    ]
    return table(["is", "by, in area", "Holm", "answer"], rows)


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
    return table(["candidates", "cases", "mean percentile", "extreme"], rows) + (
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


def _against(
    results: Results, found: dict[str, Values], reference: str
) -> dict[str, tuple[Difference, float]]:
    """Difference of each strategy to the reference, with Holm's p across the strategies."""
    if not len(found.get(reference, ())):
        return {}
    differences = {
        name: results.difference(values, found[reference])
        for name, values in found.items()
        if len(values) and name != reference
    }
    adjusted = holm({name: each.p for name, each in differences.items()})
    return {name: (each, adjusted[name]) for name, each in differences.items()}


def _said(found: Difference, p: float) -> str:
    return f"{found}, {probability(p)}"


def _best_first(areas: dict[str, Values]) -> list[tuple[str, Values]]:
    return sorted(areas.items(), key=lambda item: -float(item[1].mean()))


def _labels(budgets: Sequence[int], means: Sequence[float], level: float) -> str:
    needed = labels_needed(budgets, means, level)
    if math.isinf(needed):
        return f"> {budgets[-1]}"
    return f"≤ {budgets[0]}" if needed <= budgets[0] else f"{needed:.1f}"


def _verdict(found: Difference, p: float) -> str:
    """Answer to a question; nothing is shown without a p below 0.05, corrected for all questions."""
    if p >= 0.05 or found.interval.low <= 0 <= found.interval.high:
        return "not shown"
    return "yes" if found.interval.low > 0 else "no, worse"
