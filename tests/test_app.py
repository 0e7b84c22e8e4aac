from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException

from lib.app import MdalCimlApp
from lib.pipeline.checking import check_workspace
from lib.server.errors import ClientError
from lib.views.documents.expiry import what_to_do
from tests.support.images import write_image

Samples = Callable[..., Path]


@pytest.fixture
def app(samples: Samples, tmp_path: Path) -> MdalCimlApp:
    return MdalCimlApp(str(tmp_path), str(samples("STS_025", "STS_008")), {"study_labels": "ignore"})


def test_a_models_answer_never_takes_the_place_of_a_final_label(app: MdalCimlApp) -> None:
    with pytest.raises(ClientError, match="must not take the place"):
        app.infer({"model": "ciml", "image": "STS_008", "save_label": True, "label_tag": "final"})
    assert app.datastore().get_labeled_images() == []
    app.infer({"model": "ciml", "image": "STS_008", "save_label": True})
    assert app.datastore().get_labels_by_image_id("STS_008") == {"original": "STS_008"}


def test_a_pool_that_changed_since_its_check_is_scored_after_the_next_one(
    app: MdalCimlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    monkeypatch.setattr(MONAILabelApp, "async_scoring", lambda *_: asked.append(None))
    check_workspace(app.workspace)
    app.async_scoring(None)
    assert len(asked) == 1
    next(Path(app.workspace.folders.address).rglob("STS_008/CT.nii.gz")).touch()
    app.workspace.refresh()
    app.async_scoring(None)
    assert len(asked) == 1
    app.async_scoring("mdal")  # somebody asks for it
    assert len(asked) == 2


def test_a_scoring_that_is_about_to_start_is_told_as_one_that_runs(
    app: MdalCimlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MONAILabelApp, "async_scoring", lambda *_: {})
    check_workspace(app.workspace)
    assert "restart the server" in what_to_do(app.workspace)
    app.async_scoring(None)
    assert what_to_do(app.workspace) == "The pool is being scored; a new plan follows by itself."


def test_only_a_final_label_ends_a_lease(app: MdalCimlApp) -> None:
    first = app.next_sample({"strategy": "uniform", "client_id": "ann"})["id"]
    app.infer({"model": "ciml", "image": first, "save_label": True})
    app.on_save_label(first, first)
    assert app.next_sample({"strategy": "uniform", "client_id": "bob"})["id"] != first


def test_the_default_order_is_offered_first_as_slicer_asks_for_the_first(
    samples: Samples, tmp_path: Path
) -> None:
    studies = str(samples("STS_025"))
    for conf, first in (({}, "representative"), ({"strategy": "kmeans"}, "kmeans")):
        strategies = MdalCimlApp(str(tmp_path), studies, conf).info()["strategies"]
        assert next(iter(strategies)) == first
        assert strategies["random"] == strategies[first]


@pytest.mark.parametrize("model", [None, ["ciml"], {"a": 1}, "wibble"])
def test_a_model_that_is_none_is_refused(app: MdalCimlApp, model: Any) -> None:
    with pytest.raises(ClientError, match="model must be one of ciml"):
        app.infer({"model": model, "image": "STS_008"})


@pytest.mark.parametrize("name", [None, ["mdal"], "wibble"])
def test_a_method_or_a_model_that_is_none_is_refused_with_what_there_is(app: MdalCimlApp, name: Any) -> None:
    for ask, one_of in (
        (lambda: app.scoring({"method": name}), "method must be one of mdal"),
        (lambda: app.train({"model": name}), "model must be one of ciml"),
    ):
        with pytest.raises(ClientError, match=one_of) as caught:
            ask()
        assert caught.value.status_code == 404


def test_many_cases_are_segmented_without_a_gpu(app: MdalCimlApp) -> None:
    result = app.batch_infer({"model": "ciml", "images": "unlabeled", "label_tag": "original"})
    assert sorted(result) == ["STS_008", "STS_025"]
    assert sorted(app.datastore().labelled("original")) == ["STS_008", "STS_025"]


def test_a_pool_of_one_modality_is_served_in_uniform_order(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    for number in range(3):
        write_image(studies / f"p{number}" / "CT.nii.gz", seed=number)
    app = MdalCimlApp(str(tmp_path), str(studies), {})
    app.scoring({"method": "mdal"})
    answer = app.next_sample({"strategy": "mdal"})
    assert answer["mdal"]["reason"] == "Case 1 of 3 in random order."


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"wibble": 1}, "is not a key"),
        ({"reference": "T2"}, "reference must be one of"),
        ({"strategy": "best"}, "strategy must be one of"),
        ({"device": "gpu"}, "device must be auto"),
        ({"database_url": "bad"}, "database_url must be"),
        ({"decomposition": "x"}, "preset must be one of"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_at_start(
    samples: Samples, tmp_path: Path, conf: dict[str, object], sentence: str
) -> None:
    with pytest.raises(MONAILabelException) as caught:
        MdalCimlApp(str(tmp_path), str(samples("STS_025")), conf)
    assert sentence in caught.value.msg


def test_a_case_without_the_reference_takes_another_grid(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    write_image(studies / "p0" / "CT.nii.gz")
    write_image(studies / "p0" / "PET.nii.gz", shape=(4, 4, 4), spacing=4.0)
    write_image(studies / "p1" / "PET.nii.gz", shape=(4, 4, 4), spacing=4.0)
    app = MdalCimlApp(str(tmp_path), str(studies), {"reference": "CT"})
    shapes = {}
    for id in ("p0", "p1"):
        file = app.infer({"model": "ciml", "image": id})["file"]
        shapes[id] = np.asarray(nib.load(file).dataobj).shape
    assert shapes == {"p0": (6, 7, 8), "p1": (4, 4, 4)}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image=st.one_of(
        st.sampled_from(["../x", "/etc/passwd", "STS_008/../x", "a\x00", "\uff0e\uff0e/x", ""]), st.text()
    )
)
def test_an_image_that_no_case_answers_to_is_never_opened(app: MdalCimlApp, image: str) -> None:
    if image in app.workspace.pool._aliases:
        return
    with pytest.raises(ClientError, match="an image must be the id of a case") as caught:
        app.infer({"model": "ciml", "image": image})
    assert caught.value.status_code == 404


@pytest.mark.parametrize("image", [None, ["STS_008"], {"a": 1}, 7])
def test_an_image_that_is_no_name_is_refused(app: MdalCimlApp, image: Any) -> None:
    with pytest.raises(ClientError, match="image must be the id"):
        app.infer({"model": "ciml", "image": image})
