import pytest

from lib.plan.budget import Budget


@pytest.mark.parametrize(
    ("text", "pool", "cases"),
    [
        ("", 70, 70),
        ("20", 70, 20),
        ("20%", 70, 14),
        ("20 %", 70, 14),
        ("12.5%", 80, 10),
        ("0.2", 70, 14),
        (".5", 70, 35),
        ("1.0", 70, 70),
        ("100%", 70, 70),
        ("1", 70, 1),
        (" 20 ", 70, 20),
        ("plateau", 70, 70),
    ],
)
def test_a_budget_is_a_number_of_cases_a_share_or_the_whole_pool(text: str, pool: int, cases: int) -> None:
    assert Budget.parse(text).cases(pool) == cases


def test_a_budget_is_at_least_one_case_and_at_most_the_pool() -> None:
    assert Budget.parse("0.001").cases(10) == 1
    assert Budget.parse("500").cases(10) == 10


def test_the_plateau_is_where_the_coverage_hardly_grows() -> None:
    assert Budget.parse("plateau").cases(70, plateau=12) == 12
    assert Budget.parse("20").cases(70, plateau=12) == 20


@pytest.mark.parametrize(
    "text", ["0", "0%", "0.0", "1.5", "120%", "-5", "nan", "inf", "1e3", "twenty", "20 cases", "%", "."]
)
def test_anything_else_is_refused_with_what_it_may_be(text: str) -> None:
    with pytest.raises(ValueError, match="budget must be a number of cases") as caught:
        Budget.parse(text)
    assert repr(text) in str(caught.value)
    assert "Set --conf budget" in str(caught.value)


def test_an_empty_pool_has_no_budget() -> None:
    with pytest.raises(ValueError, match="at least 1 case"):
        Budget.parse("20").cases(0)


def test_a_budget_is_written_as_it_was_read() -> None:
    assert [str(Budget.parse(text)) for text in ("", "20%", "plateau")] == ["", "20%", "plateau"]
