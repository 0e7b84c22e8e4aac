"""The curves of the evidence: Dice against labels."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.evidence_results import Results
from benchmarks.evidence_strategies import FULL
from benchmarks.paired import mean_interval
from lib.atomic import replacing

HEIGHT = 3.2
COLUMNS = 4
_CHANCE, _OWN = "#8a94a0", "#0b6bcb"


def draw(results: Results, path: Path) -> None:
    """One small panel a strategy: its curve over chance's subsets, and the Dice of all candidates."""
    chance = results.protocol.references[0]
    names = [name for name in results.strategies if name != chance]
    if not names:
        return
    lines = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(3.2 * COLUMNS, HEIGHT * lines), sharex=True, sharey=True, squeeze=False
    )
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        _draw_subsets(axis, results, chance)
        _draw_curve(axis, results, name)
        everyone = results.dice(FULL, results.everyone)
        if len(everyone):
            axis.axhline(everyone.mean(), color="#333333", linewidth=0.8, linestyle=":")
        axis.set_title(name, fontsize=10)
        axis.set_xscale("log", base=2)
        axis.set_xticks(results.protocol.budgets, [str(each) for each in results.protocol.budgets])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("labelled cases", fontsize=10)
    figure.supylabel("mean Dice of the test patients", fontsize=10)
    figure.suptitle(
        f"{results.protocol.name}: blue the strategy with its 95 % interval, grey chance's subsets and their "
        "mean, dotted all candidates", fontsize=10,
    )  # fmt: skip
    figure.tight_layout()
    with replacing(path) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)


def _draw_subsets(axis: Axes, results: Results, chance: str) -> None:
    """Each random subset a dot, their mean a line."""
    places, means = [], []
    for budget in results.protocol.budgets:
        values = results.dice(chance, budget)
        if len(values):
            axis.plot(
                np.full(len(values), budget), values.mean(axis=1), ".", color=_CHANCE, alpha=0.4, markersize=4
            )
            places.append(budget)
            means.append(values.mean())
    axis.plot(places, means, color=_CHANCE, linewidth=1.2)


def _draw_curve(axis: Axes, results: Results, name: str) -> None:
    found = [
        (budget, mean_interval(values))
        for budget in results.protocol.budgets
        if len(values := results.dice(name, budget))
    ]
    places = [budget for budget, _ in found]
    axis.plot(places, [each.mean for _, each in found], "o-", color=_OWN, linewidth=1.6, markersize=3.5)
    axis.fill_between(
        places, [each.low for _, each in found], [each.high for _, each in found],
        color=_OWN, alpha=0.15, linewidth=0,
    )  # fmt: skip
