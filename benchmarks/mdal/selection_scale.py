"""How much time and memory does each selector take, from a thousand to a million cases?

    python -m benchmarks.mdal.selection_scale
    python -m benchmarks.mdal.selection_scale --cases 1000 --selector farthest --selector typiclust

The cases are Gaussian noise of 128 features in a shuffled order. There are no clusters to find, so k-means
stops late. Each measurement runs in a process of its own, from arrays in memory to the whole order; its peak
includes the interpreter and the arrays.

The rivals return the first k cases only. numpy sorts the modality differences without ids and ties.
scikit-learn clusters every case with its own k-means and returns the case with the largest difference of each
cluster.
"""

from __future__ import annotations

import csv
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans, MiniBatchKMeans

from benchmarks.common.folders import RESULTS
from benchmarks.common.rival_orders import ORDERS
from lib.mdal.selection.candidates import Candidates, Rows

ROWS = RESULTS / "selection_scale.csv"
FEATURES = 128
SMALL = 10_000  # largest pool for the baselines, enough for a study
RIVAL_LIMIT = 100_000  # k-means on a million cases would take many minutes
MAIN = ("mdal", "diversemd")

Row = dict[str, str | int | float]
Features = NDArray[np.float32]
Difference = NDArray[np.float64]
Rival = Callable[[Features, Difference, int], Rows]


def argsort(features: Features, difference: Difference, groups: int) -> Rows:
    """MaxMD without ids, ties and checks."""
    return np.argsort(-difference)[:groups]


def k_means(features: Features, difference: Difference, groups: int) -> Rows:
    """DiverseMD's winners, from k-means on all cases."""
    return _winners(KMeans(groups, n_init=1, random_state=0).fit_predict(features), difference)


def k_means_in_batches(features: Features, difference: Difference, groups: int) -> Rows:
    """DiverseMD's winners, from mini-batch k-means on all cases."""
    return _winners(MiniBatchKMeans(groups, n_init=1, random_state=0).fit_predict(features), difference)


RIVALS: dict[str, Rival] = {
    "numpy argsort": argsort,
    "scikit-learn KMeans": k_means,
    "scikit-learn MiniBatch": k_means_in_batches,
}


def main(
    cases: Annotated[list[int] | None, typer.Option(help="Pool sizes; 1000 to 1000000 by default.")] = None,
    groups: Annotated[list[int] | None, typer.Option(help="Budgets k; 20 and 200 by default.")] = None,
    selector: Annotated[list[str] | None, typer.Option(help="Selectors; all by default.")] = None,
    threads: Annotated[int, typer.Option(help="Threads that a measurement may use.")] = 2,
) -> None:
    """Measure every selector at every size; write a row after each measurement and print a table."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    rows: list[Row] = []
    with ROWS.open("w", newline="") as file:
        for name in [*(selector or ORDERS), *RIVALS]:
            for budget in groups or [20, 200]:
                for count in cases or [1_000, 10_000, 100_000, 1_000_000]:
                    if count > _limit(name):
                        continue
                    rows.append(measured_alone(name, count, budget, threads))
                    writer = csv.DictWriter(file, rows[0])
                    if len(rows) == 1:
                        writer.writeheader()
                    writer.writerow(rows[-1])
                    file.flush()
    Console().print(table(rows))


def measured_alone(name: str, cases: int, groups: int, threads: int) -> Row:
    """Measure in a separate process, so that the peak memory is that of this measurement."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, name, cases, groups, threads).result()


def measure(name: str, cases: int, groups: int, threads: int) -> Row:
    """Seconds from arrays to the order, and the peak memory of this process in GB."""
    random = np.random.default_rng(0)
    features = random.standard_normal((cases, FEATURES), dtype=np.float32)
    difference, proxy = random.standard_normal((2, cases))
    ids = [f"case_{number:07d}" for number in random.permutation(cases)]
    start = time.perf_counter()
    if name in RIVALS:
        RIVALS[name](features, difference, groups)
    else:
        candidates = Candidates(ids, features, difference, proxy)
        order = ORDERS[name](candidates, groups, np.random.default_rng(0))
        if len(set(order)) != cases:
            raise RuntimeError(f"{name} gave {len(set(order))} of {cases} cases.")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts KiB
    return {
        "selector": name,
        "cases": cases,
        "k": groups,
        "threads": threads,
        "seconds": round(seconds, 6),
        "peak GB": round(peak, 3),
    }


def table(rows: list[Row]) -> Table:
    """Table of the rows, with the exponent by which time grows from one size to the next: 1 is linear."""
    shown = Table(title=f"{FEATURES} features, {rows[0]['threads']} threads", title_justify="left")
    for column in ("selector", "cases", "k", "seconds", "peak GB", "growth"):
        shown.add_column(column, justify="left" if column == "selector" else "right", no_wrap=True)
    before: Row = {}
    for row in rows:
        growth = ""
        if (row["selector"], row["k"]) == (before.get("selector"), before.get("k")):
            more = np.log(float(row["seconds"]) / float(before["seconds"]))
            growth = f"{more / np.log(float(row['cases']) / float(before['cases'])):.2f}"
        seconds, peak = float(row["seconds"]), float(row["peak GB"])
        counts = (f"{row[name]:,}" for name in ("cases", "k"))
        shown.add_row(str(row["selector"]), *counts, f"{seconds:.3f}", f"{peak:.2f}", growth)
        before = row
    return shown


def _limit(name: str) -> int:
    if name in RIVALS:
        return RIVAL_LIMIT if name == "scikit-learn KMeans" else 1_000_000_000
    return 1_000_000_000 if name in MAIN else SMALL


def _winners(group: Rows, difference: Difference) -> Rows:
    order = np.argsort(-difference, kind="stable")
    return order[np.unique(group[order], return_index=True)[1]]


if __name__ == "__main__":
    typer.run(main)
