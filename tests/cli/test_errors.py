"""How a command ends that cannot do what it was asked for: no traceback, an exit code, what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lib.cli import main as command_line
from tests.support.command_line import exit_code, said


def end_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every workspace fail with this error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "Workspace", fail)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room there"),
        (errno.EDQUOT, "Make room there"),
        (errno.EROFS, "--conf work_dir"),
        (errno.EACCES, "--conf work_dir"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_an_error_of_the_system_ends_with_2_and_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    advice: str,
) -> None:
    end_with(OSError(number, os.strerror(number), "/data/x"), monkeypatch)
    assert exit_code("check", tmp_path) == 2
    told = said("".join(capsys.readouterr()))
    assert (os.strerror(number) in told, advice in told, "Traceback" in told) == (True, True, False)


def test_a_fault_of_the_program_ends_with_1_and_its_details_in_a_file_without_secrets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    temporary_folder_as_before: None,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    end_with(KeyError("postgresql://mdal:hunter2@host/plan"), monkeypatch)
    assert exit_code("check", tmp_path) == 1
    told = said("".join(capsys.readouterr()))
    assert "something went wrong in the program (KeyError)" in told
    assert "Traceback" not in told
    (report,) = tmp_path.glob("mdal-ciml-*.log")
    assert "Traceback" in report.read_text()
    assert "hunter2" not in report.read_text() + told


@pytest.mark.parametrize(
    ("studies", "sentence"),
    [
        ("http://", "the address of a PACS must be scheme, host, port"),
        ("https://", "the address of a PACS must be"),
        ("http:///dicom-web", "the address of a PACS must be"),
        ("http://:8042/dicom-web", "the address of a PACS must be"),
        ("http://[::1/dicom-web", "the address of a PACS must be"),
        ("http://host:99999/dicom-web", "the address of a PACS must be"),
        ("http://host:0/dicom-web", "the address of a PACS must be"),
        ("http://host:port/dicom-web", "the address of a PACS must be"),
        ("http://user:pa/ss@host/dicom-web", "the address of a PACS must be"),
        ("http://user@host/dicom-web", "MONAI_LABEL_DICOMWEB_PASSWORD"),
        ("http://host/dicom-web?token=hunter2", "MONAI_LABEL_DICOMWEB_PASSWORD"),
        ("ftp://host/studies", "begins with http:// or https://"),
        ("file:///studies", "begins with http:// or https://"),
        ("x" * 258, "File name too long"),
    ],
)
def test_studies_that_are_no_folder_and_no_address_end_with_2_and_a_sentence(
    capsys: pytest.CaptureFixture[str], studies: str, sentence: str
) -> None:
    assert exit_code("check", studies, "--list") == 2
    told = said("".join(capsys.readouterr()))
    assert sentence in told
    assert "hunter2" not in told
    assert "Traceback" not in told
