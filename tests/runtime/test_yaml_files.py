"""Nothing that is read from a disk runs code or grows without bound."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.cases.preprocessing import _load
from lib.ciml.checkpoint import load
from lib.ciml.training.train import _Progress
from lib.mdal.representation.views import CaseView, PoolViews
from lib.mdal.scoring.fold_model import FoldModel
from lib.mdal.scoring.fold_scores import FoldScores
from lib.pipeline.segmentation_cache import SegmentationCache
from lib.runtime.yaml_table import read_table


class Planted:
    """Runs code of its own when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


class Run:
    """As much of a training as what it goes on from is asked for."""

    device = "cpu"

    def go_on_from(self, state: object) -> None:
        raise AssertionError


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "model": load,
    "fold": lambda path: FoldModel.load(path, torch.device("cpu")),
    "training": lambda path: _Progress.recalled(path, Run()),  # type: ignore[arg-type]
}
ARRAYS: dict[str, Callable[[Path], object]] = {
    "scores": FoldScores.load,
    "view": CaseView.load,
    "views": lambda path: PoolViews(path, np.empty(0), np.empty(0)).array,
}


@pytest.mark.parametrize("reader", CHECKPOINTS)
def test_a_checkpoint_runs_no_code(tmp_path: Path, reader: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / "0001.pt"
    torch.save({"header": Planted(mark), "weights": {}, "document": Planted(mark)}, file)
    with suppress(ValueError, pickle.UnpicklingError):
        CHECKPOINTS[reader](file)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()  # or this test could not fail


@pytest.mark.parametrize("reader", ARRAYS)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_an_array_runs_no_code(tmp_path: Path, reader: str, kind: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / f"array.{kind}"
    planted = np.array([Planted(mark)], dtype=object)
    names = ("array", "present", "voxel_mm", "content", "ids", "pairs", "nats", "rows", "header")
    with file.open("wb") as stream:
        if kind == "npy":
            np.save(stream, planted)
        else:
            np.savez(stream, **dict.fromkeys(names, planted))
    with suppress(ValueError, TypeError):
        ARRAYS[reader](file)
    assert not mark.exists()


def test_a_prepared_case_and_a_kept_segmentation_run_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    planted = np.array([Planted(mark)], dtype=object)
    (tmp_path / "case.json").write_text("{}")
    np.save(tmp_path / "array.npy", planted)
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        _load(tmp_path)
    kept = SegmentationCache(tmp_path, max_bytes=100)
    (tmp_path / "m").mkdir()
    np.savez(tmp_path / "m" / "case~key.npz", header=planted, probabilities=planted)
    assert kept.get("m", "case", "key") is None
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        "a: !!python/object/apply:os.system [true]",
        "a: &x [1]\nb: *x",
        "a: " + "[" * 5_000 + "]" * 5_000,
        "a: 1\n" + "# " + "x" * 20_000_000,
    ],
    ids=["code", "alias", "deep", "large"],
)
def test_a_table_in_yaml_is_plain_and_bounded(tmp_path: Path, content: str) -> None:
    file = tmp_path / "table.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match="must"):
        read_table(file, what="decomposition", fields="labels")
