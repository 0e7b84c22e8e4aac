"""`main.py check`: what a person sees of the cases found and of the files left out."""

from __future__ import annotations

import json
import logging
import math
import socket
from pathlib import Path

import pytest
from retrying import Retrying

from lib.cases.dicomweb.client import ONE_LINE
from tests.support.command_line import exit_code, said
from tests.support.images import write_image, write_series
from tests.support.mixed_trees import touch


def checked(capsys: pytest.CaptureFixture[str], root: Path, *words: object) -> tuple[int, str]:
    code = exit_code("check", root, "--list", "--conf", f"work_dir={root.parent / 'work'}", *words)
    return code, said(capsys.readouterr().out)


def test_a_pacs_that_is_down_is_told_in_one_line_without_urls(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ONE_LINE, "told", -math.inf)  # another test of this process may have been told
    Retrying()  # at its first use, it silences its logger; a server's logging makes it heard again
    monkeypatch.setattr(logging.getLogger("retrying"), "propagate", True)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web"
        work = ("--conf", f"work_dir={tmp_path / 'work'}")
        assert exit_code("check", address, "--list", *work) != 0
    assert [record.getMessage() for record in caplog.records] == [
        "The PACS does not answer or is busy; its requests are repeated."
    ]
    assert "Is it up? Try again." in said("".join(capsys.readouterr()))


@pytest.mark.parametrize("command", ["check", "labels", "report", "segment", "select", "serve", "train"])
def test_a_flag_takes_no_value_in_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code(command, "--help")
    help = said(capsys.readouterr().out)
    assert "--help" in help
    assert "<bool>" not in help


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            [f"sub-{n:02}/anat/sub-{n:02}_T2star.nii.gz" for n in range(12)],
            "It holds 12 NIfTI files in sub-*/anat; it looks like BIDS.",
        ),
        (["sub-1/anat/sub-1_x.nii", "sub-1/dwi/sub-1_x.nii"], "1 NIfTI file in sub-1/anat, 1 NIfTI file in"),
        (["a/b/scan.nrrd", "a/b/x.txt"], "It holds 1 NRRD file in a/b."),
        (["scan1.nii", "scan2.nii"], "It holds 2 NIfTI files in the folder itself."),
        (["x/y/a.mha"], "It holds 1 .mha file in x/y."),
        (["x/BRATS_HG1/BRATS_HG1_T1_slice9.nii.gz"], "it looks like BraTS."),
        (["notes.txt", "b.txt"], "It holds 2 other files in the folder itself."),
        ([], "It holds no file."),
    ],
)
def test_a_check_that_finds_no_case_says_what_it_saw_and_ends_with_one(
    names: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "studies"
    root.mkdir()
    for name in names:
        touch(root / name)
    code, output = checked(capsys, root, "--output", tmp_path / "check.json")
    document = json.loads((tmp_path / "check.json").read_text())
    assert code == 1
    assert "no case was found under" in output
    assert sentence in output
    assert document["overview"] in output
    assert document["cases"] == {}
    assert output.count("It holds") == 1


def test_a_check_that_finds_a_case_ends_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path / "studies" / "p1" / "T1.nii.gz")
    code, output = checked(capsys, tmp_path / "studies", "--output", tmp_path / "check.json")
    assert code == 0
    assert "no case was found" not in output
    assert json.loads((tmp_path / "check.json").read_text())["overview"] == ""


def test_a_full_check_without_a_case_ends_with_one_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "studies" / "p" / "s", modality="MR", description="wibble", study="1.2")
    assert exit_code("check", tmp_path / "studies", "--conf", f"work_dir={tmp_path / 'work'}") == 1
    assert "it looks like DICOM" in said(capsys.readouterr().out)


def test_a_check_that_holds_a_case_back_ends_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CT.nii.gz", "PET.nii.gz"):
        write_image(tmp_path / "studies" / "p1" / name)  # one image for both
    assert exit_code("check", tmp_path / "studies", "--conf", f"work_dir={tmp_path / 'work'}") == 1
    assert "quarantine" in said(capsys.readouterr().out)
    assert exit_code("check", tmp_path / "studies", "--list", "--conf", f"work_dir={tmp_path / 'work'}") == 0


@pytest.mark.parametrize(
    ("word", "found", "not_found"), [("lease", "lease_minutes", "layout"), ("", "layout", "x")]
)
def test_settings_are_listed_in_groups_or_by_a_word(
    word: str, found: str, not_found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("settings", *([word] if word else [])) == 0
    told = said(capsys.readouterr().out)
    assert found in told
    assert ("Which case next" in told) == (not word)
    if word:
        assert not_found not in told


def test_a_word_that_no_setting_holds_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("settings", "wibble") == 2
    assert "must hold the word 'wibble'; none does" in said(capsys.readouterr().out)


def test_files_that_share_a_reason_share_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "studies"
    for number in range(60):
        touch(root / "p1" / f"{number}.json")
    for name in ("T1.nii.gz", "wibble.nii.gz"):
        touch(root / "p1" / name)
    _, output = checked(capsys, root)
    assert "skipped 60 files, such as" in output
    assert "'wibble' is not one" in output
    assert output.count("skipped") == 3  # and the head of the column
