from pathlib import Path

from rich.console import Console

from benchmarks.common.tables import table_of, write_rows

ROWS = [{"server": "ours", "calls": 3, "ms": 1.25}, {"server": "theirs", "calls": 40, "ms": 10.0}]


def test_a_table_shows_words_on_the_left_and_numbers_with_the_digits_asked_for() -> None:
    console = Console(width=60)
    with console.capture() as shown:
        console.print(table_of(ROWS, "Two servers", digits=2))
    lines = [line.replace(" ", "") for line in shown.get().splitlines()]
    assert "│ours│3│1.25│" in lines
    assert "│ theirs │    40 │ 10.00 │" in shown.get()


def test_rows_take_the_place_of_those_that_were_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "new" / "rows.csv", ROWS)
    write_rows(tmp_path / "new" / "rows.csv", ROWS[1:])
    assert (tmp_path / "new" / "rows.csv").read_text() == "server,calls,ms\ntheirs,40,10.0\n"
