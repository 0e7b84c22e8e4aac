"""Tables of the outcomes, each as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.common.paired import Difference, Values, holm, probability
from benchmarks.common.tables import markdown_table
from benchmarks.label_efficiency.evidence.results import Results, key_of
from benchmarks.label_efficiency.evidence.statistics import area, labels_needed
from benchmarks.label_efficiency.evidence.strategies import FULL

MISSING = "-"  # where a figure would stand


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
            *(str(found[name][0]) if name in found else MISSING for found in compared.values()),
            *(probability(found[name][1]) if name in found else MISSING for found in compared.values()),
        ]
        for name, values in _best_first(areas)
    ]
    return markdown_table(header, rows)


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
                cells.append(MISSING)
                continue
            subsets = chance[budget].mean(axis=1) if len(chance[budget]) else np.empty(0)
            place = f" P{100 * (subsets <= values.mean()).mean():.0f}" if len(subsets) else ""
            cells.append(f"{results.interval(values)}{place} ({len(values)})")
        rows.append([name, *cells])
    return markdown_table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def difference_table(results: Results, reference: str) -> str:
    """Paired difference to a reference at each budget, with Holm's p across the strategies."""
    budgets, found = results.protocol.budgets, {}
    for budget in budgets:
        dice = {name: results.dice(name, budget) for name in results.strategies}
        found[budget] = _against(results, dice, reference)
    rows = [
        [name, *(said(*found[each][name]) if name in found[each] else MISSING for each in budgets)]
        for name in results.strategies
        if name != reference
    ]
    return markdown_table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def full_table(results: Results) -> str:
    """Dice with all candidates, and the headroom above chance's curve."""
    everyone = results.dice(FULL, results.everyone)
    if not len(everyone):
        return "Training on all candidates was not run yet.\n"
    reference = results.protocol.references[0]
    rows = [[f"all {results.everyone}", str(results.interval(everyone)), "1", MISSING]]
    for budget in results.protocol.budgets:
        values = results.dice(reference, budget)
        if len(values):
            share, headroom = values.mean() / everyone.mean(), results.difference(everyone, values)
            rows.append([str(budget), str(results.interval(values)), f"{share:.3f}", str(headroom)])
    return markdown_table(["cases", f"Dice ({reference})", "share of all", "headroom"], rows)


def distance_table(results: Results) -> str:
    """Average surface distance in mm, and the number of empty outlines in a run."""
    rows = []
    for name in results.strategies:
        cells = []
        for budget in results.protocol.budgets:
            values = results.measured("surface_distance", name, budget)
            runs = [results.runs[key_of(cell)]["empty"] for cell in results.finished(name, budget)]
            empty = np.mean([int(count) for count in runs])
            cells.append(f"{values.mean():.1f} ({empty:.1f})" if len(values) else MISSING)
        rows.append([name, *cells])
    return markdown_table(["strategy", *(f"{each} cases" for each in results.protocol.budgets)], rows)


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
    return markdown_table(["strategy", *(f"as {each} by chance" for each in budgets)], rows)


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
    return markdown_table(["is", "by, in area", "Holm", "answer"], rows)


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


def said(found: Difference, p: float) -> str:
    """A difference and its p."""
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
