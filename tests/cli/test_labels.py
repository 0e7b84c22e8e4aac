"""`main.py labels`: who labelled what, and the index made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lib.labels.origin import Origin
from tests.support.command_line import exit_code, said
from tests.support.pools import label_for, open_datastore

Samples = Callable[..., Path]


def test_the_labels_are_listed_with_their_readers_and_the_index_is_made_again(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = samples("STS_002", "STS_008", labels=False)
    datastore = open_datastore(studies)
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz")
    for reader in ("ann", "[red]bob"):
        datastore.labels.save(
            datastore.workspace.pool.by_id["STS_002"], file, "final", {}, Origin(reader=reader)
        )
    datastore.workspace.plan.close()
    by_hand = studies / "labels" / "final" / "nobody.nii.gz"
    by_hand.write_bytes(file.read_bytes())

    def shown(*words: str) -> str:
        assert exit_code("labels", studies, *words) == 0
        return said(capsys.readouterr().out)

    text = shown()
    assert "labels of 1 of 2 cases" in text
    assert "[red]bob" in text
    assert "ann" not in text
    assert "labels/final/nobody.nii.gz is left out: a label must be named for a case" in text
    assert "ann" in shown("--case", "STS_002")
    assert exit_code("labels", studies, "--case", "STS_009") == 2
    for each in (studies / ".mdal").glob("plan.sqlite*"):
        each.unlink()
    assert "the index holds 2 versions" in shown("--rebuild")
    assert "[red]bob" in shown()
