"""Who is tested and who may be chosen."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.common.divided_pool import by_hash
from benchmarks.common.folders import ROOT
from benchmarks.label_efficiency.evidence.pool import LabelledPool
from benchmarks.label_efficiency.evidence.protocol import Protocol
from tests.support.made_up_study import SETTINGS, protocol

PROTOCOLS = ROOT / "benchmarks" / "label_efficiency" / "evidence"


def test_test_patients_and_those_left_out_are_no_candidates_and_unseen_by_the_check(
    folder: Path, tmp_path: Path
) -> None:
    opened = LabelledPool(folder, protocol(), tmp_path / "work")
    nine = [f"p{number:02d}" for number in range(9)]
    assert opened.tested == tuple(sorted(by_hash(nine)[:2]))
    assert set(opened.candidates) == set(nine) - set(opened.tested)
    workspace = opened.candidate_site(check=False, workers=1)
    assert (
        {case.id for case in workspace.pool.cases}
        == set(opened.candidates)
        == set(workspace.verdicts.by_case)
    )
    assert workspace.preparation.modalities == ("MR_T1", "CT")


def test_the_sarcoma_protocol_tests_whom_the_comparison_with_fusion_tests(tmp_path: Path) -> None:
    for number in range(1, 52):
        for name in ("CT", "MR_T1", "GTV"):
            file = tmp_path / "pool" / f"STS_{number:03d}" / f"{name}.nii.gz"
            file.parent.mkdir(parents=True) if not file.parent.exists() else None
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), file)
    read = Protocol.read(PROTOCOLS / "sts_ct_mr.yaml")
    opened = LabelledPool(tmp_path / "pool", read, tmp_path / "work")
    assert opened.tested == tuple(sorted(by_hash([*opened.tested, *opened.candidates])[:14]))
    assert len(opened.candidates) == 36


def test_every_division_tests_other_patients_and_scores_apart_from_the_others(
    folder: Path, tmp_path: Path
) -> None:
    settings = protocol(splits=3)
    opened = [LabelledPool(folder, settings, tmp_path / "work", split) for split in range(3)]
    assert len({of.tested for of in opened}) > 1
    assert len({of.digest for of in opened}) == len({of.tested for of in opened})
    for of in opened:
        assert len(of.tested) == 2
        assert not set(of.tested) & set(of.candidates)
    works = {of.candidate_site(check=False, workers=1).folders.work for of in opened}
    assert len(works) == 3


def test_the_truth_may_say_who_is_tested(folder: Path, tmp_path: Path) -> None:
    (folder / "truth.csv").write_text("case,split,damage,rare\np01,test,,0\np02,pool,shifted,1\n")
    opened = LabelledPool(folder, protocol(test="truth"), tmp_path / "work")
    assert opened.tested == ("p01",)
    assert "p01" not in opened.candidates
    assert "p02" in opened.candidates


def test_a_protocol_of_another_pool_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="STS_019"):
        LabelledPool(folder, protocol(without={"STS_019": "gone"}), tmp_path)
    with pytest.raises(ValueError, match="FLAIR is in no case"):
        LabelledPool(folder, protocol(modalities=["CT", "FLAIR"]), tmp_path)


def test_what_a_training_depends_on_changes_its_digest(folder: Path, tmp_path: Path) -> None:
    def digest(**changes: object) -> str:
        return LabelledPool(folder, protocol(**changes), tmp_path / "work").digest

    longer = {**SETTINGS["segmenter"], "steps": 3}
    assert digest() == digest(budgets=[2, 3], primary_end_point="another")
    assert len({digest(), digest(segmenter=longer), digest(test=3), digest(modalities=["CT", "PET"])}) == 4
