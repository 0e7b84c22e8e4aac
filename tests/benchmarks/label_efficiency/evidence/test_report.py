"""What the report says of the rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common.folders import RESULTS
from benchmarks.label_efficiency.evidence.cells import FULL
from benchmarks.label_efficiency.evidence.figure import draw
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.report import markdown
from benchmarks.label_efficiency.evidence.results import Results
from benchmarks.label_efficiency.evidence.rows import CASES, CELLS, Rows
from benchmarks.label_efficiency.run import PROTOCOL
from tests.support.made_up_study import protocol

_NUMBER = r"[+-]?\d+(?:\.\d+)?"


def write_rows(folder: Path, settings: Protocol, *, missing: tuple[str, ...] = ()) -> Results:
    """Rows in which `mdal` is 0.1 above chance, `kmeans` 0.1 below, and Dice follows the mean difference."""
    rows, random = Rows(folder), np.random.default_rng(0)
    patients = random.normal(0.5, 0.05, 12)
    cells, runs = [], []
    for name, seeds, more in (("uniform", 15, 0.0), ("mdal", 3, 0.1), ("kmeans", 3, -0.1), (FULL, 1, 0.2)):
        for budget in settings.budgets if name != FULL else (30,):
            for seed in range(seeds):
                subset, md = f"{name}{budget}", random.normal()
                cells.append(
                    {
                        "split": 0, "digest": "d", "check": 1, "strategy": name, "budget": budget,
                        "seed": seed, "subset": subset, "mean_md": md, "volume_ml": random.uniform(10, 20), "voxels": 100,
                        "damaged": 0, "rare": 0, "cases": "a b",
                    }
                )  # fmt: skip
                dice = patients + more + 0.02 * np.log2(budget) + 0.002 * md
                runs.append(((name, budget), subset, seed, dice))
    held = {
        "split": 0,
        "case": "a",
        "served": 0,
        "difference": "",
        "suspect": 0,
        "damage": "shifted",
        "rare": 1,
        "volume_ml": 1,
        "voxels": 3,
    }
    served = [
        {**held, "case": f"c{n}", "served": 1, "difference": n, "damage": "", "rare": n % 2, "volume_ml": n}
        for n in range(11)
    ]
    served.append({**served[0], "case": "last", "difference": 90, "suspect": 1, "damage": "noise"})
    rows.plan(CASES, [held, *served])
    rows.plan(CELLS, cells)
    for (name, _), subset, seed, dice in runs:
        if name not in missing:
            identity = {"digest": "d", "subset": subset, "seed": seed}
            rows.add(
                {**identity, "dice": dice.mean(), "empty": 1},
                [
                    {**identity, "patient": f"t{row}", "dice": value, "surface_distance": 4.0}
                    for row, value in enumerate(dice)
                ],
            )
    return Results.read(rows, settings)


def test_the_report_finds_what_was_put_into_the_rows(tmp_path: Path) -> None:
    settings = protocol(budgets=[2, 4, 8])
    results = write_rows(tmp_path, settings)
    text = markdown(results)
    assert re.search(r"mdal above uniform \| \+0\.(099|1)", text)
    assert "| yes |" in text
    of_kmeans = next(line for line in text.splitlines() if line.startswith("| kmeans | 3 | 0.4"))
    assert re.search(r"-0\.(099|1)", of_kmeans)
    by_chance = text.split("## Labels needed")[1].split("##")[0].splitlines()
    assert next(line for line in by_chance if line.startswith("| mdal")) == "| mdal | ≤ 2 | ≤ 2 | ≤ 2 |"
    assert next(line for line in by_chance if line.startswith("| kmeans")).count("> 8") >= 2
    slopes = [
        line for line in text.split("training set?")[1].splitlines() if line.startswith(("| 2 ", "| 4 "))
    ]
    assert len(slopes) == 2
    assert all("p < 0.001" in line for line in slopes)
    assert "2 of 13 candidates are damaged; the check held back 1 of them and 0 sound ones." in text
    assert "| damaged: noise | 1 | 96 | 1 |" in text
    assert "| sound and rare | 5 | 46 | 0 |" in text
    draw(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["sts", "glioma_second"])
def test_a_published_report_is_what_its_rows_say(pool: str) -> None:
    published = (RESULTS / f"evidence_{pool}.md").read_text()
    rows = RESULTS / f"evidence_{pool}"
    made = markdown(Results.read(Rows(rows), Protocol.read(rows / PROTOCOL)))
    words, figures = split(published.partition("Primary end point")[2])
    assert (words, pytest.approx(figures, abs=0.0011)) == split(made.partition("Primary end point")[2])


def split(text: str) -> tuple[list[str], list[float]]:
    """What lies between the numbers of a text, and these; processors may round the last digit apart."""
    return re.split(_NUMBER, text), [float(number) for number in re.findall(_NUMBER, text)]


def test_a_report_of_half_of_the_runs_says_so(tmp_path: Path) -> None:
    text = markdown(write_rows(tmp_path, protocol(), missing=("kmeans", FULL)))
    assert "| kmeans | 0 of 3 | 0 of 3 |" in text
    assert "Training on all candidates was not run yet." in text
    assert "less kmeans" not in text


def test_rows_of_other_settings_are_not_reported(tmp_path: Path) -> None:
    results = write_rows(tmp_path, protocol())
    rows = Rows(tmp_path)
    identity = {"digest": "older", "subset": "mdal2", "seed": 0}
    rows.add({**identity, "dice": 0.0}, [{**identity, "patient": "t0", "dice": 0.0}])
    again = Results.read(rows, protocol())
    assert np.array_equal(again.dice("mdal", 2), results.dice("mdal", 2))
