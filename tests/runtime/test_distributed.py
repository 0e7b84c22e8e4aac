"""Pieces of work shared out to processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lib.runtime.distributed import share_out

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Note:
    """Writes which process did which piece with how many threads."""

    folder: Path

    def __call__(self, piece, device, tell):
        tell(0.5)
        if piece == 99:
            raise ValueError("piece 99 must not be asked for")
        (self.folder / str(piece)).write_text(f"{os.getpid()} {torch.get_num_threads()}")
        tell(1.0)


def test_one_process_does_every_piece_with_one_thread_and_gives_the_threads_back(tmp_path):
    before, told = torch.get_num_threads(), []
    share_out(Note(tmp_path), range(3), device=CPU, on_progress=told.append)
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1", "2"}
    assert {file.read_text() for file in tmp_path.iterdir()} == {f"{os.getpid()} 1"}
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_two_processes_do_half_of_the_pieces_each(tmp_path):
    share_out(Note(tmp_path), range(5), device=CPU, processes=2)
    done = [file.read_text() for file in sorted(tmp_path.iterdir())]
    assert len(done) == 5
    assert done[0] == done[2] == done[4]
    assert done[1] == done[3]
    assert len(set(done)) == 2
    assert all(text.endswith(" 1") for text in done)


@pytest.mark.slow
def test_an_error_in_another_process_is_raised_here(tmp_path):
    with pytest.raises(Exception, match="piece 99 must not be asked for"):
        share_out(Note(tmp_path), [0, 99], device=CPU, processes=2)
