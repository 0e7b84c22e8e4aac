"""The expert's table: presets, refusals, and labels there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.ciml.decomposition.table import Decomposition, decomposition_for
from lib.labels.meaning import LabelMeanings

DOCUMENT = Path(__file__).parents[3] / "docs" / "decomposition.md"
GLIOMA = decomposition_for(("T1", "T1ce", "T2", "FLAIR"))
TWO = decomposition_for(("CT", "PET"), labels=("tumour", "node"))


@pytest.mark.parametrize(
    ("modalities", "labels", "name", "leads"),
    [
        (("T1", "T1ce", "T2", "FLAIR"), None, "glioma_mr", ["core", "whole"]),
        (("FLAIR", "T2", "T1ce", "T1"), None, "glioma_mr", ["core", "whole"]),
        (("T1", "T1ce", "T2", "FLAIR"), ("lesion",), "generic", ["T1", "T1ce", "T2", "FLAIR"]),
        (("CT", "PET"), None, "pet_ct", ["uptake", "anatomy"]),
        (("CT", "PET", "MR_T1"), None, "pet_ct_mr", ["CT", "PET", "MR_T1"]),
        (("T1", "FLAIR"), None, "generic", ["T1", "FLAIR"]),
        (("CT", "MR_T1"), None, "generic", ["CT", "MR_T1"]),
        (("ultrasound",), None, "generic", ["ultrasound"]),
        (("CT_venous", "PET_FDG", "CT_native"), None, "pet_ct", ["uptake", "anatomy"]),
        (("PET", "FLAIR", "CT", "T1ce"), None, "pet_ct_mr", ["PET", "FLAIR", "CT", "T1ce"]),
    ],
)
def test_auto_finds_the_preset_that_fits(
    modalities: tuple[str, ...], labels: tuple[str, ...] | None, name: str, leads: list[str]
) -> None:
    found = decomposition_for(modalities, labels=labels)
    assert found.name == name
    assert [task.name for task in found.subtasks] == leads
    assert set(found.modalities) == set(modalities)


def test_every_other_modality_is_auxiliary() -> None:
    for task in decomposition_for(("CT", "PET", "MR_T1")).subtasks:
        assert task.primary == (task.name,)
        assert set(task.primary) | set(task.auxiliary) == {"CT", "PET", "MR_T1"}
    uptake, anatomy = decomposition_for(("CT", "PET")).subtasks
    assert (uptake.primary, uptake.auxiliary) == (("PET",), ("CT",))
    assert (anatomy.primary, anatomy.auxiliary) == (("CT",), ("PET",))


def test_the_glioma_table_is_the_expert_prior() -> None:
    core, whole = GLIOMA.subtasks
    assert core.primary == ("T1ce", "T1")
    assert core.regions == ("tumour core", "enhancing tumour")
    assert whole.primary == ("FLAIR", "T2")
    assert whole.regions == ("whole tumour",)
    assert GLIOMA.labels == {"necrotic core": 1, "oedema": 2, "enhancing": 3}


@given(arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3)))
def test_glioma_labels_survive_as_nested_regions(label: np.ndarray) -> None:
    whole, core, enhancing = GLIOMA.regions_of(label).astype(bool)
    assert (enhancing <= core).all()
    assert (core <= whole).all()
    np.testing.assert_array_equal(whole, label > 0)
    np.testing.assert_array_equal(GLIOMA.labels_of(GLIOMA.regions_of(label)), label)
    np.testing.assert_array_equal(GLIOMA.labels_of(0.9 * GLIOMA.regions_of(label)), label)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid table: regions nested at random, and maps that lead back."""
    highest = draw(st.integers(1, 6))
    parents = [draw(st.integers(0, value - 1)) for value in range(1, highest + 1)]  # 0: inside no other
    inside = {value: [value] for value in range(1, highest + 1)}
    for value in range(highest, 0, -1):
        if parent := parents[value - 1]:
            inside[parent] += inside[value]
    theirs = st.integers(highest + 1, 1000)
    imports = draw(st.dictionaries(theirs, st.integers(1, highest), max_size=4))
    exports = {ours: value for value, ours in imports.items() if draw(st.booleans())}
    names = [f"region {value}" for value in inside]
    return {
        "name": "drawn",
        "labels": {f"label {value}": value for value in inside},
        "regions": [
            {"name": name, "labels": labels} for name, labels in zip(names, inside.values(), strict=True)
        ],
        "subtasks": [{"name": "all", "primary": ["CT"], "auxiliary": [], "regions": names}],
        "import_values": imports,
        "export_values": exports,
    }


def _preset(kinds: list[str], labels: tuple[str, ...] | None) -> Decomposition:
    return decomposition_for(tuple(dict.fromkeys(kinds)), labels=labels)


MODALITIES = st.lists(st.sampled_from(["CT", "PET", "T1", "T1ce", "T2", "FLAIR", "CT_late"]), min_size=1)
LABELS = st.sampled_from([None, ("lesion",), ("tumour", "node"), tuple(GLIOMA.labels)])
DECOMPOSITIONS = st.one_of(
    st.just(GLIOMA), st.builds(_preset, MODALITIES, LABELS), tables().map(Decomposition.from_dict)
)


@given(st.data(), DECOMPOSITIONS)
def test_labels_survive_as_regions_and_as_files_in_every_decomposition(
    data: st.DataObject, decomposition: Decomposition
) -> None:
    values = st.integers(0, len(decomposition.labels))
    label = data.draw(arrays(np.uint8, (2, 3, 2), elements=values))
    np.testing.assert_array_equal(decomposition.labels_of(decomposition.regions_of(label)), label)
    exported = decomposition.exported(label)
    back = LabelMeanings(decomposition).of("p1", np.unique(exported).tolist())
    np.testing.assert_array_equal(np.vectorize({0: 0, **back}.get, otypes=[np.uint8])(exported), label)


@given(tables())
def test_every_valid_table_survives_json(table: dict[str, Any]) -> None:
    decomposition = Decomposition.from_dict(table)
    again = Decomposition.from_dict(json.loads(json.dumps(decomposition.to_dict())))
    assert again.to_dict() == decomposition.to_dict()


def test_exported_values_are_brats_and_may_be_larger_than_a_byte() -> None:
    assert GLIOMA.exported(np.array([0, 1, 2, 3], dtype=np.uint8)).tolist() == [0, 1, 2, 4]
    far = Decomposition.from_dict(_table(import_values={1000: 2}, export_values={2: 1000}))
    assert far.exported(np.array([1, 2], dtype=np.uint8)).tolist() == [1, 1000]


def test_a_checkpoint_from_before_the_maps_still_loads_and_is_the_same_task() -> None:
    older = {key: value for key, value in GLIOMA.to_dict().items() if not key.endswith("_values")}
    assert Decomposition.from_dict(older) == GLIOMA
    assert Decomposition.from_dict(older).import_values == {}


def test_an_inner_region_paints_over_a_more_probable_outer_one() -> None:
    probabilities = np.array([0.9, 0.8, 0.6], dtype=np.float32).reshape(3, 1, 1, 1)
    assert GLIOMA.labels_of(probabilities).item() == 3
    assert GLIOMA.labels_of(probabilities, threshold=0.7).item() == 1
    assert GLIOMA.labels_of(probabilities, threshold=0.85).item() == 2
    assert GLIOMA.labels_of(probabilities, threshold=0.95).item() == 0


@pytest.mark.parametrize(("pair", "winner"), [((0.9, 0.6), 1), ((0.6, 0.9), 2), ((0.4, 0.3), 0)])
def test_of_two_regions_apart_the_more_probable_wins(pair: tuple[float, float], winner: int) -> None:
    assert TWO.labels_of(np.array(pair, dtype=np.float32).reshape(2, 1, 1, 1)).item() == winner


def _table(**changes: Any) -> dict[str, Any]:
    table = {
        "name": "site",
        "labels": {"tumour": 1, "oedema": 2},
        "regions": [{"name": "all", "labels": [1, 2]}, {"name": "inner", "labels": [1]}],
        "subtasks": [{"name": "a", "primary": ["T1"], "auxiliary": ["T2"], "regions": ["all", "inner"]}],
    }
    return {**table, **changes}


def _subtask(**changes: Any) -> list[dict[str, Any]]:
    return [{**_table()["subtasks"][0], **changes}]


def test_a_site_gives_its_own_table() -> None:
    assert Decomposition.from_dict(_table()).modalities == ("T1", "T2")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"labels": {"tumour": 1, "oedema": 4}}, "labels must have the values 1..n"),
        ({"labels": {}}, "labels must have the values 1..n"),
        ({"labels": {"Background": 1, "oedema": 2}}, "labels must name structures.*'Background'"),
        ({"labels": {"tumour": "1", "oedema": 2}}, "labels.tumour must be a whole number; got '1'"),
        ({"labels": {"tumour": True, "oedema": 2}}, "labels.tumour must be a whole number; got True"),
        ({"labels": "tumour"}, "labels must be a table; got 'tumour'"),
        ({"regions": [{"name": "all", "labels": [1, 2]}]}, r"regions\[0\].labels must have exactly one"),
        ({"regions": [{"name": "inner", "labels": [1]}]}, "regions must cover every label; none has 2"),
        ({"regions": _table()["regions"][::-1]}, r"regions\[1\].labels must .*List the outer region first"),
        ({"regions": [{"name": "all", "labels": [1, 3]}]}, r"regions\[0\].labels must be among .* 1, 2"),
        ({"regions": [{"name": "all", "labels": 1}]}, r"regions\[0\].labels must be a list; got 1"),
        ({"regions": [{"name": "all", "labels": [1, "2"]}]}, r"regions\[0\].labels\[1\] must be a whole"),
        ({"regions": [{"name": "all"}]}, r"regions\[0\].labels must be given; got nothing"),
        ({"regions": ["all"]}, r"regions\[0\] must be a table with the fields name, labels; got 'all'"),
        ({"regions": "all"}, "regions must be a list; got 'all'"),
        ({"subtasks": []}, "subtasks must name at least one"),
        ({"subtasks": _subtask(primary=[])}, r"subtasks\[0\].primary must name at least one"),
        ({"subtasks": _subtask(primary="T1")}, r"subtasks\[0\].primary must be a list; got 'T1'"),
        ({"subtasks": _subtask(primary=[False])}, r"subtasks\[0\].primary\[0\] must be text; got False"),
        ({"subtasks": _subtask(auxiliary=["T1"])}, r"subtasks\[0\].auxiliary must .*; got T1 in both"),
        ({"subtasks": _subtask(regions=["x"])}, r"subtasks\[0\].regions must be among all, inner; got 'x'"),
        ({"subtasks": _subtask(regions=["inner"])}, "subtasks must cover every region; none has all"),
        ({"subtasks": _table()["subtasks"] + _subtask(name="b", primary="x")}, r"subtasks\[1\].primary must"),
        ({"colour": "red"}, "colour must be one of the fields name, labels, regions, .*; got 'red'"),
        ({"import_values": {"x": 1}}, "import_values.x must be for a whole number"),
        ({"import_values": {4: "1"}}, r"import_values\[4\] must be a whole number; got '1'"),
        ({"import_values": {2: 1}}, r"import_values\[2\] must be for a value 3\.\."),
        ({"import_values": {4: 3}}, r"import_values\[4\] must be a label, 1, 2; got 3"),
        ({"export_values": {3: 4}}, r"export_values\[3\] must be for a label, 1, 2"),
        (
            {"export_values": {2: 4}},
            r"export_values\[2\] must .* back to 2; got 4. Add `4: 2` to import_values",
        ),
    ],
)
def test_a_bad_table_is_refused_by_the_name_of_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Decomposition.from_dict(_table(**changes))


@pytest.mark.parametrize(
    ("modalities", "arguments", "message"),
    [
        (("CT",), {"preset": "brats"}, "preset must be one of"),
        ((), {}, "modalities must name at least one"),
        (("T1", "T2"), {"preset": "glioma_mr"}, "modalities must be T1, T1ce"),
        (
            ("T1", "T1ce", "T2", "FLAIR"),
            {"preset": "glioma_mr", "labels": ("x",)},
            "labels must be necrotic core",
        ),
        (("CT", "MR_T1"), {"preset": "pet_ct"}, "must be of the kinds CT, PET"),
        (("CT",), {"labels": ("background", "lesion")}, "labels must name structures"),
        (("CT", "PET"), {"labels": ("a", "a")}, "labels must name at least one, each once"),
    ],
)
def test_a_preset_that_does_not_fit_says_why(
    modalities: tuple[str, ...], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decomposition_for(modalities, **arguments)


def test_probabilities_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel for each of the 3 regions; got 2"):
        GLIOMA.labels_of(np.zeros((2, 1, 1, 1)))


def _examples() -> list[str]:
    return [block.split("```")[0] for block in DOCUMENT.read_text().split("```yaml")[1:]]


def _file(folder: Path, table: dict[str, Any] | str | bytes) -> str:
    text = yaml.safe_dump(table) if isinstance(table, dict) else table
    (folder / "table.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / "table.yaml")


def test_the_documents_examples_are_tables_and_the_second_is_the_preset(tmp_path: Path) -> None:
    own, brats = _examples()
    table = decomposition_for(("CT", "PET"), preset=_file(tmp_path, own))
    assert table.labels == {"liver": 1, "lesion": 2}
    assert table.import_values == {7: 2}
    glioma = decomposition_for(("T1", "T1ce", "T2", "FLAIR"), preset=_file(tmp_path, brats))
    assert glioma.to_dict() == GLIOMA.to_dict()


def test_a_path_below_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _file(tmp_path, _table())
    assert decomposition_for(("T1", "T2"), preset="~/table.yaml").name == "site"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("- a", "must be a mapping with the fields name"),
        ("", "must be a mapping"),
        ("a: &a [x, x]\nb: [*a, *a]", "must be plain YAML; an alias"),
        ("[" * 3_000, "must be plain YAML; it is nested too deeply"),
        ("#" * 70_000, "must have at most 65536 bytes"),
        ("name: a\nname: b", "must be plain YAML; name is given twice in line 2"),
        ("a:\n\t- b", "must be plain YAML; .* in line 2"),
        ("!!python/object/apply:os.getcwd []", "must be plain YAML; could not determine a constructor"),
        ("name: 2024-99-99", "must be plain YAML; month must be"),
        (b"name: \xe9", "must be plain YAML; 'utf-8' codec"),
        (b"name: \x00", "must be plain YAML; unacceptable character"),
        ("{}", ": name must be given; got nothing"),
        (
            "{name: a, labels: {x: 1}, regions: [], subtasks: [], 3: x}",
            r": \[3\] must be a field's name; got 3",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_its_name(
    tmp_path: Path, table: str | bytes, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        decomposition_for(("T1", "T2"), preset=_file(tmp_path, table))
    assert str(caught.value).startswith(f"{tmp_path}/table.yaml")


@pytest.mark.parametrize(
    ("preset", "sentence"),
    [
        ("table.yaml", "must be an absolute path; got 'table.yaml'. Set --conf decomposition=/.*/table.yaml"),
        ("/nowhere/table.yml", "there is none at /nowhere/table.yml"),
        (f"/{'a' * 300}.yaml", "must be readable"),
        ("/table.json", "preset must be one of auto, .* or the path of a table in a .yaml file"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_to_give(preset: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        decomposition_for(("CT",), preset=preset)


def test_a_modality_that_the_pool_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    sentence = r"table.yaml: subtasks\[0\].auxiliary must name modalities of the pool, T1, FLAIR; got 'T2'"
    with pytest.raises(ValueError, match=sentence):
        decomposition_for(("T1", "FLAIR"), preset=_file(tmp_path, _table()))


def test_a_table_numbers_its_labels_as_the_studies_do(tmp_path: Path) -> None:
    preset = _file(tmp_path, _table(import_values={3: 1}))
    for fitting in (None, ("tumour", "oedema"), ("tumour", "oedema", "node")):
        assert decomposition_for(("T1", "T2"), preset=preset, labels=fitting).name == "site"
    with pytest.raises(ValueError, match="labels must give 'oedema' the value 1, as the studies or --conf"):
        decomposition_for(("T1", "T2"), preset=preset, labels=("oedema", "tumour"))
