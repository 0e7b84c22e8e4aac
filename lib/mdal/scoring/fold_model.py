"""Model of one fold: frozen encoders, a fitted head and the patients that they were trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lib.mdal.representation.contrastive import ContrastiveSettings, train_encoders
from lib.mdal.representation.encoder import Encoders, EncoderSettings
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.heads import GaussianHead, embed, pool_positions
from lib.mdal.scoring.perturbation import typical_appearance
from lib.mdal.scoring.pmi import Rows
from lib.runtime.files import replacing
from lib.runtime.progress import OnShareDone

_FIT_CASES = 256  # cases for the head: 50,000 positions, more than a covariance of 32 dimensions needs


@dataclass(frozen=True, eq=False)
class FoldModel:
    """Encoders and head of one fold.

    Attributes:
        encoders: Trained encoders, in evaluation mode.
        head: Head fitted to the training cases.
        trained_on: Patients of the training cases.
        in_sample_nats: Mean PMI in nats of the cases that the head was fitted to; used by a gate, never to
            rank cases.
        typical: Mean and standard deviation of the training views at each voxel, shape
            (2, M + 1, D, H, W).
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
        """Saved model, with its encoders on `device`."""
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
    on_progress: OnShareDone,
) -> FoldModel:
    """Train encoders and fit a head on some cases of a pool.

    Args:
        views: Views of the whole pool; only the training cases are read.
        patients: Patient of each case, shape (N,).
        rows: Rows of the training cases.
        settings: Schedule and network size.
        seed: Seed of all random draws.
        device: Device to train on.
        on_progress: Called with the share of the training done.
    """
    generator = torch.Generator().manual_seed(seed)
    first, inverse = np.unique(patients, return_index=True, return_inverse=True)[1:]
    groups = first[inverse]  # numbered by first appearance, so that names do not matter
    trained = train_encoders(
        views.of_patients(groups), settings, generator, on_progress, rows=rows, device=device
    )
    encoders = trained.encoders
    drawn = torch.randperm(len(rows), generator=generator)[:_FIT_CASES].sort().values.numpy()
    drawn = drawn[np.argsort(groups[rows[drawn]], kind="stable")]  # the head needs a patient's cases together
    training = embed(encoders, views, rows[drawn], device)
    head = GaussianHead.fit(training)
    in_sample = pool_positions(head.pmi(training))
    return FoldModel(
        encoders,
        head,
        frozenset(patients[rows].tolist()),
        float(np.nanmean(in_sample)) if np.isfinite(in_sample).any() else float("nan"),
        typical_appearance(views.array[rows[drawn]], views.present[rows[drawn]]),
    )
