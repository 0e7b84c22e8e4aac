"""Voxels of an image file, a megabyte at a time: no file costs more than the array that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lib.cases.formats.file_bytes import skip
from lib.cases.formats.headers import Header

VOXELS_PER_STEP = 2**17  # voxels: 1 MB of the widest type
MAX_VALUE = 1e9  # no unit of an image reaches it; activity in Bq/ml comes nearest
MAX_LABEL = 2**16 - 1  # label maps number structures; the largest atlas in use ends at 14,175


def read_voxels(
    header: Header, content: BinaryIO, dtype: type[np.generic], impossible: Callable[[NDArray[Any]], int]
) -> tuple[NDArray[Any], int]:
    """The voxels of the header's channel; everything up to the end is read and its checksum verified.

    Memory: the array, as wide as `dtype`, and about 4 MB, whatever the file holds and however it is packed.
    The other channels of a 4-D file are unpacked and dropped.

    Args:
        header: What to expect.
        content: Unpacked, right after the header.
        dtype: Type of the array.
        impossible: Counts the voxels of a piece that such an array cannot hold.

    Returns:
        (D, H, W) values, and how many are impossible.

    Raises:
        EOFError: If the content is shorter or longer than the header says.
        zlib.error: If it is packed and damaged.
    """
    size = header.voxels * header.dtype.itemsize
    skip(content, header.gap + header.channel * size)
    array, damaged = np.empty(header.voxels, dtype=dtype), 0
    buffer = bytearray(VOXELS_PER_STEP * header.dtype.itemsize)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted
        for start in range(0, header.voxels, VOXELS_PER_STEP):
            count = min(VOXELS_PER_STEP, header.voxels - start)
            piece = memoryview(buffer)[: count * header.dtype.itemsize]
            if content.readinto(piece) < len(piece):  # type: ignore[attr-defined]
                raise EOFError("there is less than its header says")
            values = np.frombuffer(piece, dtype=header.dtype)
            if (header.slope, header.intercept) != (1.0, 0.0):
                values = values * np.float64(header.slope) + np.float64(header.intercept)
            damaged += impossible(values)
            array[start : start + count] = values
    skip(content, (header.channels - 1 - header.channel) * size)
    if content.read(1):
        raise EOFError("there is more than its header says")
    return array.reshape(header.shape), damaged


def beyond_images(values: NDArray[Any]) -> int:
    """How many finite values no image has; NaN and infinity are left to the pool check, which counts them."""
    if values.min() >= -MAX_VALUE and values.max() <= MAX_VALUE:  # NaN is neither
        return 0
    return int(np.count_nonzero(np.isfinite(values) & ((values > MAX_VALUE) | (values < -MAX_VALUE))))


def beyond_labels(values: NDArray[Any]) -> int:
    """How many values are no whole number from 0 to `MAX_LABEL`."""
    if values.dtype.kind in "ui":
        if values.min() >= 0 and values.max() <= MAX_LABEL:
            return 0
        return int(np.count_nonzero((values < 0) | (values > MAX_LABEL)))
    whole = (values == np.rint(values)) & (values >= 0) & (values <= MAX_LABEL)  # NaN is none of them
    return int(values.size - np.count_nonzero(whole))
