"""Labels and what is kept with each, between processes, threads and a PACS."""

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import SimpleITK as sitk

from tests.support.pools import label_for, open_datastore

Samples = Callable[..., Path]


@pytest.mark.slow
def test_sixty_kills_while_labels_are_saved_lose_at_most_the_last_one(
    samples: Samples, tmp_path: Path
) -> None:
    datastore = open_datastore(samples("STS_025", "STS_008", "STS_042", labels=False))
    ids = datastore.list_images()
    files = [label_for(datastore.workspace, id, tmp_path / f"{id}.nii.gz") for id in ids]
    moment, number = random.Random(0), 0
    for _ in range(60):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            mine = open_datastore(datastore.workspace.folders.studies)  # as another process has it
            while True:
                number += 1
                place = number % len(ids)
                mine.save_label(ids[place], str(files[place]), "final", {"number": number})
                os.write(writing, number.to_bytes(4))
        os.close(writing)
        told = int.from_bytes(os.read(reading, 4))
        time.sleep(moment.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while rest := os.read(reading, 4):
            told = int.from_bytes(rest)
        os.close(reading)
        again = open_datastore(datastore.workspace.folders.studies)
        stored = {id: again.get_label_info(id, "final")["number"] for id in again.get_labeled_images()}
        assert told <= max(stored.values()) <= told + 1
        for id in stored:
            assert again.labels.read(again.workspace.pool.by_id[id]).array.any()
        number = max(stored.values())


def test_of_two_labels_saved_at_once_one_is_there_whole(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    store, case = datastore.labels, datastore.workspace.pool.by_id["STS_002"]
    first = label_for(datastore.workspace, "STS_002", tmp_path / "label.nii.gz")
    second = tmp_path / "label.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(first)), str(second))
    with ThreadPoolExecutor(2) as readers:
        for _ in range(20):
            saves = [
                readers.submit(store.save, case, file, "final", {"of": file.name}) for file in (first, second)
            ]
            for save in saves:
                save.result()
            kept, notes = store.files_of(case)["final"], store.notes(case, "final")
            assert kept.read_bytes() == (tmp_path / notes["of"]).read_bytes()
            assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_label_of_the_pacs_never_takes_the_place_of_a_newer_one(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    store, case = datastore.labels, datastore.workspace.pool.by_id["STS_002"]
    file = label_for(datastore.workspace, "STS_002", tmp_path / "label.nii.gz")
    now = datetime.now(UTC)
    for hours, stored in ((-2, True), (-3, False), (-2, False), (-1, True)):
        written = (now + timedelta(hours=hours)).isoformat()
        assert store.take(case, file, "final", written=written, sent={"of": written}) == stored
    store.save(case, file, "final", {})
    assert not store.take(case, file, "final", written=written, sent={})
    assert "dicom_seg" not in store.notes(case, "final")
