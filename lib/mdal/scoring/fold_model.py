"""Model of one fold: frozen encoders, a fitted head and the patients that they were trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lib.mdal.representation.contrastive import ContrastiveSettings, TrainingCourse, train_encoders
from lib.mdal.representation.encoder import Encoders, EncoderSettings
from lib.mdal.representation.matching import matched_share
from lib.mdal.representation.views import PoolViews
from lib.mdal.scoring.heads import GaussianHead, embed, pool_positions
from lib.mdal.scoring.perturbation import typical_appearance
from lib.mdal.scoring.pmi import Rows
from lib.runtime.files import replacing
from lib.runtime.progress import OnShareDone

FIT_CASES = 96  # cases for a head
_TYPICAL_CASES = 256


@dataclass(frozen=True, eq=False)
class FoldModel:
    """Encoders and head of one fold.

    Attributes:
        encoders: Trained encoders, in evaluation mode.
        course: How well the held-out patients were matched in the course of the training.
        head: Head fitted to the training cases, for held-out patients that are too few to fit one to.
        trained_on: Patients of the training cases.
        in_sample_nats: Mean PMI in nats of the cases that the head was fitted to; used by a gate, never to
            rank cases.
        typical: Mean and standard deviation of the coarse training views at each voxel, shape
            (2, M + 1, D, H, W).
    """

    encoders: Encoders
    course: TrainingCourse
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
            "course": asdict(self.course),
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
            TrainingCourse(**content["course"]),
            GaussianHead.from_state(content["head"]),
            frozenset(content["trained_on"]),
            content["in_sample_nats"],
            content["typical"],
        )


def train_fold(
    views: PoolViews,
    patients: NDArray[np.str_],
    rows: Rows,
    held_out: Rows,
    settings: ContrastiveSettings,
    *,
    seed: int,
    device: torch.device,
    on_progress: OnShareDone,
) -> FoldModel:
    """Train encoders and fit a head on some cases of a pool.

    Args:
        views: Views of the whole pool.
        patients: Patient of each case, shape (N,).
        rows: Rows of the training cases.
        held_out: Rows of cases of other patients, whose matching decides when the training ends.
        settings: Schedule and network size.
        seed: Seed of all random draws.
        device: Device to train on.
        on_progress: Called with the share of the training done.
    """
    generator = torch.Generator().manual_seed(seed)
    first, inverse = np.unique(patients, return_index=True, return_inverse=True)[1:]
    groups = first[inverse]  # numbered by first appearance, so that names do not matter
    cases = views.of_patients(groups)
    trained = train_encoders(
        cases, settings, generator, on_progress, rows=rows, held_out=held_out, device=device
    )
    encoders, course = trained.encoders, trained.course
    if not course.matched:
        share, chance = matched_share(encoders, cases, held_out)
        course = replace(course, matched={course.best_steps: share}, chance=chance)
    drawn = torch.randperm(len(rows), generator=generator)[:_TYPICAL_CASES].sort().values.numpy()
    fitted = drawn[:: -(-len(drawn) // FIT_CASES)]
    fitted = fitted[np.argsort(groups[rows[fitted]], kind="stable")]  # a patient's cases together
    training = embed(encoders, views, rows[fitted], device)
    head = GaussianHead.fit(training)
    in_sample = pool_positions(head.pmi(training))
    return FoldModel(
        encoders,
        course,
        head,
        frozenset(patients[rows].tolist()),
        float(np.nanmean(in_sample)) if np.isfinite(in_sample).any() else float("nan"),
        typical_appearance(views.coarse(rows[drawn]), views.present[rows[drawn]]),
    )
