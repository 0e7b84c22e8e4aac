"""How close does each estimator of pointwise mutual information come to a known truth?

    python -m benchmarks.mdal.pmi_accuracy
    python -m benchmarks.mdal.pmi_accuracy --quick
    python -m benchmarks.mdal.pmi_accuracy --report

The world. Each side has 8 shared directions of unit variance, paired with canonical correlation 0.6, and
d - 8 private directions of equal variance. The private variances sum to 8, so half of a side's variance is
shared at any d. A random rotation of each side mixes the directions into d features. That is `gaussian`. For
`warped` each feature, in units of its mean deviation, then passes through sinh z, z^3, exp z or -exp(-z), in
turn. Rotation and warp are invertible within a side, so the PMI stays the closed form of the 8 pairs. 0.6 was
chosen because it reproduces the figures of an earlier experiment, closed form without PCA at d = 16: 0.75 at
n = 200, 0.87 at n = 500. At d = 16 all directions have the same variance, so PCA cannot separate them; at
d = 128 it can. Each warp acts on a single feature: a copula can undo that, and the result says nothing about
warps that mix features.

Every case is its own patient. `in` is scored by an estimator fitted on all cases, `out` by five estimators,
each case by the one that did not see it. The gap is the mean in-sample score minus the mean out-of-fold
score.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr
from torch import nn

from benchmarks.common.folders import RESULTS
from benchmarks.mdal.out_of_fold import PairScorer, out_of_fold_pmi
from lib.mdal.representation.info_nce import info_nce
from lib.mdal.scoring.gaussian_copula import gaussian_pmi
from lib.mdal.scoring.pmi import Rows, critic_pmi, standardise_folds

Array = NDArray[np.float64]
SHARED, CORRELATION, FOLDS = 8, 0.6, 5
WARPS: tuple[Callable[[Array], Array], ...] = (
    np.sinh,
    lambda z: np.asarray(z**3),
    np.exp,
    lambda z: np.asarray(-np.exp(-z)),
)
STEPS, RATE, BATCH, WIDTH, OUTPUTS = 300, 2e-3, 256, 256, 32  # training and size of the critics


@dataclass(frozen=True)
class Setting:
    """One measurement: a world and an estimator."""

    kind: str
    n: int
    d: int
    repeat: int
    estimator: str


@dataclass(frozen=True)
class Outcome:
    """Spearman's correlation with the truth, and biases and gap in nats.

    `standardised_spearman` is out of fold, with the scores standardised per fold as a plan ranks them.
    """

    truth_mean: float
    out_spearman: float
    standardised_spearman: float
    in_spearman: float
    out_bias: float
    in_bias: float
    gap: float
    seconds: float


def make_world(kind: str, n: int, d: int, repeat: int) -> tuple[Array, Array, Array]:
    """Features of both modalities, shapes (n, d), and their PMI in nats, shape (n,).

    Both kinds of world have the same cases.
    """
    rng = np.random.default_rng([n, d, repeat])
    x = rng.standard_normal((n, d))
    y = rng.standard_normal((n, d))
    y[:, :SHARED] = CORRELATION * x[:, :SHARED] + np.sqrt(1 - CORRELATION**2) * y[:, :SHARED]
    a, b, left = x[:, :SHARED], y[:, :SHARED], 1 - CORRELATION**2
    energy = (CORRELATION**2 * (a**2 + b**2) - 2 * CORRELATION * a * b) / (2 * left)
    truth = -0.5 * SHARED * np.log(left) - energy.sum(axis=1)
    scale = np.r_[np.ones(SHARED), np.full(d - SHARED, np.sqrt(SHARED / (d - SHARED)))]
    first, second = ((side * scale) @ np.linalg.qr(rng.standard_normal((d, d)))[0] for side in (x, y))
    if kind == "warped":
        unit = np.sqrt(2 * SHARED / d)
        for column in range(d):
            warp = WARPS[column % len(WARPS)]
            first[:, column], second[:, column] = (
                warp(first[:, column] / unit),
                warp(second[:, column] / unit),
            )
    return first, second, truth


def fit_critic(first: Array, second: Array, network: Callable[[int], nn.Module]) -> PairScorer:
    """Train a critic f(x).g(y) by symmetric InfoNCE; its scores have the log-mean-exp constant subtracted."""
    torch.manual_seed(0)
    moments = [(side.mean(axis=0), side.std(axis=0)) for side in (first, second)]
    networks = nn.ModuleList([network(first.shape[1]), network(second.shape[1])])
    optimiser = torch.optim.Adam(networks.parameters(), lr=RATE)

    def prepared(*sides: NDArray[Any]) -> list[torch.Tensor]:
        pairs = zip(sides, moments, strict=True)
        return [torch.from_numpy((side - mean) / deviation).float() for side, (mean, deviation) in pairs]

    sides = prepared(first, second)
    for _ in range(STEPS):
        rows = torch.randperm(len(first))[:BATCH]
        x, y = (part(side[rows]) for part, side in zip(networks, sides, strict=True))
        optimiser.zero_grad()
        info_nce(x, y, OUTPUTS**0.5).backward()
        optimiser.step()

    def score(x: NDArray[Any], y: NDArray[Any]) -> Array:
        with torch.inference_mode():
            left, right = (part(side) for part, side in zip(networks, prepared(x, y), strict=True))
            return critic_pmi((left @ right.T / OUTPUTS**0.5).double()).numpy()

    return score


def _bilinear(d: int) -> nn.Module:
    return nn.Linear(d, OUTPUTS, bias=False)


def _perceptron(d: int) -> nn.Module:
    return nn.Sequential(nn.Linear(d, WIDTH), nn.ReLU(), nn.Linear(WIDTH, OUTPUTS))


ESTIMATORS: dict[str, Callable[[Array, Array], PairScorer]] = {
    "gaussian, no PCA": lambda x, y: gaussian_pmi(x, y, components=x.shape[1], normal_scores=False),
    "gaussian, PCA to 8": lambda x, y: gaussian_pmi(x, y, components=8, normal_scores=False),
    "gaussian, PCA chosen": lambda x, y: gaussian_pmi(x, y, normal_scores=False),
    "copula, PCA chosen (default)": gaussian_pmi,
    "bilinear critic": lambda x, y: fit_critic(x, y, _bilinear),
    "memorising critic": lambda x, y: fit_critic(x, y, _perceptron),
}


def measure(setting: Setting) -> Outcome:
    """Fit and score one estimator in one world, in sample and out of fold."""
    first, second, truth = make_world(setting.kind, setting.n, setting.d, setting.repeat)
    estimator, start = ESTIMATORS[setting.estimator], time.perf_counter()

    def fit(train: Rows) -> Callable[[Rows], Array]:
        score = estimator(first[train], second[train])
        return lambda rows: score(first[rows], second[rows])

    out, fold = out_of_fold_pmi(fit, np.arange(setting.n), folds=FOLDS, seed=setting.repeat)
    seen = estimator(first, second)(first, second)
    return Outcome(
        truth_mean=float(truth.mean()),
        out_spearman=float(spearmanr(out, truth).statistic),
        standardised_spearman=float(spearmanr(standardise_folds(out, fold), truth).statistic),
        in_spearman=float(spearmanr(seen, truth).statistic),
        out_bias=float((out - truth).mean()),
        in_bias=float((seen - truth).mean()),
        gap=float(seen.mean() - out.mean()),
        seconds=time.perf_counter() - start,
    )


def settings(*, quick: bool) -> Iterator[Setting]:
    """All measurements, repeat by repeat, so that an interrupted run still fills every row of the table."""
    for repeat in range(1 if quick else 5):
        for n in (200,) if quick else (200, 500, 2000):
            for d in (16, 128):
                for kind in ("gaussian", "warped"):
                    yield from (Setting(kind, n, d, repeat, name) for name in ESTIMATORS)


def read_results(path: Path) -> dict[Setting, Outcome]:
    """Results in a CSV by setting; empty if the file does not exist."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            Setting(row["kind"], int(row["n"]), int(row["d"]), int(row["repeat"]), row["estimator"]): Outcome(
                **{field.name: float(row[field.name]) for field in fields(Outcome)}
            )
            for row in csv.DictReader(file)
        }


def main(
    output: Annotated[
        Path, typer.Option(help="CSV with one row per measurement; its rows are kept.")
    ] = RESULTS / "pmi_accuracy.csv",
    quick: Annotated[bool, typer.Option("--quick", help="One repeat of n = 200.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only print the tables of the CSV.")] = False,
) -> None:
    """Measure every setting that is not in the CSV yet, then print its tables.

    Example: python -m benchmarks.mdal.pmi_accuracy
    """
    torch.set_num_threads(1)
    console, known = Console(width=120), read_results(output)
    missing = [] if report else [setting for setting in settings(quick=quick) if setting not in known]
    if missing:
        output.parent.mkdir(parents=True, exist_ok=True)
        new = not known
        with output.open("w" if new else "a", newline="") as file:
            names = [field.name for kind in (Setting, Outcome) for field in fields(kind)]
            rows = csv.DictWriter(file, names, lineterminator="\n")
            if new:
                rows.writeheader()
            for setting in track(missing, "measuring", console=console):
                known[setting] = measure(setting)
                rows.writerow({**asdict(setting), **asdict(known[setting])})
                file.flush()
    print_tables(console, known)


def print_tables(console: Console, known: dict[Setting, Outcome]) -> None:
    """Print the means over the repeats, with the deviation of the out-of-fold Spearman between them."""
    for d, n in sorted({(setting.d, setting.n) for setting in known}):
        table = Table(title=f"d = {d}, n = {n}", title_justify="left")
        for column in ("kind", "estimator"):
            table.add_column(column)
        for column in ("out", "standardised", "in", "out bias", "in bias", "gap", "s", "repeats"):
            table.add_column(column, justify="right")
        for kind in ("gaussian", "warped"):
            for name in ESTIMATORS:
                found = select(known, kind=kind, n=n, d=d, estimator=name)
                if found:
                    table.add_row(kind, name, *_cells(found))
        console.print(table)
    print_targets(console, known)


def _cells(found: list[Outcome]) -> list[str]:
    spread = float(np.std([outcome.out_spearman for outcome in found]))
    return [
        f"{mean(found, 'out_spearman'):.2f} ± {spread:.2f}",
        *(f"{mean(found, name):.2f}" for name in ("standardised_spearman", "in_spearman")),
        *(f"{mean(found, name):+.1f}" for name in ("out_bias", "in_bias", "gap")),
        f"{mean(found, 'seconds'):.1f}",
        str(len(found)),
    ]


def select(known: dict[Setting, Outcome], **wanted: Any) -> list[Outcome]:
    """Outcomes of the settings with these values."""
    return [outcome for setting, outcome in known.items() if wanted.items() <= asdict(setting).items()]


def mean(found: list[Outcome], name: str) -> float:
    """Mean of one figure."""
    return float(np.mean([getattr(outcome, name) for outcome in found]))


def print_targets(console: Console, known: dict[Setting, Outcome]) -> None:
    """Print the targets and the measured values."""
    table = Table("target", "least", "measured", "reached", title="Targets", title_justify="left")
    for kind, least in (("gaussian", 0.85), ("warped", 0.70)):
        found = select(known, kind=kind, n=500, d=16, estimator="copula, PCA chosen (default)")
        if found:
            value = mean(found, "out_spearman")
            table.add_row(f"default, {kind}, n = 500, d = 16, out of fold", *_verdict(value, least))
    for kind in ("gaussian", "warped"):
        for n in sorted({setting.n for setting in known}):
            found = select(known, kind=kind, n=n, d=128, estimator="memorising critic")
            if found:
                value = mean(found, "out_spearman") - mean(found, "in_spearman")
                name = f"memorising critic, {kind}, n = {n}, d = 128, out of fold over in sample"
                table.add_row(name, *_verdict(value, 0.20))
    console.print(table)


def _verdict(value: float, least: float) -> tuple[str, str, str]:
    return f"{least:.2f}", f"{value:.3f}", "yes" if value >= least else "no"


if __name__ == "__main__":
    typer.run(main)
