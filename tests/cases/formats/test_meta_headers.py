"""MetaImage files (.mha) are read as ITK reads them, or refused in a sentence; no other file is opened."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.cases.case import CaseError, Source
from lib.cases.formats.image import read_grid, read_label_map, read_volume
from tests.support.images import write_image
from tests.support.mutants import bomb
from tests.support.untrusted_images import put, refusal
from tests.support.viewer_place import NUMBERS, apart_mm, meta_file, seen_by_itk

PACKED = zlib.compress(NUMBERS.tobytes())
TURNED = "0 1 0 -1 0 0 0 0 1"


@pytest.mark.parametrize(
    "data",
    [
        meta_file(),
        meta_file(PACKED, CompressedData="True", CompressedDataSize=str(len(PACKED))),
        meta_file().replace(b"\n", b"\r\n", 13),
        meta_file(TransformMatrix=TURNED),
        meta_file(TransformMatrix=None, Rotation=TURNED),
        meta_file(TransformMatrix=None, Orientation=TURNED),
        meta_file(TransformMatrix="-1 0 0 0 1 0 0 0 1"),
        meta_file(Offset=None, Position="7 -8 9.5e1"),
        meta_file(Offset=None, Origin="7 -8 .5"),
        meta_file(NUMBERS.astype(">i2").tobytes(), BinaryDataByteOrderMSB=None, ElementByteOrderMSB="True"),
        meta_file(NUMBERS.astype("u1").tobytes(), BinaryDataByteOrderMSB=None, ElementType="MET_UCHAR"),
        meta_file(AnatomicalOrientation="LPI", CenterOfRotation="5 5 5", ElementSize="9 9 9"),
        meta_file(DistanceUnits="mm", HeaderSize="0", ElementNumberOfChannels="1", Modality="MET_MOD_MR"),
        meta_file(ContentTimes="101530.5 " * 900, Name="a = b", **{"0008|103e": "ep2d: diff"}),
        meta_file(ObjectType=None, BinaryData=None, CompressedData=None, ElementDataFile="Local"),
    ],
)
def test_an_mha_lies_where_itk_puts_it_and_holds_what_itk_reads(tmp_path: Path, data: bytes) -> None:
    source = put(tmp_path / "a.mha", data)
    seen = seen_by_itk(source.path)
    assert apart_mm(read_grid(source), seen.grid) < 1e-9
    np.testing.assert_array_equal(read_volume(source).array, seen.array)
    np.testing.assert_array_equal(read_label_map(source).array, seen.array)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        *(
            ("MET_CHAR", "i1"),
            ("MET_UCHAR", "u1"),
            ("MET_SHORT", "i2"),
            ("MET_USHORT", "u2"),
            ("MET_INT", "i4"),
        ),
        *(("MET_UINT", "u4"), ("MET_LONG", "i4"), ("MET_ULONG", "u4"), ("MET_LONG_LONG", "i8")),
        *(("MET_ULONG_LONG", "u8"), ("MET_FLOAT", "f4"), ("MET_DOUBLE", "f8")),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_an_mha_is_read_as_itk_reads_it(
    tmp_path: Path, element: str, dtype: str, order: str
) -> None:
    voxels = NUMBERS.astype(order + dtype).tobytes()
    source = put(
        tmp_path / "a.mha", meta_file(voxels, ElementType=element, BinaryDataByteOrderMSB=str(order == ">"))
    )
    np.testing.assert_array_equal(read_volume(source).array.ravel(), NUMBERS)
    np.testing.assert_array_equal(seen_by_itk(source.path).array.ravel(), NUMBERS)


@pytest.mark.parametrize("packed", [False, True])
def test_what_itk_writes_is_read(tmp_path: Path, packed: bool) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    image = sitk.GetImageFromArray(values)
    image.SetDirection(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].ravel().tolist())
    image.SetSpacing((0.7, 1.3, 2.9))
    image.SetOrigin((-110.2, 111.78, -52.7))
    sitk.WriteImage(image, str(tmp_path / "a.mha"), useCompression=packed)
    volume, seen = read_volume(Source(tmp_path / "a.mha")), seen_by_itk(tmp_path / "a.mha")
    assert apart_mm(volume.grid, seen.grid) < 1e-9
    np.testing.assert_array_equal(volume.array, values.astype(np.float32))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        *(
            ({"ElementDataFile": name}, "which is not opened")
            for name in ("a.raw", "LIST", "%02d.raw 1 9 1", "")
        ),
        ({"ElementDataFile": "/dev/zero"}, "'/dev/zero', which is not opened"),
        ({"ObjectType": "Scene"}, "ObjectType = image"),
        ({"NDims": "2", "DimSize": "5 12"}, "one 3-D volume"),
        ({"NDims": "4", "DimSize": "5 4 3 1"}, "one 3-D volume"),
        ({"NDims": None}, "NDims before"),
        *(
            ({"DimSize": text}, "three axes")
            for text in ("5 4", "5 4 3 1", "5 4 0", "5 4 -3", "5.0 4 3", "9" * 99)
        ),
        ({"DimSize": "4294967296 4 3"}, "three axes"),
        *(
            ({"ElementType": text}, "one real number")
            for text in ("MET_SHORT_ARRAY", "met_short", "MET_STRING", None)
        ),
        ({"ElementNumberOfChannels": "3"}, "ElementNumberOfChannels = 1"),
        ({"BinaryData": "False"}, "BinaryData = true"),
        *(({"HeaderSize": size}, "HeaderSize = 0") for size in ("-1", "4")),
        *(({"DistanceUnits": unit}, "DistanceUnits = mm") for unit in ("um", "m", "cm")),
        ({"ElementToIntensityFunctionSlope": "2"}, "FunctionSlope = 1"),
        ({"ElementToIntensityFunctionOffset": "-1024"}, "FunctionOffset = 0"),
        *(({"BinaryDataByteOrderMSB": text}, "True or False") for text in (None, "1", "")),
        *(({field: None}, "where it lies") for field in ("Offset", "TransformMatrix", "ElementSpacing")),
        ({"Offset": None, "offset": "1 2 3"}, "where it lies"),
        *(({"Offset": text}, "where it lies") for text in ("1 2", "nan 2 3", "1,2,3", "1_0 2 3", "inf 0 0")),
        ({"Position": "1 2 3"}, "give Offset once"),
        ({"Rotation": TURNED}, "give TransformMatrix once"),
        *(({"ElementSpacing": text}, "size above 0") for text in ("-1 1.5 2", "0 1.5 2")),
        *(({"ElementSpacing": text}, "must measure") for text in ("1e-9 1 1", "5000 1 1")),
        *(({"TransformMatrix": text}, "length 1") for text in ("2 0 0 0 2 0 0 0 2", "0 0 0 0 1 0 0 0 1")),
        ({"TransformMatrix": "1 0 0 0.6 0.8 0 0 0 1"}, "right angles"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "finite and invertible"),
        *(({"Offset": text}, "within 1 km") for text in ("1e300 0 0", "1e999 0 0")),
        ({"ElementSpacing": "1e999 1 1"}, "within 1 km"),
        ({"CompressedData": "zlib"}, "True or False"),
        *(
            ({field: "x" * 251}, "at most 250 letters")
            for field in ("Name", "Comment", "AnatomicalOrientation")
        ),
        ({"Mine": "x" * 17_000}, "lines of at most 16,384 bytes"),
        ({f"Mine{number}": "x" * 16_000 for number in range(17)}, "within 262,144"),
        ({"A:b": "1"}, "FIELD = VALUE"),
        ({"Comment": "\n"}, "FIELD = VALUE"),
    ],
)
def test_an_mha_header_that_leaves_something_open_is_refused(
    tmp_path: Path, fields: dict[str, str | None], sentence: str
) -> None:
    (tmp_path / "a.raw").write_bytes(NUMBERS.tobytes())
    assert sentence in refusal(put(tmp_path / "a.mha", meta_file(**fields)))


def test_a_file_that_is_no_mha_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\n", b"\0" * 100, write_image(tmp_path / "b.nii").read_bytes(), bytes(2**20)):
        assert "must " in refusal(put(tmp_path / "a.mha", data))


@pytest.mark.parametrize("by", [-100, -1, 1, 100])
def test_voxels_of_another_number_than_an_mha_says_are_refused(tmp_path: Path, by: int) -> None:
    voxels = NUMBERS.tobytes()
    changed = voxels[:by] if by < 0 else voxels + bytes(by)
    packed = zlib.compress(changed)
    said = {"CompressedData": "True", "CompressedDataSize": str(len(packed))}
    for data in (meta_file(changed), meta_file(packed, **said)):
        with pytest.raises(CaseError, match="must be complete"):
            read_volume(put(tmp_path / "a.mha", data))


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (PACKED, None),  # ITK reads other voxels then, and says nothing
        (PACKED, str(len(PACKED) - 3)),
        (PACKED + b"abc", str(len(PACKED))),
        (PACKED[:-4], str(len(PACKED))),
        (PACKED[:-4], str(len(PACKED) - 4)),
        (PACKED[:-4] + b"abcd", str(len(PACKED))),
        (PACKED + PACKED, str(2 * len(PACKED))),
        (bomb(1), str(len(bomb(1)))),  # gzip is another format
    ],
)
def test_a_packed_mha_that_is_not_whole_is_refused(tmp_path: Path, packed: bytes, said: str | None) -> None:
    source = put(tmp_path / "a.mha", meta_file(packed, CompressedData="True", CompressedDataSize=said))
    with pytest.raises(CaseError, match=r"must be complete.*Copy or export it again"):
        read_volume(source)


def test_a_damaged_mha_is_refused_in_a_sentence_or_keeps_its_voxels(tmp_path: Path) -> None:
    packed = {"CompressedData": "True", "CompressedDataSize": str(len(PACKED))}
    sound = [meta_file(PACKED, **packed), meta_file()]
    refused = 0
    for seed in range(300):
        rng = random.Random(seed)
        damaged = bytearray(sound[seed % 2])
        end = len(damaged) - len(PACKED if seed % 2 == 0 else NUMBERS.tobytes())
        match rng.randrange(3):
            case 0:  # in the header, where only some changes show
                damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
            case 1:
                del damaged[rng.randrange(len(damaged)) :]
            case _:
                damaged[end:end] = rng.randbytes(rng.randrange(1, 9))
        try:
            volume = read_volume(put(tmp_path / "a.mha", bytes(damaged)))
        except CaseError:  # any other exception fails the test
            refused += 1
        else:
            assert volume.array.size == NUMBERS.size
    assert refused > 220
