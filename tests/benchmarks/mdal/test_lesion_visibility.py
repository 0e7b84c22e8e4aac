"""What the modality difference sees of a lesion, measured on real patients with a short training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.mdal.lesion_pool import FOLDS, read_pool
from benchmarks.mdal.lesion_visibility import SETTINGS, Setting, measure_fold, summary, write
from lib.mdal.representation.contrastive import ContrastiveSettings
from lib.mdal.representation.encoder import place_counts

SHORT = ContrastiveSettings(steps=2, batch=4, positions=8, checks=1)
BRAIN_MM = np.array([140.0, 180.0, 140.0])


@pytest.mark.slow
def test_a_pool_is_measured_out_of_fold_and_a_difference_that_is_the_lesion_is_seen(
    samples: Callable[..., Path], tmp_path: Path
) -> None:
    studies = samples("STS_002", "STS_008", "STS_012", "STS_015", "STS_018", "STS_024")
    setting = Setting((12, 24, 24), SHORT)
    pool = read_pool(studies, tmp_path / "work", setting.view, cases=6)
    assert pool.lesion.shape == (6, 12, 24, 24)
    assert ((pool.volume_ml > 1) & (pool.lesion.sum(axis=(1, 2, 3)) > 0)).all()
    folds = [measure_fold(pool, setting, fold) for fold in range(FOLDS)]
    found = summary(pool, setting, folds)
    assert found["places"] == "6x6x6"
    assert 0 <= found["matched"] <= 1
    assert found["steps"] == 2
    down, rows, columns = setting.contrastive.encoder.stride
    for number, fold in enumerate(folds):
        here = pool.lesion[pool.folds == number][:, ::down, ::rows, ::columns]
        fold["nats"] = np.repeat(-here.reshape(len(here), 1, -1), 3, axis=1)
    assert summary(pool, setting, folds)["AUC raw"] > 0.9


@pytest.mark.parametrize("name", SETTINGS)
def test_a_fine_setting_has_places_of_at_most_ten_millimetres_in_a_brain(name: str) -> None:
    setting = SETTINGS[name]
    counts = np.array(place_counts(setting.view, setting.contrastive.encoder.stride))
    assert bool((BRAIN_MM / counts <= 10.01).all()) == name.startswith(("fine", "product"))


def test_rows_of_other_pools_and_settings_stay(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    write(
        [{"pool": "b", "setting": "one", "matched": 1}, {"pool": "b", "setting": "two", "matched": 2}], file
    )
    write([{"pool": "a", "setting": "one", "matched": 3}], file)
    write([{"pool": "b", "setting": "two", "matched": 4}], file)
    assert file.read_text().splitlines() == ["pool,setting,matched", "a,one,3", "b,one,1", "b,two,4"]
