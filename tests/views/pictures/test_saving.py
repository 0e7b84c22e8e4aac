"""A figure keeps its background whatever other threads write meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lib.views.pictures.saving import save_jpeg, save_png


@pytest.mark.parametrize("save", [save_png, save_jpeg])
def test_a_black_figure_is_black_while_another_thread_writes_a_jpeg(
    save: Callable[[Figure, Path], None], tmp_path: Path
) -> None:
    figure = Figure((1, 1), facecolor="black")
    with mpl.rc_context({"savefig.facecolor": "white"}):  # as Matplotlib sets it meanwhile
        save(figure, tmp_path / "picture")
    with Image.open(tmp_path / "picture") as picture:
        assert np.asarray(picture.convert("L")).max() < 10
