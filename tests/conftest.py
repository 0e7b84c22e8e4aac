"""Small pools on disk, the embedded real patients, and what each worker tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.workers import FileScheduling, longest_first

SAMPLES = Path(__file__).parent.parent / "samples" / "sts"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FileScheduling:
    config.option.loadscopereorder = False  # by the number of tests, which says little of their length
    return FileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one process alone does the quick ones first
        longest_first(items)


@pytest.fixture
def temporary_folder_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of temporary files is what it was once the test has ended."""
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())


@pytest.fixture
def samples(tmp_path: Path) -> Callable[..., Path]:
    """Copy real patients into a fresh studies folder: `samples("STS_002", "STS_008")`."""

    def copy(*ids: str, labels: bool = True) -> Path:
        studies = tmp_path / "studies"
        for id in ids or sorted(path.name for path in SAMPLES.iterdir() if path.is_dir()):
            shutil.copytree(SAMPLES / id, studies / id)
            if not labels:
                (studies / id / "GTV.nii.gz").unlink()
        return studies

    return copy
