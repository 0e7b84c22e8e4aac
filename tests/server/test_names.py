from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.conftest import SAMPLES
from tests.support.pools import label_for, open_datastore

NASTY = st.one_of(
    st.sampled_from(
        [
            "../x",
            "../../etc/passwd",
            "/etc/passwd",
            "STS_002/../STS_008",
            "STS_002\x00",
            "\x00",
            "..",
            ".",
            "",
            "STS_002/../../outside/secret.nii.gz",
            "link",
            "link/secret.nii.gz",
            "\u2025/x",
            "\uff0e\uff0e/x",
            "\u2024\u2024\u2215x",
            "%2e%2e%2fx",
            "..%00",
            "C:\\x",
            "file:///etc/passwd",
            "STS_002/CT.nii.gz/..",
        ]
    ),
    st.text(max_size=40),
    st.text(alphabet="./\\\x00\uff0e\u2025STS_0028", max_size=20),
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaseDatastore, Path, Path]:
    """A datastore, a secret outside of it that a link points to, and a good label."""
    root = tmp_path_factory.mktemp("guarded")
    (root / "outside").mkdir()
    (root / "outside" / "secret.nii.gz").write_text("secret")
    studies = root / "studies"
    studies.mkdir()
    for id in ("STS_002", "STS_008"):
        (studies / id).mkdir()
        for file in (SAMPLES / id).iterdir():
            if file.name != "GTV.nii.gz":
                (studies / id / file.name).write_bytes(file.read_bytes())
    (studies / "link").symlink_to(root / "outside")
    datastore = open_datastore(studies)
    label = label_for(datastore.workspace, "STS_002", root / "label.nii.gz")
    return datastore, root, label


def files_of(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NASTY)
def test_a_name_that_no_case_has_is_refused_whatever_it_looks_like(
    guarded: tuple[CaseDatastore, Path, Path], name: str
) -> None:
    datastore, root, label = guarded
    if name in datastore.workspace.pool._aliases:
        return
    before = files_of(root)
    for call in (
        lambda: datastore.get_image_uri(name),
        lambda: datastore.get_image_info(name),
        lambda: datastore.get_label_uri(name, "final"),
        lambda: datastore.remove_label(name, "final"),
        lambda: datastore.save_label(name, str(label), "final", {}),
        lambda: datastore.update_image_info(name, {"note": "x"}),
        lambda: datastore.get_labels_by_image_id(name),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.status_code == 404
        assert caught.value.detail.startswith("an image must be the id")
    assert files_of(root) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tag=NASTY)
def test_a_tag_that_could_leave_its_folder_is_refused(
    guarded: tuple[CaseDatastore, Path, Path], tag: str
) -> None:
    datastore, root, label = guarded
    if tag.isascii() and tag.replace("_", "").replace("-", "").isalnum() and tag[0].isalnum():
        return
    before = files_of(root)
    for call in (
        lambda: datastore.save_label("STS_002", str(label), tag, {}),
        lambda: datastore.get_label_uri("STS_002", tag),
        lambda: datastore.remove_label("STS_002", tag),
    ):
        with pytest.raises(ClientError, match="tag must be letters") as caught:
            call()
        assert 400 <= caught.value.status_code < 500
    assert files_of(root) == before
