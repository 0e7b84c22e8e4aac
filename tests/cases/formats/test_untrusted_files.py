"""Image files that were damaged, or made to harm: what is refused, with which sentence, and at what cost."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.case import Case, CaseError, Source
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import read_grid, read_volume
from lib.cases.preprocessing import Preparation, VolumeCache, prepare
from lib.cases.records import Records
from tests.support.images import write_image
from tests.support.mutants import NRRD, bomb, pack

VOXELS = np.arange(336, dtype=np.int16).reshape(6, 7, 8)  # (D, H, W)
HEADER = NRRD.format(type="short", encoding="raw")
GZIPPED = NRRD.format(type="short", encoding="gzip").encode()


def put(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return Source(path)


def nrrd_file(folder: Path, header: str = HEADER, voxels: bytes = VOXELS.tobytes()) -> Source:
    return put(folder / "a.nrrd", header.encode() + voxels)


def nifti(values: np.ndarray = VOXELS.T, *, order: str = "<", **fields: object) -> bytes:
    """A NIfTI file with some fields of its header changed after it was made."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, affine, header)
    image.set_qform(affine, 1)
    data = bytearray(image.to_bytes())
    block = np.frombuffer(data, dtype=nib.Nifti1Header.template_dtype.newbyteorder(order), count=1)
    for name, value in fields.items():
        block[name][0] = value
    return bytes(data)


def refusal(source: Source) -> str:
    """The sentence that both readers refuse a file with."""
    with pytest.raises(CaseError) as by_header:
        read_grid(source)
    with pytest.raises(CaseError) as by_voxels:
        read_volume(source)
    assert str(by_header.value) == str(by_voxels.value)
    assert source.path.name in str(by_header.value)
    return str(by_header.value)


@pytest.mark.parametrize(
    "line",
    [
        *("data file: other.raw", "datafile: other.raw", "Data File: other.raw", "DATA FILE:other.raw"),
        *("data file: LIST", "data file: %03d.raw 1 9 1", "data  file: /dev/zero", "data file: "),
        *("line skip: 1", "lineskip: 999999999999999", "byte skip: -1", "byteskip: 0", "Byte Skip: 10"),
    ],
)
def test_an_nrrd_that_points_elsewhere_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "other.raw").write_bytes(VOXELS.tobytes())
    source = nrrd_file(tmp_path, HEADER.replace("note:=", f"{line}\nnote:="))
    assert "must hold its voxels right after its header" in refusal(source)
    assert "Export one file that holds both" in refusal(source)


def test_a_writers_own_note_in_an_nrrd_means_nothing(tmp_path: Path) -> None:
    source = nrrd_file(tmp_path, HEADER.replace("note:=", "data file:=/dev/zero\nnote:="))
    np.testing.assert_array_equal(read_volume(source).array, VOXELS)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("NRRD0004", "NRRD0009", "must be an NRRD file"),
        ("type: short", "type: block", "one real number a voxel"),
        ("type: short", "typo: short", "fields of the NRRD format"),
        ("type: short", "type: short\ntype: short", "give type once"),
        ("dimension: 3", "dimension: 4", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7 6.5", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7 nan", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7 -6", "as many sizes as its dimension"),
        ("sizes: 8 7 6", f"sizes: 8 7 {'9' * 5000}", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 0 6", "one 3-D volume"),
        ("encoding: raw", "encoding: bzip2", "encoded as raw or gzip"),
        ("encoding: raw", "encoding: ascii", "encoded as raw or gzip"),
        ("endian: little", "endian: middle", "endian: little or big"),
        ("endian: little\n", "", "endian: little or big"),
        ("(2,0,0)", "(1e300,0,0)", "within 1 km"),
        ("(2,0,0)", "(1e999,0,0)", "3 vectors of three numbers"),
        ("(2,0,0)", "(1e-5,0,0)", "must measure 0.001 to 1000 mm"),
        ("(2,0,0)", "(5000,0,0)", "must measure 0.001 to 1000 mm"),
        ("(2,0,0)", "(0,0,0)", "must measure 0.001 to 1000 mm"),
        ("(2,0,0)", "(0,2,0)", "finite and invertible"),
        ("(2,0,0)", "(nan,0,0)", "3 vectors of three numbers"),
        ("(2,0,0)", "none", "3 vectors of three numbers"),
        ("(2,0,0)", "(2,0)", "3 vectors of three numbers"),
        ("(2,0,0)", "(1_0,0,0)", "3 vectors of three numbers"),
        ("(10,-5,3)", "(1e30,0,0)", "within 1 km"),
        ("space origin: (10,-5,3)\n", "", "no 'space origin'"),
        ("kinds:", 'space units: "m" "m" "m"\nkinds:', "geometry in mm"),
        ("# written", "#" * 70_000, "end its header with an empty line within 65,536 bytes"),
        ("note:=of the writer's own\n\n", "note:=", "end its header with an empty line"),
    ],
)
def test_an_nrrd_header_that_says_what_no_image_has_is_refused(
    tmp_path: Path, before: str, after: str, sentence: str
) -> None:
    assert before in HEADER
    assert sentence in refusal(nrrd_file(tmp_path, HEADER.replace(before, after)))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sizeof_hdr": 0}, "must be a NIfTI file"),
        ({"magic": b"ni1"}, "its header and its voxels"),
        ({"dim": [0, 8, 7, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [8, 8, 7, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [3, 8, -7, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [3, 8, 0, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"datatype": 32}, "one real number a voxel"),
        ({"datatype": 128}, "one real number a voxel"),
        ({"datatype": 1536}, "one real number a voxel"),
        ({"datatype": 0}, "one real number a voxel"),
        ({"datatype": 16}, "must have 32 bits a voxel"),
        ({"bitpix": 8}, "must have 16 bits a voxel"),
        *(
            ({"vox_offset": value}, "its first voxel 352 to")
            for value in (0, 348, 352.5, 1e9, np.inf, np.nan)
        ),
        *(({"scl_slope": value}, "must have a slope of") for value in (np.inf, -np.inf, 1e30, 1e-30)),
        *(({"scl_slope": 1, "scl_inter": value}, "a finite intercept") for value in (np.inf, np.nan)),
        ({"srow_x": [np.nan, 0, 0, 0], "qform_code": 0}, "within 1 km"),
        ({"srow_x": [1e30, 0, 0, 0], "qform_code": 0}, "within 1 km"),
        ({"srow_x": [2, 0, 0, 1e9], "qform_code": 0}, "within 1 km"),
        ({"srow_x": [1e-6, 0, 0, 0], "qform_code": 0}, "must measure 0.001 to 1000 mm"),
        ({"srow_x": [2, 2, 0, 0], "srow_y": [2, 2, 0, 0], "qform_code": 0}, "finite and invertible"),
        ({"pixdim": [1, -2, 2, 2, 0, 0, 0, 0], "sform_code": 0}, "voxels of a size above 0"),
        ({"pixdim": [7, 2, 2, 2, 0, 0, 0, 0]}, "an orientation of -1 or 1"),
        ({"quatern_b": 2.0, "sform_code": 0}, "unit quaternion"),
        ({"quatern_b": np.nan}, "two positions"),
        ({"xyzt_units": 1}, "geometry in mm"),
        ({"xyzt_units": 3}, "geometry in mm"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_nifti_header_that_says_what_no_image_has_is_refused(
    tmp_path: Path, fields: dict[str, object], sentence: str, order: str
) -> None:
    plain = nifti(order=order, **fields)
    assert sentence in refusal(put(tmp_path / "a.nii", plain))
    assert sentence in refusal(put(tmp_path / "a.nii.gz", pack(plain)))


def _changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] if place else data


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a wrong checksum": lambda plain: _changed(pack(plain), -8),
    "a wrong length": lambda plain: _changed(pack(plain), -4)[:-1] + b"\x01",
    "no trailer": lambda plain: pack(plain)[:-8],
    "half a trailer": lambda plain: pack(plain)[:-4],
    "half of it": lambda plain: pack(plain)[: len(pack(plain)) // 2],
    "a tail": lambda plain: pack(plain) + b"tail",
    "a tail of zeros": lambda plain: pack(plain) + bytes(512),
    "one byte too many": lambda plain: pack(plain + b"\0"),
    "one byte too few": lambda plain: pack(plain[:-1]),
    "a member too many": lambda plain: pack(plain) + pack(b"\0"),
    "a damaged empty member": lambda plain: pack(plain) + _changed(pack(b""), -8),
    "members without end": lambda plain: pack(b"") * 70_000 + pack(plain),
    "stored bytes changed": lambda plain: _changed(gzip.compress(plain, compresslevel=0, mtime=0), 500),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
def test_a_gzip_stream_that_is_not_whole_is_refused(tmp_path: Path, damage: str, kind: str) -> None:
    if kind == "nifti":
        source = put(tmp_path / "a.nii.gz", DAMAGES[damage](nifti()))
    else:
        source = put(tmp_path / "a.nrrd", GZIPPED + DAMAGES[damage](VOXELS.tobytes()))
    with pytest.raises(CaseError, match=r"must be complete.*Copy or export it again"):
        read_volume(source)


@pytest.mark.parametrize("by", [-100, -1, 1, 100])
def test_unpacked_voxels_of_another_number_than_the_header_says_are_refused(tmp_path: Path, by: int) -> None:
    for source in (
        put(tmp_path / "a.nii", resized(nifti(), by)),
        nrrd_file(tmp_path, HEADER, resized(VOXELS.tobytes(), by)),
    ):
        with pytest.raises(CaseError, match="must be complete"):
            read_volume(source)


def resized(data: bytes, by: int) -> bytes:
    return data[:by] if by < 0 else data + bytes(by)


def test_members_one_after_another_are_one_content_as_bgzip_writes_it(tmp_path: Path) -> None:
    plain = nifti()
    pieces = [plain[:100], plain[100:400], plain[400:], b""]
    source = put(tmp_path / "a.nii.gz", b"".join(pack(piece) for piece in pieces))
    np.testing.assert_array_equal(read_volume(source).array, VOXELS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_in_either_byte_order_is_read_as_nibabel_reads_it(
    tmp_path: Path, dtype: str, order: str
) -> None:
    values = np.arange(126).reshape(3, 6, 7).astype(dtype)
    plain = nifti(values, order=order, scl_slope=0.5, scl_inter=-3.0)
    source = put(tmp_path / "a.nii.gz", pack(plain))
    expected = np.asarray(nib.load(source.path).dataobj).T
    np.testing.assert_array_equal(read_volume(source).array, expected.astype(np.float32))


@pytest.mark.parametrize("extension", [0, 16, 100_000], ids=["no extension", "an empty one", "a long one"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_extension_is_skipped(tmp_path: Path, extension: int, name: str) -> None:
    plain = nifti(vox_offset=352 + extension)
    plain = plain[:352] + b"\xff" * extension + plain[352:]
    source = put(tmp_path / name, pack(plain) if name.endswith("gz") else plain)
    np.testing.assert_array_equal(read_volume(source).array, VOXELS)


@pytest.mark.parametrize(("name", "pack_it"), [("a.nii", True), ("a.nii.gz", False)])
def test_a_file_is_packed_as_its_name_says(tmp_path: Path, name: str, pack_it: bool) -> None:
    source = put(tmp_path / name, pack(nifti()) if pack_it else nifti())
    assert "must be named for what it holds" in refusal(source)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.nii.gz"])
def test_only_a_regular_file_is_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    devices = tmp_path / "devices"
    devices.mkdir()
    (devices / name).symlink_to("/dev/zero")
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(sockets / name))
        start = time.monotonic()
        for folder in (tmp_path, devices, sockets):
            assert "must be a regular file" in refusal(Source(folder / name))
    (tmp_path / "gone").mkdir()
    assert "must be there and readable; No such file" in refusal(Source(tmp_path / "gone" / name))
    assert time.monotonic() - start < 5.0


@pytest.mark.parametrize("value", [1e38, -1e10, 1.1e9])
def test_one_value_that_no_image_has_is_refused_with_its_number(tmp_path: Path, value: float) -> None:
    values = VOXELS.T.astype(np.float32)
    values[2, 3, 4] = value
    with pytest.raises(CaseError, match=r"must hold values between.*; 1 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(values)))
    header = HEADER.replace("short", "float")
    with pytest.raises(CaseError, match=r"; 1 of 336 voxels are beyond"):
        read_volume(nrrd_file(tmp_path, header, values.tobytes(order="F")))


def test_values_that_become_absurd_by_type_or_slope_are_refused(tmp_path: Path) -> None:
    values = VOXELS.T.astype(np.float64)
    values[2, 3, 4] = 1e300  # infinite as float32
    with pytest.raises(CaseError, match=r"; 1 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(values)))
    with pytest.raises(CaseError, match=r"; 335 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(scl_slope=9e8, scl_inter=2e8)))
    with pytest.raises(CaseError, match=r"; 336 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(scl_slope=1, scl_inter=1e10)))


def test_values_that_are_no_numbers_are_counted_when_a_case_is_prepared(tmp_path: Path) -> None:
    values = VOXELS.T.astype(np.float32)
    values[0, 0, :3] = (np.nan, np.inf, -np.inf)
    source = put(tmp_path / "a.nii", nifti(values))
    with pytest.raises(CaseError, match=r"; 3 of 336 voxels are NaN or infinity"):
        prepare(Case("a", {"CT": source}), Preparation(("CT",), "CT"))


COSTS = """
import sys, time
from pathlib import Path
from lib.cases.case import CaseError, Source
from lib.cases.formats.image import read_volume
from tests.support.memory import forget_peak, peak_kb
for file in sys.argv[1:]:
    before, start, said = forget_peak(), time.monotonic(), "read"
    try:
        read_volume(Source(Path(file), 3 if "channels" in file else None))
    except CaseError as err:
        said = str(err)
    added = peak_kb() - before
    print(added / 1024, time.monotonic() - start, said)
"""


@pytest.mark.slow
def test_a_file_costs_the_volume_that_its_header_claims_whatever_it_holds(tmp_path: Path) -> None:
    bombs = {
        "voxels.nii.gz": bomb(4000, nifti()),
        "extension.nii.gz": bomb(4000, nifti(vox_offset=2.0e9)[:352]),
        "size.nii.gz": bomb(4000, nifti(dim=[3, 2000, 2000, 2000, 1, 1, 1, 1])[:352]),
        "channels.nii.gz": bomb(4000, nifti(dim=[4, 500, 500, 500, 30000, 1, 1, 1])[:352]),
        "gzip.nrrd": GZIPPED + bomb(4000),
    }
    files = [put(tmp_path / name, data).path for name, data in bombs.items()]
    # 4 channels of 4 million voxels, 128 MB as float64; one of them takes 16 MB
    start = nifti(np.zeros((1, 1, 1)), dim=[4, 256, 256, 64, 4, 1, 1, 1], scl_slope=1, scl_inter=1)[:352]
    channels = put(tmp_path / "channels_that_are_there.nii.gz", pack(start + bytes(128 * 2**20))).path
    sound = put(tmp_path / "sound.nii.gz", pack(nifti())).path
    command = [sys.executable, "-c", COSTS, *map(str, [sound, *files, channels])]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, timeout=60)
    costs = [line.split(" ", 2) for line in done.stdout.splitlines()]
    for file, (megabytes, seconds, said) in zip(files, costs[1:-1], strict=True):
        assert (float(megabytes) < 20, float(seconds) < 5) == (True, True), (file, megabytes, seconds)
        assert said.startswith(f"{file} must")
    assert (costs[0][2], costs[-1][2]) == ("read", "read")
    assert float(costs[-1][0]) < 16 + 20


def write_decathlon(root: Path, content: str | bytes) -> None:
    for name in ("a", "b"):
        write_image(root / "imagesTr" / f"{name}.nii.gz", shape=(4, 5, 6, 2))
    (root / "dataset.json").write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "must be JSON"),
        (b"\xff\xfe{", "must be JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"modality": {"0": "T1", "1": "T2"}, "x": ' + "9" * 5000 + "}", "must be JSON"),
        (b" " * (16 * 2**20) + b"{}", "at most 16,777,216 bytes"),
        ("[]", "must name its channels"),
        ('{"modality": ["T1", "T2"]}', "must name its channels"),
        ('{"modality": {"²": "T1", "1": "T2"}}', "must name its channels"),
        ('{"modality": {"' + "9" * 5000 + '": "T1"}}', "must name its channels"),
        ('{"modality": {"0": "T1", "0": "T2"}}', "gives '0' twice"),
        ('{"modality": {"0": "T1", "1": "T1w"}}', "each modality once"),
        ('{"modality": {"0": "T1", "00": "T2"}}', "each channel"),
        ('{"modality": {"0": "T1", "1": "PET_SUVx' + "9" * 400 + '"}}', "after a modality"),
        ('{"modality": {"0": {"a": 1}, "1": null}}', "after a modality"),
    ],
    ids=range(14),
)
def test_a_damaged_dataset_json_is_refused_with_a_sentence(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    write_decathlon(tmp_path, content)
    with pytest.raises(CaseError, match=sentence) as caught:
        find_pool(tmp_path, layout="decathlon")
    assert len(str(caught.value)) < 1000
    find_pool(tmp_path)  # without a layout, what the folder holds is sought in other ways


def test_a_dataset_json_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    write_decathlon(tmp_path, "{}")
    (tmp_path / "dataset.json").unlink()
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(CaseError, match="must be a regular file"):
        find_pool(tmp_path, layout="decathlon")


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 500, pack(nifti())[:40], nifti(), pack(nifti(dim=[4, 4, 5, -6, 2, 1, 1, 1]))],
    ids=["empty", "noise", "cut", "not packed", "negative"],
)
def test_one_damaged_file_of_a_decathlon_is_named_and_the_others_are_found(
    tmp_path: Path, data: bytes
) -> None:
    write_decathlon(tmp_path, json.dumps({"modality": {"0": "T1", "1": "T2"}}))
    (tmp_path / "imagesTr" / "a.nii.gz").write_bytes(data)
    pool = find_pool(tmp_path)
    assert list(pool.by_id) == ["b"]
    assert [(item.path.name, item.reason.split()[:2]) for item in pool.skipped] == [
        ("a.nii.gz", ["it", "must"])
    ]


@pytest.mark.parametrize("file", ["case.json", "array.npy", "foreground.npy"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"PK\x03\x04", None, b"half"],
    ids=["empty", "cut", "list", "zip", "gone", "half"],
)
def test_a_damaged_prepared_case_is_made_again(tmp_path: Path, file: str, content: bytes | None) -> None:
    case = Case("a", {"CT": Source(write_image(tmp_path / "a_CT.nii.gz"))})
    with_records = Records(tmp_path / "records.sqlite")
    cache = VolumeCache(tmp_path / "cache", Preparation(("CT",), "CT"), with_records, max_bytes=10**9)
    before = np.array(cache.get(case).array)
    damaged = tmp_path / "cache" / cache.key(case) / file
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(
            damaged.read_bytes()[: damaged.stat().st_size // 2] if content == b"half" else content
        )
    np.testing.assert_array_equal(cache.get(case).array, before)
    assert damaged.stat().st_size > 0
