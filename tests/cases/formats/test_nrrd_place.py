"""An NRRD file lies where ITK, and so 3D Slicer, puts it; what ITK does not open is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.cases.case import Source
from lib.cases.formats.image import Grid, Volume, read_grid, read_volume, write_nrrd
from tests.support.untrusted_images import put, refusal
from tests.support.viewer_place import NUMBERS, apart_mm, nrrd_file, seen_by_itk


@pytest.mark.parametrize(
    "fields",
    [
        *({"space": space} for space in ("LPS", "Left-Posterior-Superior", "RAS", "right-anterior-superior")),
        *({"space": space} for space in ("LAS", "left-anterior-superior")),
        {"space directions": "( 0 , -1.5 , 0 ) (-.1e1,0,0)\t(0,0,-2)"},
        *({"space units": units} for units in ('"mm" "mm" "mm"', '"" "" ""', '"mm" "" "mm"')),
        {
            "spacings": "NaN nan NAN",
            "axis mins": "nan nan nan",
            "axis maxs": "nan nan nan",
            "units": '"" "" ""',
        },
        *({"centerings": text} for text in ("cell cell cell", "node node node", "none ??? cell")),
        *({"kinds": text} for text in ("space space space", "none ??? Domain", None)),
        {"thicknesses": "nan 3 2.5", "labels": '"x y" "" "z"', "content": "a: b", "number": "60"},
        {"measurement frame": "(0,1,0) (1,0,0) (0,0,1)"},
        {"endian": "Little", "encoding": "Raw", "type": "INT16", "sizes": " 5\t4  3 "},
    ],
)
def test_a_file_lies_where_itk_puts_it(tmp_path: Path, fields: dict[str, str | None]) -> None:
    source = put(tmp_path / "a.nrrd", nrrd_file(fields=fields))
    seen = seen_by_itk(source.path)
    assert apart_mm(read_grid(source), seen.grid) < 1e-9
    np.testing.assert_array_equal(read_volume(source).array, seen.array)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        *(
            ({"space": space}, "must use the space")
            for space in (None, "scanner-xyz", "3D-right-handed", "LPI")
        ),
        ({"space": "left-posterior-superior "}, "must use the space"),
        ({"space dimension": "3"}, "neither a space dimension"),
        ({"space": None, "space dimension": "3"}, "must use the space"),
        *(({field: None}, "a position in space") for field in ("space origin", "space directions")),
        (
            {"space": None, "space directions": None, "space origin": None, "spacings": "1 1.5 2"},
            "position in space",
        ),
        ({"space origin": "none"}, "1 vectors of three"),
        ({"space directions": "none (0,1.5,0) (0,0,2)"}, "3 vectors of three"),
        ({"space directions": "(1,0,0) (0.3,1.5,0) (0,0,2)"}, "right angles"),
        *(
            ({"space units": units}, "geometry in mm")
            for units in ('"m" "m" "m"', '"um" "um" "um"', '"MM" "" ""')
        ),
        *(({"space units": units}, "three axes in space") for units in ("mm mm mm", '"mm" "mm"', "")),
        *(({field: "1 1.5 2"}, "three axes in space") for field in ("spacings", "axis mins", "axismaxs")),
        ({"units": '"mm" "mm" "mm"'}, "three axes in space"),
        *(
            ({"kinds": f"domain domain {kind}"}, f"an axis of the kind {kind}")
            for kind in ("list", "time", "3-vector", "RGB-color")
        ),
        ({"kinds": "domain domain"}, "three axes"),
        *(
            ({field: "cell"}, "three axes in space")
            for field in ("centers", "centerings", "thicknesses", "labels")
        ),
        ({"centers": "cell cell cell", "centerings": "cell cell cell"}, "give centerings once"),
        ({"measurement frame": "(1,0) (0,1)"}, "3 vectors of three"),
        ({"dimension": "2", "sizes": "5 12"}, "one 3-D volume"),
        ({"dimension": "4", "sizes": "1 5 4 3"}, "one 3-D volume"),
        ({"encoding": "ascii"}, "raw or gzip"),
        ({"spa ce": "LPS"}, "fields of the NRRD format"),
        ({"type": "short "}, "one real number a voxel"),
        ({"endian": "little "}, "little or big"),
        ({"block size": "4"}, "block size"),
    ],
)
def test_a_header_that_itk_does_not_open_or_that_leaves_its_place_open_is_refused(
    tmp_path: Path, fields: dict[str, str | None], sentence: str
) -> None:
    assert sentence in refusal(put(tmp_path / "a.nrrd", nrrd_file(fields=fields)))


@pytest.mark.parametrize(
    ("first", "later"),
    [("dimension", "sizes"), ("dimension", "kinds"), ("space", "space origin"), ("space", "space units")],
)
def test_fields_in_an_order_that_itk_does_not_read_are_refused(
    tmp_path: Path, first: str, later: str
) -> None:
    lines = nrrd_file(b"", {"space units": '"mm" "mm" "mm"'}).decode().split("\n")
    moved = next(line for line in lines if line.startswith(f"{later}:"))
    lines.remove(moved)
    data = "\n".join([lines[0], moved, *lines[1:]]).encode() + NUMBERS.tobytes()
    sentence = refusal(put(tmp_path / "a.nrrd", data))
    assert f"must give its {first} before its {later}" in sentence


@pytest.mark.parametrize("between", [":", ":\t", " : "])
def test_a_field_without_a_colon_and_a_space_is_refused(tmp_path: Path, between: str) -> None:
    data = nrrd_file().replace(b"type: ", b"type" + between.encode())
    assert "fields of the NRRD format" in refusal(put(tmp_path / "a.nrrd", data))


def test_a_header_of_blanks_costs_no_time(tmp_path: Path) -> None:
    for field in ("thicknesses", "labels", "space directions", "measurement frame", "kinds", "sizes"):
        refusal(put(tmp_path / "a.nrrd", nrrd_file(fields={field: "1" + " " * 60_000 + "x"})))


@pytest.mark.parametrize("compress", [False, True])
def test_a_written_volume_lies_where_itk_puts_it(tmp_path: Path, compress: bool) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] * (0.7, 1.3, 2.9)
    affine[:3, 3] = (-100.25, 50.125, 7.3)
    volume = Volume(NUMBERS.reshape(3, 4, 5), Grid((3, 4, 5), affine))
    write_nrrd(volume.array, volume.grid.affine, tmp_path / "a.nrrd", compress=compress)
    seen = seen_by_itk(tmp_path / "a.nrrd")
    assert apart_mm(seen.grid, volume.grid) < 1e-9
    assert apart_mm(read_grid(Source(tmp_path / "a.nrrd")), seen.grid) < 1e-9
    np.testing.assert_array_equal(seen.array, volume.array)
