"""Two modalities made of shapes, for which it is known what one modality shows and the other does not.

An image has three rows. The middle row holds a square, left or right at random. Both modalities show the
square, so its side is *shared*. The upper row belongs to A and the lower row to B. A modality shows two
discs, left and right, in its own row, and a small mark on one of the two discs in the other modality's row.
The marked side is *private*: only the modality that shows the mark shows it.

Subtask `first`, led by A, outlines the square and the marked disc of the upper row. Subtask `second`, led by
B, outlines the square and the marked disc of the lower row. So a subtask's primary shows the outlines, and
its auxiliary shows which of the two discs is meant. The auxiliary also shows the square, which the primary
shows as well. Sides are drawn independently with equal probability, so chance is 0.5. The position of each
shape varies a little, and each modality has its own noise. Shapes are made of blocks of 2 x 2 pixels, the
stride of the network's stem, so that the stem loses nothing of an outline: a loss that no weight can remove
would drown the small price of a message.

The dial: with probability `redundancy` the primary shows an image's mark too. At 0 only the auxiliary shows
the side; at 1 the auxiliary has nothing to add.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lib.ciml.decomposition.subtask import Region, Subtask
from lib.ciml.decomposition.table import Decomposition

MODALITIES = ("A", "B")
SIZE, GRAIN = 32, 2  # pixels
NOISE = 0.1  # standard deviation; shapes have an intensity of 1
LEFT, RIGHT = 8.0, 24.0  # pixels
MIDDLE, ROWS = 16.0, (6.0, 26.0)


@dataclass(frozen=True, eq=False)
class Shapes:
    """Images and their truth.

    Attributes:
        images: Images of A and B, shape (N, 2, H, W).
        regions: Masks of the square and of the marked discs of A's and B's row, 0 or 1, shape (N, 3, H, W).
        shared: Whether the square lies on the right, bool, shape (N,).
        private: Whether the marked disc of A's and of B's row is the right one, bool, shape (N, 2).
    """

    images: Tensor
    regions: Tensor
    shared: Tensor
    private: Tensor


def decomposition(*, messages: bool = True) -> Decomposition:
    """The two subtasks; without messages each sees its primary only."""
    names = ("square", "disc of A", "disc of B")
    return Decomposition(
        "shapes",
        {name: value for value, name in enumerate(names, start=1)},
        tuple(Region(name, (value,)) for value, name in enumerate(names, start=1)),
        tuple(
            Subtask(subtask, (primary,), (auxiliary,) if messages else (), ("square", f"disc of {primary}"))
            for subtask, primary, auxiliary in (("first", "A", "B"), ("second", "B", "A"))
        ),
    )


def draw(count: int, *, redundancy: float, generator: Generator) -> Shapes:
    """Draw new images.

    Args:
        count: Number of images.
        redundancy: Probability that the primary shows the mark too.
        generator: Source of all randomness.
    """
    shared = torch.rand(count, generator=generator) < 0.5
    private = torch.rand(count, 2, generator=generator) < 0.5
    square = _square(_near(MIDDLE, 3.0, count, generator), _beside(shared, generator))
    images = square[:, None].repeat(1, 2, 1, 1)
    discs = []
    for primary, row in enumerate(ROWS):
        left, right = (
            _disc(
                _near(row, 2.0, count, generator),
                _near(column, 4.0, count, generator),
                _near(3.5, 1.0, count, generator),
            )
            for column in (LEFT, RIGHT)
        )
        mark = _disc(
            _near(row, 2.0, count, generator),
            _beside(private[:, primary], generator),
            torch.full((count, 1, 1), 1.5),
        )
        also = torch.rand(count, 1, 1, generator=generator) < redundancy
        images[:, primary] += left + right + also * mark
        images[:, 1 - primary] += mark
        discs.append(torch.where(private[:, primary, None, None], right, left))
    images += NOISE * torch.randn(images.shape, generator=generator)
    return Shapes(images, torch.stack([square, *discs], dim=1), shared, private)


def _near(value: float, width: float, count: int, generator: Generator) -> Tensor:
    """Values drawn evenly from an interval of this width around `value`, shape (N, 1, 1)."""
    return value + width * (torch.rand(count, 1, 1, generator=generator) - 0.5)


def _beside(right: Tensor, generator: Generator) -> Tensor:
    """Columns in pixels of shapes that lie right or left, shape (N, 1, 1)."""
    middle = torch.where(right, RIGHT, LEFT)[:, None, None]
    return middle + _near(0.0, 4.0, len(right), generator)


def _distances(row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Distances in pixels, shapes (N, H, 1) and (N, 1, W); equal within a block of GRAIN x GRAIN pixels."""
    places = GRAIN * (torch.arange(SIZE) // GRAIN + 0.5)
    return (places[:, None] - row).abs(), (places[None, :] - column).abs()


def _disc(row: Tensor, column: Tensor, radius: Tensor) -> Tensor:
    down, across = _distances(row, column)
    return (down.square() + across.square() < radius.square()).float()


def _square(row: Tensor, column: Tensor, *, half: float = 3.0) -> Tensor:
    down, across = _distances(row, column)
    return ((down < half) & (across < half)).float()
