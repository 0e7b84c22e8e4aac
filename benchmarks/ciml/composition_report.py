"""The tables of `benchmarks.ciml.composition`: figures with intervals over seeds, and the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t

Row = Mapping[str, Any]
PROBES = ("private", "shared", "private_mu", "shared_mu", "private_features", "shared_features")
LEVELS = ("kl", "kl_0", "kl_1", "kl_2")


def print_tables(console: Console, rows: Sequence[Row], *, default: float) -> None:
    """Print one table per redundancy, then the targets at the default beta."""
    for redundancy in sorted({row["redundancy"] for row in rows}):
        console.print(_table([row for row in rows if row["redundancy"] == redundancy], redundancy))
    if rows:
        console.print(_targets(rows, default))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t; the half width is infinite for one value."""
    half = np.inf
    if len(values) > 1:
        half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)), half


def _table(rows: Sequence[Row], redundancy: float) -> Table:
    table = Table(
        title=f"redundancy {redundancy:g}: mean ± half the 95 % interval over seeds; KL in 0.001 nat",
        title_justify="left",
    )
    for column in ("beta", "seeds", "Dice", *PROBES, *LEVELS):
        table.add_column(column.replace("_", " "), justify="right")
    keys = sorted({(row["method"] != "unimodal", row["beta"]) for row in rows})
    for messages, beta in keys:
        found = select(rows, method="ciml" if messages else "unimodal", beta=beta)
        cells = [_cell([row[name] for row in found]) for name in ("dice", *PROBES)] if messages else []
        table.add_row(
            f"{beta:g}" if messages else "unimodal",
            str(len(found)),
            *(cells or [_cell([row["dice"] for row in found])]),
            *(_nats([row[name] for row in found]) for name in LEVELS if messages),
        )
    return table


def select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Rows with these values."""
    return [row for row in rows if wanted.items() <= row.items()]


def _cell(values: Sequence[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.3f} ± {half:.3f}" if np.isfinite(half) else f"{mean:.3f}"


def _nats(values: Sequence[float]) -> str:
    mean = float(np.mean(values))
    return "" if np.isnan(mean) else f"{1000 * mean:.3g}"


def _targets(rows: Sequence[Row], default: float) -> Table:
    """Targets at redundancy 0 and what was measured; differences are paired by seed."""
    table = Table("target", "asked", "measured", "reached", title_justify="left")
    table.title = f"Targets at the default beta {default:g}, redundancy 0"
    named = {
        name: {row["seed"]: row for row in select(rows, method=method, beta=beta, redundancy=0.0)}
        for name, method, beta in (
            ("default", "ciml", default),
            ("free", "ciml", 0.0),
            ("unimodal", "unimodal", 0.0),
        )
    }
    for target, least, sign, (first, second), name in (
        ("private content read from z", 0.9, 1, ("default", ""), "private"),
        ("shared content read from z", 0.6, -1, ("default", ""), "shared"),
        ("shared content: beta = 0 minus the default", 0.15, 1, ("free", "default"), "shared"),
        ("Dice minus unimodal Dice", 0.05, 1, ("default", "unimodal"), "dice"),
    ):
        seeds = sorted(set(named[first]) & set(named[second] if second else named[first]))
        values = [named[first][seed][name] - (named[second][seed][name] if second else 0.0) for seed in seeds]
        if values:
            reached = "yes" if sign * (np.mean(values) - least) >= 0 else "no"
            table.add_row(target, f"{'≥' if sign > 0 else '≤'} {least:g}", _cell(values), reached)
    return table
