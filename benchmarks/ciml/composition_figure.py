"""A picture of the messages of the composition study: what B sends to A at the default beta and at beta 0.

python -m benchmarks.ciml.composition_figure
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from benchmarks.ciml import shapes
from benchmarks.ciml.composition_measurement import Setting, trained
from benchmarks.common.folders import ROOT
from lib.ciml.network.ciml_network import Output
from lib.ciml.training.loss import message_kl
from lib.ciml.training.settings import TrainingSettings

PICTURE = ROOT / "docs" / "composition.png"
SAMPLES = 3


def main(
    output: Annotated[Path, typer.Option(help="PNG to write.")] = PICTURE,
    seed: Annotated[int, typer.Option(help="Seed of the trainings and of the images.")] = 0,
) -> None:
    """Train two networks and draw what they send: python -m benchmarks.ciml.composition_figure."""
    torch.set_num_threads(1)
    world = shapes.draw(SAMPLES, redundancy=0.0, generator=Generator().manual_seed(seed))
    columns = [
        ("A, primary", world.images[:, 0].numpy(), False),
        ("B, sender", world.images[:, 1].numpy(), False),
        ("to outline", world.regions[:, :2].sum(dim=1).numpy(), False),
    ]
    for beta in (TrainingSettings().beta, 0.0):
        network = trained(Setting("ciml", beta, 0.0, seed))
        with torch.inference_mode():
            sent = network(world.images)
        columns += [
            (f"|z|, beta = {beta:g}", magnitude(sent), True),
            (f"KL, beta = {beta:g}", cost(sent), True),
        ]
    picture(columns).savefig(output, dpi=110)


def magnitude(sent: Output) -> NDArray[np.float32]:
    """Mean |mu| of the messages to the first subtask over channels and levels, shape (N, H, W)."""
    return _map(sent, [message.mu.abs() for message in sent.messages])


def cost(sent: Output) -> NDArray[np.float32]:
    """Mean KL in nats of the messages to the first subtask over channels and levels, shape (N, H, W)."""
    return _map(sent, [message_kl(message) for message in sent.messages])


def _map(sent: Output, values: list[Tensor]) -> NDArray[np.float32]:
    first = [
        functional.interpolate(value.mean(dim=1, keepdim=True), size=(shapes.SIZE, shapes.SIZE))[:, 0]
        for message, value in zip(sent.messages, values, strict=True)
        if message.subtask == "first"
    ]
    return np.asarray(torch.stack(first).mean(dim=0).numpy(), dtype=np.float32)


def picture(columns: list[tuple[str, NDArray[np.float32], bool]]) -> Figure:
    """One row per sample; the maps of a column share a scale, whose upper end is in the column's title."""
    figure = Figure(figsize=(1.5 * len(columns), 1.55 * SAMPLES + 0.4), layout="constrained")
    for place, (title, images, is_map) in enumerate(columns):
        for row, image in enumerate(images):
            axes = figure.add_subplot(SAMPLES, len(columns), row * len(columns) + place + 1)
            axes.imshow(image, cmap="inferno" if is_map else "gray", vmin=0.0, vmax=images.max())
            axes.set_axis_off()
            if row == 0:
                axes.set_title(f"{title}\n0 to {images.max():.2g}" if is_map else f"{title}\n", fontsize=8)
    return figure


if __name__ == "__main__":
    typer.run(main)
