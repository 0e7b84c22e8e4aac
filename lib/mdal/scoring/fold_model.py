"""What one training of one fold leaves behind: frozen encoders, a fitted head, whom they saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lib.mdal.representation.contrastive import ContrastiveSettings, train_encoders
from lib.mdal.representation.encoder import Encoders, EncoderSettings
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.heads import GaussianHead, embed, pool_positions
from lib.mdal.scoring.pmi import Rows
from lib.runtime.files import replacing

_FIT_CASES = 256  # 50,000 positions: more than a covariance of 32 dimensions needs


@dataclass(frozen=True, eq=False)
class FoldModel:
    """Encoders and head of one fold.

    Attributes:
        encoders: In evaluation mode.
        head: Fitted to the same cases.
        trained_on: Patients that both saw.
        in_sample_nats: Mean PMI of the cases it was fitted to; a gate, never a rank.
        typical: (2, M + 1, D, H, W) mean and deviation of the training views at each voxel.
    """

    encoders: Encoders
    head: GaussianHead
    trained_on: frozenset[str]
    in_sample_nats: float
    typical: torch.Tensor

    def save(self, path: Path) -> None:
        """Write the model, atomically."""
        content = {
            "encoder": asdict(self.encoders.settings),
            "modalities": len(self.encoders.encoders),
            "weights": {name: value.cpu() for name, value in self.encoders.state_dict().items()},
            "head": self.head.state(),
            "trained_on": sorted(self.trained_on),
            "in_sample_nats": self.in_sample_nats,
            "typical": self.typical,
        }
        with replacing(path) as part:
            torch.save(content, part)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> FoldModel:
        """The model that was saved."""
        content = torch.load(path, map_location="cpu", weights_only=True)
        encoders = Encoders(content["modalities"], EncoderSettings(**content["encoder"]))
        encoders.load_state_dict(content["weights"])
        return cls(
            encoders.to(device).eval(),
            GaussianHead.from_state(content["head"]),
            frozenset(content["trained_on"]),
            content["in_sample_nats"],
            content["typical"],
        )


def train_fold(
    views: PoolViews,
    patients: NDArray[np.str_],
    rows: Rows,
    settings: ContrastiveSettings,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[float], None],
) -> FoldModel:
    """Train encoders and head on some rows of a pool.

    Args:
        views: Of the whole pool; only the rows are read.
        patients: (N,) of each case.
        rows: To train on.
        settings: Schedule and networks.
        seed: Decides everything that is drawn.
        device: Where to train.
        on_progress: Told the share done.
    """
    generator = torch.Generator().manual_seed(seed)
    first, inverse = np.unique(patients, return_index=True, return_inverse=True)[1:]
    groups = first[inverse]  # by place, so that names decide nothing
    encoders = train_encoders(
        views.views,
        views.present,
        views.foreground,
        groups,
        settings,
        generator,
        on_progress,
        rows=rows,
        device=device,
    )
    drawn = torch.randperm(len(rows), generator=generator)[:_FIT_CASES].sort().values.numpy()
    drawn = drawn[np.argsort(groups[rows[drawn]], kind="stable")]  # a patient's cases together, for the head
    training = embed(encoders, views, rows[drawn], device)
    head = GaussianHead.fit(training)
    in_sample = pool_positions(head.pmi(training))
    sample = np.asarray(views.array[rows[drawn]], dtype=np.float32)
    return FoldModel(
        encoders,
        head,
        frozenset(patients[rows].tolist()),
        float(np.nanmean(in_sample)) if np.isfinite(in_sample).any() else float("nan"),
        torch.from_numpy(np.stack([sample.mean(axis=0), sample.std(axis=0)])),
    )
