"""Small files of our own, damaged in every way: each is made again, or refused with what to restore."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.cases.dicomweb.studies import _known_frames
from lib.ciml.training.split import split_patients
from lib.pipeline.settings import AppSettings
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.own_files import MAX_DOCUMENT_BYTES, Damaged, Unavailable
from lib.server.datastore import CaseDatastore
from tests.support.images import write_image

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swell(path: Path) -> None:
    os.truncate(path, 0)
    os.truncate(path, 1_000_000_000)  # of zeros that take no room


DAMAGES: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "binary": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "no UTF-8": lambda path: path.write_bytes(b'{"of": "\xff\xfe"}'),
    "a list": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "long number": lambda path: path.write_text("9" * 10_000),
    "a folder": become_folder,
    "1 GB": swell,
}
DEEP = {
    "check.json": '{"of": "x", "cases": {"P1": {"status": "fine", "findings": []}}}',
    "model/train_stats.json": '{"state": "done", "epoch": "three", "total_epochs": null}',
    "model/versions/served.txt": '"1"',
}
SETTINGS = AppSettings(released=("P0", "P1"))  # noise on so small a grid is no image
AGAIN = ("check.json", "records.sqlite", "model/train_stats.json", "model/versions/served.txt")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies that were checked, planned, labelled and prepared."""
    studies = tmp_path_factory.mktemp("used") / "studies"
    for number in range(2):
        for modality in ("CT", "PET"):
            write_image(studies / f"P{number}" / f"{modality}.nii.gz", seed=number)
    workspace = Workspace(studies, SETTINGS)
    workspace.check()
    workspace.plan.write(content="x", seed=0, scores={}, orders={"mdal": ["P0"]}, about={})
    workspace.plan.close()
    workspace.cache.get(workspace.pool.cases[0])
    CaseDatastore(workspace).set_name("ours")
    TrainingStats(workspace.folders.work / "model").write(
        {"state": "done", "epoch": 3, "total_epochs": 3, "total_time": 9}
    )
    (workspace.folders.work / "model" / "versions").mkdir()
    (workspace.folders.work / "model" / "versions" / "served.txt").write_text("1")
    return studies


def use(studies: Path) -> None:
    """What a server does with these files, at its start and for its clients."""
    workspace = Workspace(studies, SETTINGS)
    workspace.validate()
    datastore = CaseDatastore(workspace)
    datastore.labels.register.check()
    if not workspace.recall_check():
        workspace.check()
    assert {case.id for case in workspace.verdicts.served} == {"P0", "P1"}
    datastore.json()
    assert workspace.plan.progress("scoring") == {}
    assert workspace.plan.current() is not None
    assert TrainingStats(workspace.folders.work / "model").read()["total_time"] > 0
    assert workspace.models.chosen() == 0
    assert workspace.cache.get(workspace.pool.cases[0]).array.shape[0] == 2
    assert workspace.content()


@pytest.mark.parametrize(
    ("name", "damage"),
    [*itertools.product(AGAIN, DAMAGES), *((name, "wrong within") for name in DEEP)],
)
def test_what_can_be_made_again_is_set_aside_with_a_sentence(
    used: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(used, studies)
    file = studies / ".mdal" / name
    if damage == "wrong within":
        file.write_text(DEEP[name])
    else:
        DAMAGES[damage](file)
    with caplog.at_level(logging.WARNING):
        use(studies)
        use(studies)
    aside = list(file.parent.glob(f"{file.name}.damaged-*"))
    if name != "records.sqlite" or damage != "empty":  # which is an empty database
        assert len(aside) == 1
        assert f"{file} was damaged" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["case.json", "array.npy", "foreground.npy"])
def test_a_prepared_case_is_prepared_again(used: Path, tmp_path: Path, name: str, damage: str) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(used, studies)
    (file,) = studies.glob(f".mdal/cache/*/{name}")
    DAMAGES[damage](file)
    use(studies)
    assert len(list(studies.glob(".mdal/cache/*.damaged-*"))) == 1


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "empty"])
def test_a_damaged_plan_is_refused_at_start_and_nothing_is_overwritten(
    used: Path, tmp_path: Path, damage: str
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(used, studies)
    file = studies / ".mdal" / "plan.sqlite"
    running = Workspace(studies, SETTINGS)
    assert running.plan.current() is not None
    running.plan.close()
    DAMAGES[damage](file)
    before = None if file.is_dir() else file.read_bytes()[:10_000]
    with pytest.raises(UserError, match=r"plan\.sqlite|database_url"):
        use(studies)
    with pytest.raises(UserError, match="the plan's database must"):
        running.plan.current()
    assert file.is_dir() or file.read_bytes()[:10_000] == before


def test_a_plan_that_is_emptied_while_it_is_used_is_refused(used: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(used, studies)
    running = Workspace(studies, SETTINGS)
    assert running.plan.current() is not None
    running.plan.close()
    (studies / ".mdal" / "plan.sqlite").write_bytes(b"")
    with pytest.raises(Unavailable, match="the plan's database must answer"):
        running.plan.current()


@pytest.mark.parametrize("damage", [*DAMAGES, "wrong within"])
def test_a_damaged_register_is_refused_and_nothing_is_overwritten(
    used: Path, tmp_path: Path, damage: str
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(used, studies)
    file = studies / "datastore_v2.json"
    running = CaseDatastore(Workspace(studies, SETTINGS))
    running.set_name("ours")
    if damage == "wrong within":
        file.write_text('{"objects": {"P0": {"labels": {"final": {"ext": "/../../x", "info": []}}}}}')
    else:
        DAMAGES[damage](file)
    before = None if file.is_dir() else file.read_bytes()[:10_000]
    with pytest.raises(Damaged, match="restore it from a backup"):
        use(studies)
    for ask in (running.json, lambda: running.set_name("other")):
        with pytest.raises(Damaged, match="restore it from a backup"):
            ask()
    running.status()  # labels have versions of their own
    assert file.is_dir() or file.read_bytes()[:10_000] == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_only_a_person_can_restore_is_refused(tmp_path: Path, damage: str) -> None:
    frames, split = tmp_path / "frames.json", tmp_path / "split.json"
    for file in (frames, split):
        file.write_text("{}")
        DAMAGES[damage](file)
    with pytest.raises(Damaged, match="restore it from a backup"):
        _known_frames(frames, {"1.2": {"3.4": []}})
    with pytest.raises(Damaged, match="restore it from a backup"):
        split_patients(split, ["a", "b"], share=0.5)


def test_records_that_are_damaged_while_they_are_used_are_made_again(used: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(used, studies)
    workspace = Workspace(studies, SETTINGS)
    before = workspace.content()
    workspace.records.path.write_bytes(b"x" * 5000)
    assert workspace.content() == before
    with sqlite3.connect(workspace.records.path) as database:
        database.execute("UPDATE content SET hash = 7")
        database.execute("DROP TABLE measurement")
    workspace.check()


def test_no_document_of_more_than_its_bound_is_read(tmp_path: Path) -> None:
    file = tmp_path / "train_stats.json"
    file.touch()
    os.truncate(file, MAX_DOCUMENT_BYTES + 1)
    assert TrainingStats(tmp_path).read() == {"total_time": 0.1}
