"""The curves of the evidence: Dice against labels."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.label_efficiency.evidence.results import Results
from benchmarks.label_efficiency.evidence.strategies import FULL
from lib.runtime.files import replacing

WIDTH, HEIGHT = 2.6, 2.4  # size of a panel in inches
COLUMNS = 6
_CHANCE, _OWN = "#8a94a0", "#0b6bcb"


def draw(results: Results, path: Path) -> None:
    """Draw one panel per strategy: its curve, the random subsets, and the Dice of all candidates."""
    chance = results.protocol.references[0]
    names = [name for name in results.strategies if name != chance]
    if not names:
        return
    lines = -(-len(names) // COLUMNS)
    size = (WIDTH * COLUMNS, HEIGHT * lines)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        _draw_subsets(axis, results, chance)
        _draw_curve(axis, results, name, chance)
        everyone = results.dice(FULL, results.everyone)
        if len(everyone):
            axis.axhline(everyone.mean(), color="#333333", linewidth=0.8, linestyle=":")
        axis.set_title(name, fontsize=10)
        axis.set_xscale("log", base=2)
        axis.set_xticks(results.protocol.budgets, [str(each) for each in results.protocol.budgets])
        axis.minorticks_off()
        axis.tick_params(labelbottom=True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("labelled cases", fontsize=10)
    figure.supylabel("mean Dice of the test patients", fontsize=10)
    figure.suptitle(
        f"{results.protocol.name}: blue the strategy with the 95 % interval of its difference to chance, "
        "grey chance's subsets and their mean, dotted all candidates", fontsize=10,
    )  # fmt: skip
    with replacing(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)


def _draw_subsets(axis: Axes, results: Results, chance: str) -> None:
    """Draw each random subset as a dot and their mean as a line."""
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


def _draw_curve(axis: Axes, results: Results, name: str, chance: str) -> None:
    """Draw the mean, and as a band chance's mean plus the interval of the paired difference.

    The difference is paired by patient, so that differences between patients do not widen the band.
    """
    places, means, low, high = [], [], [], []
    for budget in results.protocol.budgets:
        own, others = results.dice(name, budget), results.dice(chance, budget)
        if len(own) and len(others):
            found = results.difference(own, others).interval
            places.append(budget)
            means.append(own.mean())
            low.append(others.mean() + found.low)
            high.append(others.mean() + found.high)
    axis.plot(places, means, "o-", color=_OWN, linewidth=1.6, markersize=3.5)
    axis.fill_between(places, low, high, color=_OWN, alpha=0.15, linewidth=0)
