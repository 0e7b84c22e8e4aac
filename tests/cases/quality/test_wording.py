import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.cases.quality.wording import apart


def test_a_figure_is_not_rounded_onto_the_limit_that_it_missed() -> None:
    assert apart(0.6, 0.8) == ("0.60", "0.80")
    assert apart(0.797, 0.8) == ("0.797", "0.800")
    assert apart(0.9496, 0.95, decimals=0, percent=True) == ("94.96%", "95.00%")
    assert apart(5.02, 5.0, decimals=0) == ("5.02", "5.00")


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_what_lies_apart_by_a_millionth_is_told_apart(value: float, limit: float) -> None:
    shown = [float(text) for text in apart(value, limit)]
    if abs(value - limit) > 1.1e-6:
        assert shown[0] != shown[1]
        assert (shown[0] < shown[1]) == (value < limit)
    else:
        assert shown == pytest.approx([value, limit], abs=0.01)
