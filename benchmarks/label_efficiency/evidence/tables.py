"""The tables of the evidence, each as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata, spearmanr

from benchmarks.common.paired import Values
from benchmarks.label_efficiency.evidence.results import Results
from benchmarks.label_efficiency.evidence.statistics import (
    Difference,
    area,
    difference,
    holm,
    labels_needed,
    mean_interval,
    probability,
    slope,
)
from benchmarks.label_efficiency.evidence.strategies import FULL
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
    compared = {each: _against(areas, each) for each in references if each in areas}
    header = ["strategy", "seeds", "area", *(f"less {each}" for each in compared)]
    header += [f"Holm, {each}" for each in compared]
    rows = [
        [
            name,
            str(len(values)),
            str(mean_interval(values)),
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
            cells.append(f"{mean_interval(values)}{place} ({len(values)})")
        rows.append([name, *cells])
    return table(["strategy", *(f"{each} cases" for each in budgets)], rows)


def difference_table(results: Results, reference: str) -> str:
    """Paired difference to a reference at each budget, with Holm's p across the strategies."""
    budgets = results.protocol.budgets
    found = {
        budget: _against({name: results.dice(name, budget) for name in results.strategies}, reference)
        for budget in budgets
    }
    rows = [
        [
            name,
            *(
                f"{found[each][name][0]}, {probability(found[each][name][1])}"
                if name in found[each]
                else _SHORT
                for each in budgets
            ),
        ]
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
    rows = [[f"all {results.everyone}", str(mean_interval(everyone)), "1", _SHORT]]
    for budget in results.protocol.budgets:
        values = results.dice(reference, budget)
        if len(values):
            share = values.mean() / everyone.mean()
            rows.append(
                [str(budget), str(mean_interval(values)), f"{share:.3f}", str(difference(everyone, values))]
            )
    return table(["cases", f"Dice ({reference})", "share of all", "headroom"], rows)


def distance_table(results: Results) -> str:
    """Average surface distance in mm, and the number of empty outlines in a run."""
    rows = []
    for name in results.strategies:
        cells = []
        for budget in results.protocol.budgets:
            values = results.measured("surface_distance", name, budget)
            runs = [
                results.runs[cell["subset"], cell["seed"]]["empty"] for cell in results.finished(name, budget)
            ]
            cells.append(f"{values.mean():.1f} ({np.mean([int(n) for n in runs]):.1f})" if runs else _SHORT)
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
    """Slope of the Dice of chance's subsets on their mean difference, controlled for lesion volume."""
    rows = []
    for budget in results.protocol.budgets:
        name = results.protocol.references[0]
        values = results.dice(name, budget)
        if not len(values):
            continue
        volume = np.log(results.column(name, budget, "volume_ml"))
        found = slope(values.mean(axis=1), results.column(name, budget, "mean_md"), volume)
        mark = " (named before the runs)" if budget == results.protocol.hypothesis_budget else ""
        rows.append([f"{budget}{mark}", str(len(values)), str(found) if found else _SHORT])
    return table(["cases", "subsets", "change of Dice per SD of the subset's mean MD"], rows)


def question_table(results: Results) -> str:
    """Answers to the questions of the protocol, by area under the budget curve."""
    budgets = results.protocol.budgets
    found: dict[str, Difference] = {}
    for first, second in results.protocol.questions:
        areas = [area(results.curve(name), budgets) for name in (first, second)]
        if all(len(values) for values in areas):
            found[f"{first} above {second}"] = difference(*areas)
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
    difference = np.array([float(case["difference"]) for case in served])
    percentile = 100.0 * (rankdata(difference) - 0.5) / len(served)
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
    volume = spearmanr(difference, [float(case["volume_ml"]) for case in served]).statistic
    return table(["candidates", "cases", "mean percentile", "extreme"], rows) + (
        f"\nSpearman of the difference and the lesion's volume: {volume:+.2f}.\n"
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


def _against(found: dict[str, Values], reference: str) -> dict[str, tuple[Difference, float]]:
    """Difference of each strategy to the reference, with Holm's p across the strategies."""
    if not len(found.get(reference, ())):
        return {}
    differences = {
        name: difference(values, found[reference])
        for name, values in found.items()
        if len(values) and name != reference
    }
    adjusted = holm({name: each.p for name, each in differences.items()})
    return {name: (each, adjusted[name]) for name, each in differences.items()}


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
