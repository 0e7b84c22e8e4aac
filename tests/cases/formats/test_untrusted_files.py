"""Files that were made to harm: what is opened at all, and at what cost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lib.cases.case import Source
from tests.support.mutants import bomb, pack
from tests.support.untrusted_images import GZIPPED, nifti, put, refusal
from tests.support.viewer_place import meta_file


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.nii.gz", "a.mha"])
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
    zlib_bomb = b"\x78\x9c" + bomb(4000)[10:-8] + bytes(4)  # the same bytes between other ends
    bombs = {
        "voxels.nii.gz": bomb(4000, nifti()),
        "extension.nii.gz": bomb(4000, nifti(vox_offset=2.0e9)[:352]),
        "size.nii.gz": bomb(4000, nifti(dim=[3, 2000, 2000, 2000, 1, 1, 1, 1])[:352]),
        "channels.nii.gz": bomb(4000, nifti(dim=[4, 500, 500, 500, 30000, 1, 1, 1])[:352]),
        "gzip.nrrd": GZIPPED + bomb(4000),
        "voxels.mha": meta_file(zlib_bomb, CompressedData="True", CompressedDataSize=str(len(zlib_bomb))),
        "size.mha": meta_file(b"", DimSize="2000 2000 2000"),
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
