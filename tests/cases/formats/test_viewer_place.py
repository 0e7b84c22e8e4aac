"""Random files of every format are where and what ITK, and so 3D Slicer, reads, or they are refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.case import CaseError, Source
from lib.cases.formats.headers import RAS_LPS
from lib.cases.formats.image import Grid, Volume, read_grid, read_volume, write_nifti, write_nrrd
from tests.support.mutants import pack
from tests.support.viewer_place import apart_mm, meta_file, nifti_file, nrrd_file, seen_by_itk

FILES = 220  # of each format
TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8")


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """Index to mm, with axes at right angles: anyhow, along the body or nearly so, turned or mirrored."""
    directions = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if rng.random() < 0.5:
        directions = np.eye(3)[rng.permutation(3)] * rng.choice((-1.0, 1.0), 3)
        if rng.random() < 0.5:
            directions = np.linalg.qr(directions + rng.normal(scale=3e-4, size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = directions * rng.uniform(0.3, 4.0, 3)
    affine[:3, 3] = rng.uniform(-500.0, 500.0, 3)
    return affine


def perhaps_spoiled(rng: np.random.Generator, affine: np.ndarray) -> np.ndarray:
    """The affine, or one that lies elsewhere, is sheared or has other voxel sizes, by a little or by much."""
    spoiled, size = affine.copy(), 10.0 ** rng.uniform(-6.0, 1.0)
    match rng.choice(("not", "not", "not", "moved", "sheared", "resized")):
        case "moved":
            spoiled[rng.integers(3), 3] += size
        case "sheared":
            spoiled[rng.integers(3), rng.integers(3)] += size / 10.0
        case "resized":
            spoiled[:3, rng.integers(3)] *= 1.0 + size / 10.0
    return spoiled


def random_nifti(rng: np.random.Generator) -> tuple[str, bytes]:
    dtype, order, affine = rng.choice(TYPES), rng.choice(("<", ">")), random_affine(rng)
    shape = tuple(int(size) for size in rng.integers(1, 6, 3))
    said = nib.Nifti1Header()
    said.set_qform(affine, code=1)
    fields: dict[str, object] = {
        name: said[name] for name in ("quatern_b", "quatern_c", "quatern_d", "pixdim")
    }
    fields |= dict(
        zip(("qoffset_x", "qoffset_y", "qoffset_z"), perhaps_spoiled(rng, affine)[:3, 3], strict=True)
    )
    fields |= dict(zip(("srow_x", "srow_y", "srow_z"), perhaps_spoiled(rng, affine)[:3], strict=True))
    fields |= {"qform_code": rng.choice((-1, 0, 1, 1, 2, 4)), "sform_code": rng.choice((-1, 0, 1, 1, 2, 4))}
    fields |= {
        "xyzt_units": rng.choice((0, 2, 2, 2, 2, 10, 1, 3)),
        "toffset": 5.0,
        "dim_info": rng.integers(64),
    }
    fields |= {"scl_slope": rng.choice((0.0, 1.0, 0.5, np.nan)), "scl_inter": rng.choice((0.0, -8.0))}
    if rng.random() < 0.1:
        fields |= {"intent_code": rng.choice((2, 1002, 1004, 1005, 1007)), "descrip": b"random"}
    if rng.random() < 0.1:
        fields["pixdim"] = fields["pixdim"] * rng.choice((-1.0, 0.0, 1.0, 1.1), 8)
    more = (1,) * int(rng.integers(0, 3))
    values = rng.integers(0, 100, shape).astype(dtype)
    data = nifti_file(values, shape=shape + more, order=order, **fields)
    # two names, because ITK takes the voxels of a.nii.gz from an a.nii beside it
    return ("a.nii.gz", pack(data)) if rng.random() < 0.3 else ("b.nii", data)


def vectors(matrix: np.ndarray) -> str:
    return " ".join(f"({','.join(f'{number:.12g}' for number in row)})" for row in matrix)


def random_nrrd(rng: np.random.Generator) -> tuple[str, bytes]:
    dtype, order, packed = rng.choice(TYPES), rng.choice(("little", "big")), rng.random() < 0.5
    affine = perhaps_spoiled(rng, random_affine(rng))
    shape = rng.integers(1, 6, 3)
    names = {"u1": "uchar", "i1": "int8", "i2": "short", "u2": "uint16", "i4": "int", "u4": "uint"}
    fields: dict[str, str | None] = {
        "type": {**names, "f4": "float", "f8": "double"}[str(dtype)],
        "space": rng.choice(
            (*("left-posterior-superior", "LPS", "RAS", "right-anterior-superior") * 3, "LAS", "ALS")
        ),
        "sizes": " ".join(map(str, shape)),
        "space directions": vectors(affine[:3, :3].T),
        "space origin": vectors(affine[:3, 3:].T),
        "endian": order,
        "encoding": "gzip" if packed else "raw",
    }
    others = {
        **{"kinds": ("domain domain domain", "space space space", "domain domain list", None)},
        **{"space units": ('"mm" "mm" "mm"', '"" "" ""', '"um" "um" "um"', '"mm"')},
        **{
            "measurement frame": ("(0,1,0) (1,0,0) (0,0,1)",),
            "space dimension": ("3",),
            "content": ("x: y",),
        },
        **{"centerings": ("cell cell cell", "node node node", "cell"), "thicknesses": ("nan nan 3", "3")},
        **{
            "axis mins": ("nan nan nan", "0 0 0"),
            "spacings": ("nan nan nan", "1 1 1"),
            "units": ('"" "" ""',),
        },
    }
    for field in rng.choice(list(others), rng.integers(0, 3), replace=False):
        fields[field] = others[field][rng.integers(len(others[field]))]
    if rng.random() < 0.1:
        fields[rng.choice(list(fields))] = None
    values = rng.integers(0, 100, shape.prod()).astype(
        np.dtype(str(dtype)).newbyteorder("<" if order[0] == "l" else ">")
    )
    return "a.nrrd", nrrd_file(pack(values.tobytes()) if packed else values.tobytes(), fields)


def random_meta(rng: np.random.Generator) -> tuple[str, bytes]:
    dtype, big, packed = rng.choice(TYPES), bool(rng.integers(2)), rng.random() < 0.5
    affine, shape = random_affine(rng), rng.integers(1, 6, 3)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = perhaps_spoiled(rng, affine)[:3, :3] / spacing
    names = {"u1": "UCHAR", "i1": "CHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "u4": "ULONG"}
    values = rng.integers(0, 100, shape.prod()).astype((">" if big else "<") + str(dtype)).tobytes()
    voxels = zlib.compress(values) if packed else values
    fields: dict[str, str | None] = {
        "ElementType": "MET_" + {**names, "f4": "FLOAT", "f8": "DOUBLE"}[str(dtype)],
        "BinaryDataByteOrderMSB": str(big),
        "DimSize": " ".join(map(str, shape)),
        "TransformMatrix": " ".join(f"{number:.12g}" for number in directions.T.ravel()),
        "ElementSpacing": " ".join(f"{number:.12g}" for number in spacing),
        "Offset": " ".join(f"{number:.12g}" for number in affine[:3, 3]),
        "CompressedData": str(packed),
        "CompressedDataSize": str(len(voxels)) if packed else None,
    }
    others = {
        **{
            "AnatomicalOrientation": ("RAI", "LPS", "???"),
            "CenterOfRotation": ("1 2 3",),
            "Comment": ("a = b",),
        },
        **{
            "ElementSize": ("9 9 9",),
            "DistanceUnits": ("mm", "um"),
            "HeaderSize": ("0", "-1", "2"),
            "Mine": ("1",),
        },
        **{
            "ElementToIntensityFunctionSlope": ("1", "2"),
            "ElementNumberOfChannels": ("1", "2"),
            "Name": ("x",),
        },
        **{"Rotation": ("1 0 0 0 1 0 0 0 1",), "Position": ("1 2 3",), "BinaryData": ("True", "False")},
    }
    for field in rng.choice(list(others), rng.integers(0, 3), replace=False):
        fields[field] = others[field][rng.integers(len(others[field]))]
    if rng.random() < 0.1:
        fields[rng.choice(list(fields))] = None
    return "a.mha", meta_file(voxels, **fields)


def read_or_refused(source: Source) -> Volume | None:
    try:
        volume = read_volume(source)
    except CaseError:
        return None
    assert apart_mm(read_grid(source), volume.grid) == 0.0
    return volume


@pytest.mark.parametrize("make", [random_nifti, random_nrrd, random_meta])
def test_a_random_file_is_where_and_what_itk_sees_or_is_refused(
    tmp_path: Path, make: Callable[[np.random.Generator], tuple[str, bytes]]
) -> None:
    accepted = 0
    for seed in range(FILES):
        name, data = make(np.random.default_rng(seed))
        (tmp_path / name).write_bytes(data)
        volume = read_or_refused(Source(tmp_path / name))
        if volume is not None:
            seen = seen_by_itk(tmp_path / name)
            assert apart_mm(volume.grid, seen.grid) < 1e-3, seed
            np.testing.assert_allclose(volume.array, seen.array, rtol=1e-6, err_msg=str(seed))
            accepted += 1
    assert 0.4 * FILES <= accepted <= 0.9 * FILES


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_a_written_file_is_where_and_what_itk_sees(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = tuple(int(size) for size in rng.integers(1, 6, 3))
        array = rng.integers(0, 100, shape).astype(rng.choice(("u1", "i2", "u2", "f4")))
        volume = Volume(array, Grid(shape, RAS_LPS @ random_affine(rng)))
        if name == "a.nrrd":
            write_nrrd(array, volume.grid.affine, path)
        else:
            write_nifti(volume, path, durable=False)
        seen = seen_by_itk(path)
        assert apart_mm(volume.grid, seen.grid) < 1e-3, seed
        assert apart_mm(read_grid(Source(path)), seen.grid) < 1e-3, seed
        np.testing.assert_array_equal(seen.array, array)
