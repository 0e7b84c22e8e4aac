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
from benchmarks.label_efficiency.evidence.tables_of_choices import (
    equal_foreground_table,
    same_foreground_table,
)
from benchmarks.label_efficiency.run import PROTOCOL
from tests.support.made_up_study import protocol

_NUMBER = r"[+-]?\d+(?:\.\d+)?"


def write_rows(folder: Path, settings: Protocol, *, missing: tuple[str, ...] = ()) -> Results:
    """Rows in which `mdal` is 0.1 above chance, `kmeans` 0.1 below, and Dice follows the mean difference.

    `mdal` buys twice the foreground of chance; Random with that foreground is 0.02 above chance.
    """
    rows, random = Rows(folder), np.random.default_rng(0)
    of = (
        ("uniform", 15, 0.0, 1), ("mdal", 3, 0.1, 2), ("kmeans", 3, -0.1, 1),
        ("uniform_as_mdal", 3, 0.02, 2), (FULL, 1, 0.2, 1),
    )  # fmt: skip
    cells, runs = [], []
    for split in range(settings.splits):
        patients = random.normal(0.5, 0.05, 12)
        for name, seeds, more, share in of:
            for budget in settings.budgets if name != FULL else (30 - split,):
                for seed in range(seeds):
                    subset, md, digest = f"{name}{budget}", random.normal(), f"d{split}"
                    cells.append(
                        {
                            "split": split, "digest": digest, "check": 1, "strategy": name, "budget": budget,
                            "seed": seed, "subset": subset, "mean_md": md, "damaged": seed % 2, "rare": 0,
                            "volume_ml": random.uniform(10, 20), "voxels": 100 * budget * share, "cases": "a",
                        }
                    )  # fmt: skip
                    dice = patients + more + 0.02 * np.log2(budget) + 0.002 * md
                    runs.append((name, digest, subset, seed, dice))
    held = {
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
    every = [{**case, "split": split} for split in range(settings.splits) for case in (held, *served)]
    rows.plan(CASES, every)
    rows.plan(CELLS, cells)
    for name, digest, subset, seed, dice in runs:
        if name not in missing:
            identity = {"digest": digest, "subset": subset, "seed": seed}
            rows.finish(
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


def test_a_strategy_is_also_compared_at_as_many_foreground_voxels(tmp_path: Path) -> None:
    settings = protocol(budgets=[2, 4, 8], equal_foreground=["mdal"])
    results = write_rows(tmp_path, settings)
    by_curve = equal_foreground_table(results).splitlines()
    of_mdal = next(line for line in by_curve if line.startswith("| mdal"))
    of_kmeans = next(line for line in by_curve if line.startswith("| kmeans"))
    assert [float(cell) for cell in of_mdal.split("|")[2:4]] == pytest.approx([0.08, 0.08], abs=0.005)
    assert [float(cell) for cell in of_kmeans.split("|")[2:5]] == pytest.approx([-0.1] * 3, abs=0.005)
    direct = same_foreground_table(results).splitlines()[-1]
    assert [float(cell.split()[0]) for cell in direct.split("|")[2:5]] == pytest.approx([0.08] * 3, abs=0.005)


def test_a_report_over_several_divisions_pairs_them(tmp_path: Path) -> None:
    settings = protocol(budgets=[2, 4, 8], splits=3)
    results = write_rows(tmp_path, settings)
    assert results.dice("uniform", 2).shape == (15, 3)
    assert results.everyone == 30
    assert results.dice(FULL, results.everyone).shape == (1, 3)
    found = results.difference(results.dice("mdal", 2), results.dice("uniform", 2))
    assert found.interval.mean == pytest.approx(0.1, abs=0.003)
    assert found.p < 0.01
    text = markdown(results)
    assert "correction of Nadeau and Bengio" in text
    assert "| uniform | 45 of 45 | 45 of 45 | 45 of 45 |" in text
    assert "| damaged: noise | 3 | 96 | 3 |" in text
    draw(results, tmp_path / "curves.png")


def test_a_seed_counts_once_it_is_finished_in_every_division(tmp_path: Path) -> None:
    settings = protocol(splits=2)
    results = write_rows(tmp_path, settings)
    first = next(iter(key for key in results.runs if key[0] == "d1" and key[1] == "mdal2"))
    del results.runs[first]
    assert len(results.dice("mdal", 2)) == 2
    assert len(results.dice("mdal", 4)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["sts", "sarcoma", "glioma_second"])
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
    rows.finish({**identity, "dice": 0.0}, [{**identity, "patient": "t0", "dice": 0.0}])
    again = Results.read(rows, protocol())
    assert np.array_equal(again.dice("mdal", 2), results.dice("mdal", 2))
