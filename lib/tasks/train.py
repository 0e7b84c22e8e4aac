"""Training on the labels there are, in MONAI Label's child process."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.tasks.train import TrainTask

from lib.atomic import replacing
from lib.cases.case import Case, CaseError
from lib.cases.image import resample
from lib.ciml.checkpoint import load, save
from lib.ciml.network import CimlNetwork, NetworkSettings
from lib.ciml.patches import TrainingCase
from lib.ciml.training import EpochReport, TrainingSettings, train
from lib.ciml.validation import validate
from lib.compute import device_of, spare_cores
from lib.datastores.local import CaseDatastore
from lib.lifetime import end_with_the_server
from lib.refusal import Refusal
from lib.site import Site
from lib.tasks.split import split_patients

logger = logging.getLogger(__name__)
STATS = "train_stats.json"


class CimlTrain(TrainTask):
    """CIML as reconstructed from its abstract, trained on every case with a final label."""

    def __init__(self, site: Site, model_file: Path) -> None:
        """Publish to `model_file`."""
        super().__init__("Train CIML on the cases with a final label")
        self.site, self.model_file = site, model_file

    def config(self) -> dict[str, Any]:
        """What a client can change, with its default."""
        return {"max_epochs": self._epochs({})}

    def stats(self) -> dict[str, Any]:
        """The last or running training, as clients show it."""
        try:
            stats: dict[str, Any] = json.loads((self.model_file.parent / STATS).read_text())
        except FileNotFoundError:
            return {}
        return stats

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any]:
        """Train, and publish what is not worse than the published model on the same validation patients.

        Raises:
            Refusal: If there are fewer labelled patients than a training needs.
        """
        torch.set_num_threads(spare_cores())
        end_with_the_server()
        learn, check = self._split([case for case in self.site.served if case.id in datastore.labelled()])
        device = device_of(self.site.settings.device)
        learning = [self._load(case, datastore) for case in learn]
        checking = [self._load(case, datastore) for case in check]
        network, previous = self._network(device)
        before = _mean(validate(network, checking, device=device)) if previous else None
        settings = TrainingSettings(epochs=self._epochs(request))
        self._write_stats({"epoch": 0, "total_epochs": settings.epochs, "best_metric": before or 0.0})
        start = time.monotonic()
        result = train(
            network,
            learning,
            checking,
            settings,
            seed=self.site.settings.seed,
            device=device,
            on_epoch=lambda report: self._tell(report, before),
        )
        after = float(result.dice or 0.0)
        stats = {
            "epoch": settings.epochs,
            "total_epochs": settings.epochs,
            "best_metric": max(after, before or 0.0),
            "total_time": round(time.monotonic() - start, 1),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "training_cases": len(learn),
            "validation_cases": len(check),
            "trained_on": [case.id for case in learn],
            "validated_on": [case.id for case in check],
            "seed": self.site.settings.seed,
            "dice": after,
            "previous_dice": before,
            "dice_by_region": result.dice_by_region,
            "published": before is None or after >= before,
            "version": int(previous.get("version", 0)) + 1,
        }
        if stats["published"]:
            save(self.model_file, network, stats)
        else:
            stats["version"] = previous["version"]
        self._write_stats(stats)
        logger.info(
            "model %s: validation Dice %.3f, before %s",
            "published" if stats["published"] else "not published",
            after,
            "none" if before is None else f"{before:.3f}",
        )
        return stats

    def _tell(self, report: EpochReport, before: float | None) -> None:
        dice = "" if report.dice is None else f", validation Dice {report.dice:.3f}"
        logger.info(
            "epoch %d of %d: loss %.3f%s, %.0f s left",
            report.epoch,
            report.epochs,
            report.loss,
            dice,
            report.seconds_left,
        )
        self._write_stats(
            {
                "epoch": report.epoch,
                "total_epochs": report.epochs,
                "train": asdict(report),
                "seconds_left": round(report.seconds_left, 1),
                "best_metric": max(before or 0.0, report.dice or 0.0),
            }
        )

    def _split(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        patients, needed = {case.patient for case in cases}, self.site.settings.minimum_labels
        if len(patients) < needed:
            raise Refusal(
                f"training needs final labels of at least {needed} patients; there are {len(patients)}. "
                f"Label {needed - len(patients)} more and submit them."
            )
        held_out = split_patients(
            self.model_file.parent / "split.json", patients, share=self.site.settings.validation_share
        )
        learn = [case for case in cases if case.patient not in held_out]
        check = [case for case in cases if case.patient in held_out]
        if not learn or not check:
            side = "validation" if not learn else "training"
            raise Refusal(
                f"training needs labelled patients on both sides of the split; all {len(cases)} cases are on "
                f"the {side} side. Label more."
            )
        return learn, check

    def _load(self, case: Case, datastore: CaseDatastore) -> TrainingCase:
        try:
            prepared = self.site.cache.get(case)
            label = resample(datastore.read_label(case), prepared.grid, nearest=True).array
            return TrainingCase(prepared, label)
        except CaseError as err:
            raise Refusal(f"case {case.id} cannot be trained on: {err}") from err

    def _network(self, device: torch.device) -> tuple[CimlNetwork, dict[str, Any]]:
        """The published network, to go on from, if it fits this pool; else a new one."""
        modalities, decomposition = self.site.preparation.modalities, self.site.decomposition
        if self.model_file.exists():
            network, metadata = load(self.model_file, device)
            if network.modalities == modalities and network.decomposition == decomposition:
                return network, metadata
            logger.warning("the published model was trained on other modalities or labels; starting anew")
        size = self.site.settings.network
        torch.manual_seed(self.site.settings.seed)
        chosen = ("base" if device.type == "cuda" else "tiny") if size == "auto" else size
        return CimlNetwork(decomposition, modalities, NetworkSettings.of_size(chosen)), {}

    def _epochs(self, request: Mapping[str, Any]) -> int:
        default = self.site.settings.train_epochs or TrainingSettings().epochs
        asked = request.get("max_epochs", default)
        if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= 100_000:
            raise Refusal(f"max_epochs must be a whole number from 1; got {str(asked)[:40]!r}.")
        return asked

    def _write_stats(self, stats: Mapping[str, Any]) -> None:
        with replacing(self.model_file.parent / STATS) as part:
            part.write_text(json.dumps(stats, allow_nan=False))


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
