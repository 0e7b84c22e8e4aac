"""Reading of voxels in steps of a megabyte; no file needs more memory than its array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lib.cases.formats.file_bytes import skip
from lib.cases.formats.headers import Header

VOXELS_PER_STEP = 2**17  # voxels: 1 MB of the widest type
MAX_VALUE = 1e9  # above all values of images; activity in Bq/ml comes nearest
MAX_LABEL = 2**16 - 1  # the largest atlas in use ends at 14,175
IGNORED = 255  # in labels with this app's values: nobody annotated this voxel


def read_voxels(
    header: Header, content: BinaryIO, dtype: type[np.generic], impossible: Callable[[NDArray[Any]], int]
) -> tuple[NDArray[Any], int]:
    """Voxels of the header's channel; the content is read to its end, so that its checksum is verified.

    Memory: the array in `dtype` and about 4 MB, for any content and compression. The other channels of a 4-D
    file are unpacked and dropped.

    Args:
        header: Header of the file.
        content: Unpacked content right after the header.
        dtype: Type of the array.
        impossible: Counts the voxels of a step that an array of this kind cannot hold.

    Returns:
        Values of shape (D, H, W), and the number of impossible ones.

    Raises:
        EOFError: If the content is shorter or longer than the header says.
        zlib.error: If the content is packed and damaged.
    """
    size = header.voxels * header.dtype.itemsize
    skip(content, header.gap + header.channel * size)
    array, damaged = np.empty(header.voxels, dtype=dtype), 0
    buffer = bytearray(VOXELS_PER_STEP * header.dtype.itemsize)
    with np.errstate(over="ignore", invalid="ignore"):  # overflows are counted below
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
    """Number of finite values that no image has; the pool check counts NaN and infinity."""
    if values.min() >= -MAX_VALUE and values.max() <= MAX_VALUE:  # False if there is a NaN
        return 0
    return int(np.count_nonzero(np.isfinite(values) & ((values > MAX_VALUE) | (values < -MAX_VALUE))))


def beyond_labels(values: NDArray[Any]) -> int:
    """Number of values that are not whole numbers from 0 to `MAX_LABEL`."""
    if values.dtype.kind in "ui":
        if values.min() >= 0 and values.max() <= MAX_LABEL:
            return 0
        return int(np.count_nonzero((values < 0) | (values > MAX_LABEL)))
    whole = (values == np.rint(values)) & (values >= 0) & (values <= MAX_LABEL)  # False for NaN
    return int(values.size - np.count_nonzero(whole))


def present_values(labels: NDArray[np.uint16]) -> set[int]:
    """Values of a label map other than 0, found step by step: sorting all voxels would double the memory."""
    found, voxels = np.zeros(MAX_LABEL + 1, dtype=bool), labels.reshape(-1)
    for start in range(0, voxels.size, VOXELS_PER_STEP):
        found[voxels[start : start + VOXELS_PER_STEP].astype(np.intp)] = True
    return set(np.flatnonzero(found).tolist()) - {0}
