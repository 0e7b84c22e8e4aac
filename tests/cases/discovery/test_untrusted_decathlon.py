"""Damaged folders in the layout of the Decathlon: the file at fault is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lib.cases.case import CaseError
from lib.cases.discovery.layouts import find_pool
from tests.support.images import write_image
from tests.support.mutants import pack
from tests.support.untrusted_images import nifti


def write_decathlon(root: Path, content: str | bytes) -> None:
    for name in ("a", "b"):
        write_image(root / "imagesTr" / f"{name}.nii.gz", shape=(4, 5, 6, 2))
    (root / "dataset.json").write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "must be JSON"),
        (b"\xff\xfe{", "must be JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"modality": {"0": "T1", "1": "T2"}, "x": ' + "9" * 5000 + "}", "must be JSON"),
        (b" " * (16 * 2**20) + b"{}", "at most 16,777,216 bytes"),
        ("[]", "must name its channels"),
        ('{"modality": ["T1", "T2"]}', "must name its channels"),
        ('{"modality": {"²": "T1", "1": "T2"}}', "must name its channels"),
        ('{"modality": {"' + "9" * 5000 + '": "T1"}}', "must name its channels"),
        ('{"modality": {"0": "T1", "0": "T2"}}', "gives '0' twice"),
        ('{"modality": {"0": "T1", "1": "T1w"}}', "each modality once"),
        ('{"modality": {"0": "T1", "00": "T2"}}', "each channel"),
        ('{"modality": {"0": "T1", "1": "PET_SUVx' + "9" * 400 + '"}}', "after a modality"),
        ('{"modality": {"0": {"a": 1}, "1": null}}', "after a modality"),
    ],
    ids=range(14),
)
def test_a_damaged_dataset_json_is_refused_with_a_sentence(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    write_decathlon(tmp_path, content)
    with pytest.raises(CaseError, match=sentence) as caught:
        find_pool(tmp_path, layout="decathlon")
    assert len(str(caught.value)) < 1000
    find_pool(tmp_path)  # without a layout, what the folder holds is sought in other ways


def test_a_dataset_json_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    write_decathlon(tmp_path, "{}")
    (tmp_path / "dataset.json").unlink()
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(CaseError, match="must be a regular file"):
        find_pool(tmp_path, layout="decathlon")


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 500, pack(nifti())[:40], nifti(), pack(nifti(dim=[4, 4, 5, -6, 2, 1, 1, 1]))],
    ids=["empty", "noise", "cut", "not packed", "negative"],
)
def test_one_damaged_file_of_a_decathlon_is_named_and_the_others_are_found(
    tmp_path: Path, data: bytes
) -> None:
    write_decathlon(tmp_path, json.dumps({"modality": {"0": "T1", "1": "T2"}}))
    (tmp_path / "imagesTr" / "a.nii.gz").write_bytes(data)
    pool = find_pool(tmp_path)
    assert list(pool.by_id) == ["b"]
    assert [(item.path.name, item.reason.split()[:2]) for item in pool.skipped] == [
        ("a.nii.gz", ["it", "must"])
    ]
