import pytest

from lib.cases.case import CaseError
from lib.cases.dicom_seg.terms import type_of, values_of

GLIOMA = {"necrotic core": 1, "oedema": 2, "enhancing tumour": 3}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("GTV", "228791009"),
        ("tumour core", "108369006"),
        ("Peritumoural oedema", "79654002"),
        ("edema", "79654002"),
        ("necrotic core", "6574001"),
        ("enhancing tumour", "C113842"),
        ("non-enhancing tumour", "C81175"),
        ("lesion", "52988006"),
        ("what the site calls it", "52988006"),
    ],
)
def test_a_name_says_the_code_of_its_structure(name: str, code: str) -> None:
    assert type_of(name).value == code


def test_case_separators_and_british_or_american_spelling_do_not_matter() -> None:
    assert values_of(["Enhancing_Tumor", "EDEMA", "necrotic-core"], GLIOMA) == [3, 2, 1]


@pytest.mark.parametrize("name", ["Segment 1", "Segment_1", "Segmentation", "segment"])
def test_a_lone_segment_with_a_viewers_own_name_is_the_lone_label(name: str) -> None:
    assert values_of([name], {"GTV": 1}) == [1]


@pytest.mark.parametrize(
    ("segments", "labels"),
    [(["Segment 1"], GLIOMA), (["Segment 1", "Segment 2"], {"GTV": 1}), (["liver"], {"GTV": 1})],
)
def test_a_name_of_none_of_our_labels_is_an_error_that_lists_both(
    segments: list[str], labels: dict[str, int]
) -> None:
    with pytest.raises(CaseError, match=f"must be named '{next(iter(labels))}'.*found '{segments[0]}'"):
        values_of(segments, labels)


def test_labels_that_differ_in_a_separator_alone_are_told_apart_by_their_exact_names() -> None:
    labels = {"GTV 1": 1, "GTV-1": 2}
    assert values_of(["GTV-1", "GTV 1"], labels) == [2, 1]
    with pytest.raises(CaseError, match="found 'gtv1'"):
        values_of(["gtv1"], labels)
