from pathlib import Path

import pytest

from lib.ciml.training.split import split_patients


def test_a_patient_never_changes_sides_as_labels_arrive(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(40)]
    held_out: set[str] = set()
    for count in range(2, 41):
        now = split_patients(tmp_path / "split.json", names[:count], share=0.2)
        assert now & set(names[: count - 1]) == held_out
        held_out = now
    assert len(held_out) == 8


def test_two_patients_give_one_to_each_side(tmp_path: Path) -> None:
    assert len(split_patients(tmp_path / "split.json", ["a", "b"], share=0.2)) == 1


def test_a_patient_that_is_not_labelled_now_keeps_its_side_for_later(tmp_path: Path) -> None:
    first = split_patients(tmp_path / "split.json", ["a", "b", "c"], share=0.2)
    split_patients(tmp_path / "split.json", ["d", "e"], share=0.2)
    assert split_patients(tmp_path / "split.json", ["a", "b", "c"], share=0.2) == first


def test_one_patient_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two patients"):
        split_patients(tmp_path / "split.json", ["a"], share=0.2)
