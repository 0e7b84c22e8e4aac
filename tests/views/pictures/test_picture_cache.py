"""Pictures on disk: made once, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.views.pictures import picture_cache
from lib.views.pictures.picture_cache import PictureCache


def test_a_picture_is_made_once_for_what_it_shows(tmp_path: Path) -> None:
    kept, made = PictureCache(tmp_path, max_bytes=1e6), []

    def make(path: Path) -> None:
        made.append(path)
        path.write_bytes(b"picture")

    first = kept.file("a", 1, suffix=".jpg", make=make)
    assert kept.file("a", 1, suffix=".jpg", make=make) == first
    assert (len(made), first.read_bytes(), first.suffix) == (1, b"picture", ".jpg")
    assert kept.file("a", 2, suffix=".jpg", make=make) != first
    assert len(made) == 2


def test_a_picture_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        PictureCache(tmp_path, max_bytes=1e6).file("a", suffix=".jpg", make=fail)
    assert list(tmp_path.iterdir()) == []


def test_only_so_many_bytes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "IN_USE_S", 0.0)
    kept = PictureCache(tmp_path, max_bytes=250)
    for number in range(5):
        last = kept.file(number, suffix=".jpg", make=lambda path: path.write_bytes(bytes(100)))
    assert len(list(tmp_path.iterdir())) == 2
    assert last.exists()
