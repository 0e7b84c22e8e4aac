"""Random changes, drawn separately for each modality, that keep encoders from matching shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Jitter:
    """Largest random change of each kind.

    Without these changes, encoders could match two modalities by outline, grid or intensity level.

    Attributes:
        intensity: Log gain, and offset in interquartile ranges; hides the scanner and the intensity level.
        shift: Translation as a share of half the view; hides the resampling grid.
        scale: Logarithm of the scale factor along each axis.
        rotation: Angle about the long axis in radians.
    """

    intensity: float = 0.2
    shift: float = 0.04
    scale: float = 0.04
    rotation: float = 0.05


def augment_views(views: Tensor, foreground: Tensor, jitter: Jitter, generator: Generator) -> Tensor:
    """Change the intensity, pose and outline of every volume independently.

    Args:
        views: Views of the cases, shape (B, M, D, H, W).
        foreground: Foreground of each case, shape (B, D, H, W); 1 inside the body.
        jitter: Largest change of each kind.
        generator: CPU generator.

    Returns:
        Changed views, shape (B, M, D, H, W); zero outside the eroded foreground.
    """
    depth = functional.avg_pool3d(foreground[:, None], 3, stride=1, padding=1)  # 1 deep inside the body
    changed = [_augment(views[:, m, None], depth, jitter, generator) for m in range(views.shape[1])]
    return torch.cat(changed, dim=1)


def _augment(volumes: Tensor, depth: Tensor, jitter: Jitter, generator: Generator) -> Tensor:
    """One modality, shape (B, 1, D, H, W); one at a time, as the grids take three times its memory."""

    def draw(*shape: int) -> Tensor:
        """Uniform random numbers in [-1, 1] for each volume."""
        return (torch.rand(len(volumes), *shape, generator=generator) * 2 - 1).to(volumes.device)

    eroded = depth > 0.7 + 0.29 * draw(1, 1, 1, 1)
    gain, offset = jitter.intensity * draw(1, 1, 1, 1), jitter.intensity * draw(1, 1, 1, 1)
    changed = (volumes * gain.exp() + offset) * eroded
    grid = _sampling_grid(volumes.shape[2:], draw, jitter)
    return functional.grid_sample(changed, grid, align_corners=False)


def _sampling_grid(shape: Sequence[int], draw: Callable[..., Tensor], jitter: Jitter) -> Tensor:
    """Where each voxel of the changed volumes comes from, shape (B, D, H, W, 3), x first.

    Only x and y turn into one another, so the grid is a sum of lines, which costs a quarter of
    `affine_grid`'s product with full matrices.
    """
    angle, scale, shift = jitter.rotation * draw(), (jitter.scale * draw(3)).exp(), jitter.shift * draw(3)
    count, device = len(angle), angle.device
    z, y, x = (
        ((torch.arange(size, device=device) * 2 + 1) / size - 1).view(
            [-1 if axis == own else 1 for axis in range(3)]
        )
        for own, size in enumerate(shape)
    )

    def each(value: Tensor) -> Tensor:
        return value.view(count, 1, 1, 1)

    cos, sin = each(angle.cos()), each(angle.sin())
    from_x, from_y, from_z = (each(part) for part in scale.unbind(1))
    by_x, by_y, by_z = (each(part) for part in shift.unbind(1))
    grid = torch.empty(count, *shape, 3, device=device)
    grid[..., 0] = cos * from_x * x - sin * from_y * y + by_x
    grid[..., 1] = sin * from_x * x + cos * from_y * y + by_y
    grid[..., 2] = from_z * z + by_z
    return grid
