"""Damaged NIfTI and NRRD files with fixed seeds, and a run of them through the readers.

Called as a program, so that its peak memory is its own: `python -m tests.support.mutants FOLDER COUNT`.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from lib.cases.case import CaseError, Source
from lib.cases.formats.image import read_grid, read_volume
from tests.support.memory import forget_peak, peak_kb

NRRD = """NRRD0004
# written by a test
type: {type}
dimension: 3
space: left-posterior-superior
sizes: 8 7 6
space directions: (2,0,0) (0,2,0) (0,0,2)
kinds: domain domain domain
endian: little
encoding: {encoding}
space origin: (10,-5,3)
note:=of the writer's own

"""
EXTREMES = (
    *(
        "",
        "0",
        "-1",
        "1e300",
        "-1e300",
        "1e-300",
        "nan",
        "inf",
        "none",
        "9" * 12,
        "9" * 5000,
        "1_0",
        "٣",
        "0x10",
    ),
    *("(1e300,0,0) (0,1e300,0) (0,0,1e300)", "(nan,0,0) (0,1,0) (0,0,1)", "(0,0,0) (0,0,0) (0,0,0)"),
    *("4294967296 4294967296 4294967296", "1000000000 1 1", "none (0,1,0) (0,0,1)", "(" * 3000, "1" * 60000),
    *("gzip", "raw", "bzip2", "hex", "ascii", "block", "double", "int64", "big", "right-anterior-superior"),
)
SPLICED = (
    *(
        "data file: /etc/hostname",
        "datafile: LIST",
        "Data File: %03d.raw 1 9 1",
        "line skip: 999999999999999",
    ),
    *(
        "byte skip: -1",
        "byteskip: 99999999999",
        "data file: /dev/zero",
        "sizes: 1 1 1",
        "line  skip: 1",
        "x" * 70000,
    ),
)


@dataclass(frozen=True)
class Original:
    """A sound file: its name, its bytes, and its content before it was packed."""

    name: str
    data: bytes
    plain: bytes
    channel: int | None = None


@dataclass(frozen=True)
class Mutant:
    """A damaged file; `faithful` where it must hold the original's voxels or be refused."""

    kind: str
    name: str
    data: bytes
    original: Original
    faithful: bool = False


def originals(*, label: bool = False) -> list[Original]:
    """Files of every kind that is read; for labels, small whole numbers without a fourth axis."""
    rng = np.random.default_rng(7)
    voxels = rng.integers(0, 3 if label else 300, (8, 7, 6)).astype(np.int16)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = (-10.0, 5.0, 3.0)
    images = [nib.Nifti1Image(voxels, affine), nib.Nifti1Image(voxels.astype(np.float32), affine)]
    found = []
    for place, image in enumerate(images):
        plain = image.to_bytes()
        found += [Original(f"a{place}.nii.gz", pack(plain), plain), Original(f"b{place}.nii", plain, plain)]
    if not label:
        many = nib.Nifti1Image(np.stack([voxels] * 3, axis=3), affine).to_bytes()
        found.append(Original("c.nii.gz", pack(many), many, channel=1))
    raw = voxels.tobytes(order="F")
    for encoding in ("gzip", "raw"):
        header = NRRD.format(type="short", encoding=encoding).encode()
        found.append(
            Original(f"{encoding}.nrrd", header + (pack(raw) if encoding == "gzip" else raw), header + raw)
        )
    return found


def mutants(count: int, *, seed: int, label: bool = False) -> Iterator[Mutant]:
    """Damaged files, each from its own seed."""
    sound = originals(label=label)
    for number in range(count):
        rng = random.Random(seed * 100_000 + number)
        make = KINDS[number % len(KINDS)]
        yield make(rng, rng.choice(sound), sound)


def pack(plain: bytes) -> bytes:
    return gzip.compress(plain, mtime=0)


def bomb(megabytes: int, start: bytes = b"") -> bytes:
    """A gzip file of `start` and so many megabytes of zeros, a thousandth as large; made in no time."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + head + zeros * megabytes + b"\x03\0" + bytes(8)


def _flipped(rng: random.Random, data: bytes, low: int = 0) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(low, len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _packed_again(original: Original, plain: bytes) -> bytes:
    """Changed content in the packing of the original, with checksums that fit."""
    if original.name.endswith(".gz"):
        return pack(plain)
    if original.name == "gzip.nrrd":
        header, blank, voxels = plain.partition(b"\n\n")
        return header + blank + pack(voxels)
    return plain


def flip_in_file(rng: random.Random, original: Original, _: list[Original]) -> Mutant:
    packed = original.name.endswith(".gz")
    return Mutant("flip", original.name, _flipped(rng, original.data), original, faithful=packed)


def flip_in_header(rng: random.Random, original: Original, _: list[Original]) -> Mutant:
    head = 352 if ".nii" in original.name else 330
    changed = _flipped(rng, original.plain[:head]) + original.plain[head:]
    return Mutant("header", original.name, _packed_again(original, changed), original)


def extreme_field(rng: random.Random, original: Original, _: list[Original]) -> Mutant:
    if original.name.endswith(".nrrd"):
        lines = original.plain.split(b"\n\n")[0].decode().split("\n")
        place = rng.randrange(2, len(lines) - 1)
        lines[place] = lines[place].split(":")[0] + ": " + rng.choice(EXTREMES)
        voxels = original.plain.partition(b"\n\n")[2]
        changed = "\n".join(lines).encode() + b"\n\n" + voxels
    else:
        block = bytearray(original.plain)
        types = nib.Nifti1Header.template_dtype
        field = rng.choice([name for name in types.names if types[name].base.kind in "if"])
        values = np.frombuffer(block, dtype=types, count=1)[field]
        what = np.iinfo(values.dtype) if values.dtype.kind == "i" else np.finfo(values.dtype)
        extremes = [what.max, what.min, 0, -1, 1, 2, 3, 1000]
        extremes += [np.nan, np.inf, -np.inf, 1e30, 1e-30] if values.dtype.kind == "f" else []
        flat = values.reshape(-1)
        flat[rng.randrange(flat.size)] = rng.choice(extremes)
        changed = bytes(block)
    return Mutant("extreme", original.name, _packed_again(original, changed), original)


def cut(rng: random.Random, original: Original, _: list[Original]) -> Mutant:
    keep = rng.choice((rng.randrange(len(original.data)), len(original.data) - rng.randrange(1, 9)))
    return Mutant("cut", original.name, original.data[:keep], original, faithful=True)


def renamed(rng: random.Random, original: Original, sound: list[Original]) -> Mutant:
    return Mutant("renamed", rng.choice(sound).name, original.data, original, faithful=True)


def bombed(rng: random.Random, original: Original, _: list[Original]) -> Mutant:
    megabytes = rng.choice((1, 300, 1200))
    if original.name.endswith(".nrrd"):
        header = original.plain.partition(b"\n\n")[0].replace(b"raw", b"gzip")
        sizes = rng.choice((b"8 7 6", b"300 300 300", b"2000 2000 2000"))
        header = header.replace(b"8 7 6", sizes)
        if rng.random() < 0.3:
            header = header.replace(b"encoding: gzip", b"encoding: bzip2")
        return Mutant("bomb", original.name, header + b"\n\n" + bomb(megabytes), original)
    start = bytearray(original.plain[:352])
    if rng.random() < 0.5:
        start[108:112] = np.float32(rng.choice((352, 2.0e9, 1e30, 15e6))).tobytes()  # vox_offset
    if rng.random() < 0.5:
        start[42:48] = np.int16(rng.choice(((300,) * 3, (2000,) * 3, (32767,) * 3))).tobytes()  # dim
    return Mutant("bomb", "bomb.nii.gz", bomb(megabytes, bytes(start)), original)


def spliced(rng: random.Random, original: Original, sound: list[Original]) -> Mutant:
    if original.name.endswith(".nrrd") and rng.random() < 0.7:
        first, _, rest = original.data.partition(b"\n")
        return Mutant(
            "splice", original.name, b"\n".join((first, rng.choice(SPLICED).encode(), rest)), original
        )
    other = rng.choice(sound).data
    data = original.data[: rng.randrange(len(original.data))] + other[rng.randrange(len(other)) :]
    return Mutant("splice", original.name, data, original)


def followed(rng: random.Random, original: Original, sound: list[Original]) -> Mutant:
    tail = rng.choice((b"\0", bytes(512), b"tail", rng.choice(sound).data, pack(b"more"), bomb(50)))
    return Mutant("followed", original.name, original.data + tail, original, faithful=True)


KINDS: tuple[Callable[[random.Random, Original, list[Original]], Mutant], ...] = (
    *(flip_in_file, flip_in_header, extreme_field, cut, renamed, bombed, spliced, followed),
)


def _read(folder: Path, name: str, data: bytes, channel: int | None) -> np.ndarray | None:
    """The voxels, or None where the file is refused; whatever else is raised is a failure."""
    path = folder / name
    path.write_bytes(data)
    try:
        grid = read_grid(Source(path, channel))
        volume = read_volume(Source(path, channel))
    except CaseError:
        return None
    assert volume.grid.same_as(grid)
    return volume.array


def run(folder: Path, count: int) -> dict[str, object]:
    """What came of the mutants."""
    sound = originals()
    voxels = {each.name: _read(folder, each.name, each.data, each.channel) for each in sound}
    base = forget_peak()
    outcome: Counter[str] = Counter()
    uncaught, slowest = [], 0.0
    for number, mutant in enumerate(mutants(count, seed=1)):
        start = time.monotonic()
        try:
            array = _read(folder, mutant.name, mutant.data, mutant.original.channel)
        except Exception as err:
            uncaught.append(f"{number} {mutant.kind} {mutant.name}: {err!r}"[:200])
            continue
        slowest = max(slowest, time.monotonic() - start)
        outcome[f"{mutant.kind} {'refused' if array is None else 'read'}"] += 1
        expected = voxels[mutant.original.name]
        if array is not None and mutant.faithful and not np.array_equal(array, expected):
            uncaught.append(f"{number} {mutant.kind} {mutant.name}: read with other voxels")
        if number % 20 == 0:
            control = sound[number // 20 % len(sound)]
            if not np.array_equal(
                _read(folder, control.name, control.data, control.channel), voxels[control.name]
            ):
                uncaught.append(f"{number}: {control.name}, which is sound, was not read")
    peak = peak_kb()
    return {
        "mutants": count,
        "outcome": outcome,
        "uncaught": uncaught,
        "slowest_s": slowest,
        "added_mb": (peak - base) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2])), indent=1))
