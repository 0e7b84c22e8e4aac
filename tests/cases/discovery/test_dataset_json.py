"""Folders with a dataset.json: it is read as it was saved, or its own fault is told and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.cases.discovery.layouts import find_pool
from tests.support.images import write_image
from tests.support.mixed_trees import touch

SOUND = json.dumps({"channel_names": {"0": "T1", "1": "FLAIR"}, "modality": {"0": "T1", "1": "FLAIR"}})


@pytest.fixture(params=["nnunet", "decathlon"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data set without its dataset.json."""
    if request.param == "nnunet":
        for name in ("case_0000", "case_0001"):
            touch(tmp_path / "imagesTr" / f"{name}.nii.gz")
    else:
        write_image(tmp_path / "imagesTr" / "BRATS_001.nii.gz", shape=(3, 4, 5, 2))
    touch(tmp_path / "imagesTr" / "._BRATS_001.nii.gz")
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_dataset_json_is_read_however_it_was_saved(root: Path, encoding: str) -> None:
    (root / "dataset.json").write_bytes(SOUND.encode(encoding))
    pool = find_pool(root)
    assert pool.modalities == ("T1", "FLAIR")
    assert (pool.overview, pool.skipped) == ("", ())


FAULTS = {
    "latin-1": ('{"name": "Kövesi"}'.encode("latin-1"), r"must be JSON in UTF-8; byte 11"),
    "no list": ({"name": "x"}, "must name its channels as"),
    "a list": ({"modality": ["T1", "FLAIR"]}, "got \"['T1', 'FLAIR']\""),
    "numbers": ({"modality": {"0": 0, "1": 1}}, "channel 0 after a modality (T1, CT, …); got '0'"),
    "a norm": ({"modality": {"0": "noNorm", "1": "noNorm"}}, "got 'noNorm'"),
    "another norm": ({"modality": {"0": "rescale_to_0_1"}}, "got 'rescale_to_0_1'"),
    "free text": ({"modality": {"0": "T1-weighted contrast", "1": "T1"}}, "got 'T1-weighted contrast'"),
    "words": ({"modality": {"0": "Flair MR", "1": "T1"}}, "got 'Flair MR'"),
    "twice": ({"modality": {"0": "T1", "1": "T1w"}}, "each modality once"),
    "cut": (b'{"modality": ', "must be JSON; "),
    "missing": (None, "must name the channels as"),
}


@pytest.mark.parametrize(("content", "sentence"), FAULTS.values(), ids=FAULTS)
def test_the_fault_of_a_dataset_json_is_the_reason_that_is_told(
    root: Path, content: bytes | dict[str, object] | None, sentence: str
) -> None:
    if content is not None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (root / "dataset.json").write_bytes(data)
    pool = find_pool(root)
    told = [item.reason for item in pool.skipped if item.path == root / "imagesTr"]
    assert {item.reason for item in pool.skipped} == set(told)
    assert pool.cases == ()
    assert len(told) == 1
    assert sentence in told[0]
    assert sentence in pool.overview
    assert "ename it." not in " ".join([pool.overview, *(item.reason for item in pool.skipped)])
    assert "looks like nnU-Net or the Decathlon" in pool.overview


def test_four_digits_do_not_make_a_file_of_all_channels_one_channel(tmp_path: Path) -> None:
    for name in ("case_0000", "case_0001"):
        write_image(tmp_path / "imagesTr" / f"{name}.nii.gz", shape=(3, 4, 5, 2))
    (tmp_path / "dataset.json").write_text(SOUND)
    pool = find_pool(tmp_path)
    assert (pool.layout, list(pool.by_id)) == ("decathlon", ["case_0000", "case_0001"])


def test_a_data_set_deeper_down_is_named_with_its_own_fault(root: Path, tmp_path: Path) -> None:
    deeper = tmp_path.parent / f"{tmp_path.name}_above"
    (deeper / "raw").mkdir(parents=True)
    root.rename(deeper / "raw" / "Task001")
    pool = find_pool(deeper)
    assert "/raw/Task001 as the studies folder" in pool.overview
    assert "dataset.json must name the channels" in pool.overview
    assert [item.path.name for item in pool.skipped] == ["Task001"]


def test_a_dataset_json_without_its_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(SOUND)
    touch(tmp_path / "case_0000.nii.gz")
    assert "there is no folder imagesTr" in find_pool(tmp_path).overview
