"""What a spreadsheet would compute is shown instead."""

import csv
import io

import pytest

from lib.cli.segment import _write_summary
from lib.pipeline.plan_document import PlanDocument, PlannedCase
from lib.plan.budget import Budget
from lib.plan.scores import CaseScore
from lib.runtime.csv_table import write_csv

FORMULAS = [
    "=1+1",
    "+cmd",
    "-cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    '=HYPERLINK("x")',
    "＝1",
]


def written(cell: object) -> str:
    stream = io.StringIO()
    write_csv(stream, ["a"], [{"a": cell}])
    return list(csv.reader(io.StringIO(stream.getvalue(), newline="")))[1][0]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_is_no_formula_any_more(cell: str) -> None:
    assert written(cell) == f"'{cell}".replace("\r", "\n")


def test_a_cell_never_begins_a_row_of_its_own() -> None:
    assert written("a\r=1") == "a\n=1"


@pytest.mark.parametrize("cell", ["-1.5", "+3", -1.5, "1e-3", "-inf", "P-01", "a=b", "", "O'Neil"])
def test_numbers_and_names_stay_as_they_are(cell: object) -> None:
    assert written(cell) == str(cell)


def test_a_heading_is_no_formula_either() -> None:
    stream = io.StringIO()
    write_csv(stream, ["=x"], [])
    assert stream.getvalue() == "'=x\n"


@pytest.mark.parametrize("name", FORMULAS)
def test_the_tables_that_a_site_gets_hold_no_formulas(tmp_path, name: str) -> None:
    case = PlannedCase(name, 1, True, CaseScore(), (name,))
    plan = PlanDocument("mdal", Budget.parse("1"), (), (case,), {name: name}, {}).to_csv()
    _write_summary(tmp_path / "summary.csv", [{"case": name, "error": name, "volumes_ml": {name: 1.0}}])
    for table in (plan, (tmp_path / "summary.csv").read_text()):
        cells = [cell for row in csv.reader(io.StringIO(table, newline="")) for cell in row]
        assert not [cell for cell in cells if cell.lstrip(" ").startswith(tuple("=+-@\t\r＝"))]
