"""Arrays in the program's own files: a damaged file raises, and is closed."""

from pathlib import Path

import numpy as np
import pytest

from lib.runtime.own_files import UNREADABLE, map_array, read_arrays

DAMAGES = {"zip": b"PK\x03\x04" + bytes(50), "pickle": b"\x80\x04]q\x00.", "text": b"no array", "empty": b""}


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("read", [map_array, read_arrays])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_raises_and_is_closed(tmp_path: Path, read, damage: str) -> None:
    file = tmp_path / "array"
    file.write_bytes(DAMAGES[damage])
    with pytest.raises(UNREADABLE):
        read(file)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", values=values)
    assert (map_array(tmp_path / "a.npy") == values).all()
    assert (read_arrays(tmp_path / "b.npz")["values"] == values).all()
