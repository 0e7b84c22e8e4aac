"""Random changes, drawn separately for each modality, that keep encoders from matching shortcuts."""

from __future__ import annotations

from collections.abc import Callable
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
    volumes = views.flatten(0, 1)[:, None]  # (B * M, 1, D, H, W)

    def draw(*shape: int) -> Tensor:
        """Uniform random numbers in [-1, 1] for each volume."""
        return (torch.rand(len(volumes), *shape, generator=generator) * 2 - 1).to(views.device)

    depth = functional.avg_pool3d(foreground[:, None], 3, stride=1, padding=1)  # 1 deep inside the body
    depth = depth.repeat_interleave(views.shape[1], dim=0)
    eroded = depth > 0.7 + 0.29 * draw(1, 1, 1, 1)
    gain, offset = jitter.intensity * draw(1, 1, 1, 1), jitter.intensity * draw(1, 1, 1, 1)
    changed = (volumes * gain.exp() + offset) * eroded
    grid = functional.affine_grid(_poses(draw, jitter), list(changed.shape), align_corners=False)
    return functional.grid_sample(changed, grid, align_corners=False).view_as(views)


def _poses(draw: Callable[..., Tensor], jitter: Jitter) -> Tensor:
    """Affine maps, shape (B * M, 3, 4), with the axes in the order x, y, z that `affine_grid` expects."""
    angle = jitter.rotation * draw()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], dim=1).view(-1, 3, 3)
    return torch.cat([rotation * (jitter.scale * draw(1, 3)).exp(), jitter.shift * draw(3, 1)], dim=2)
