"""DICOM files spoiled in every way, the same at each run: bytes, lengths, kinds of values, whole fields."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

VALUES = (  # what stands in a field where something else belongs
    b"", b"\0\0", b"abc ", b"-1", b"0", b"1e400 ", b"NaN ", b"inf ", b"0\\976562", b"1\\2\\3 ", b"1\\0\\0 ",
    b"0\\0\\0\\0\\0\\0 ", b"9" * 400, b"\\" * 60, b"\xff" * 8, b"\x00\xff", b"\xff\xff", b"1.2.3\0",
    b"99991231", b"../../x ", b"=+-@ ",
)  # fmt: skip
KINDS = ("DS", "IS", "US", "SQ", "UI", "FD", "OB", "UN", "PN", "LO", "AT", "SS", "UL", "TM", "DA", "XX")


def spoiled_files(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of a file with bytes changed, cut, doubled or left out, most of them in its header."""
    chance = random.Random(seed)
    header = min(len(whole), max(1000, whole.find(b"\xe0\x7f\x10\x00")))
    for number in range(count):
        data = bytearray(whole)
        match number % 5:
            case 0:
                for _ in range(chance.randint(1, 4)):
                    data[chance.randrange(128, header)] = chance.randrange(256)
            case 1:
                del data[chance.randrange(128, len(data)) :]
            case 2:
                place = chance.randrange(132, header)
                data[place : place + 4] = chance.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xf0\xff\xff\x7f")
                )
            case 3:
                place = chance.randrange(132, header)
                data[place:place] = data[place : place + chance.randint(1, 64)]
            case _:
                place = chance.randrange(132, header)
                del data[place : place + chance.randint(1, 32)]
        yield bytes(data)


def spoiled_fields(whole: Dataset, count: int, seed: int) -> Iterator[bytes]:
    """Copies of a data set with one field, at whatever depth, of another value, another kind, or gone."""
    chance = random.Random(seed)
    places = list(_places(whole))
    for _ in range(count):
        within, tag = places[chance.randrange(len(places))]
        old = within[tag]
        if chance.random() < 0.1:
            del within[tag]
        else:
            value, keeps = chance.choice(VALUES), chance.random() < 0.5
            kind = old.VR if keeps and len(old.VR) == 2 else chance.choice(KINDS)
            value = b"" if kind == "SQ" else value
            within[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
        file = BytesIO()
        try:
            whole.save_as(file, write_like_original=False)
        except Exception:  # pydicom itself will not write it
            continue
        finally:
            within[tag] = old
        yield file.getvalue()


def _places(dataset: Dataset) -> Iterator[tuple[Dataset, BaseTag]]:
    for element in dataset:
        yield dataset, element.tag
        if element.VR == "SQ":
            for item in list(element.value)[:2]:
                yield from _places(item)


def nested(depth: int) -> bytes:
    """An undefined-length private sequence within itself, so deep."""
    begin = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return begin * depth + end * depth
