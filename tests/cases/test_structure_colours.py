import pytest

from lib.cases.structure_colours import cielab_of, colour_of


def test_neighbouring_labels_have_different_colours_and_there_is_one_for_any_value() -> None:
    assert all(colour_of(value) != colour_of(value + 1) for value in range(1, 255))


def test_a_seg_records_the_colour_that_the_page_draws() -> None:
    """Vermilion #d55e00 in CIELab under D65."""
    assert cielab_of(2) == pytest.approx((54.2, 43.3, 63.3), abs=0.05)
