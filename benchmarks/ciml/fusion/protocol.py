"""The protocol of a comparison of networks on a pool, written before the first run."""

from __future__ import annotations

from itertools import product

from pydantic import Field, model_validator

from benchmarks.common.protocols import Part, PoolProtocol, with_steps
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.train import TrainingSettings

WITHOUT_PRICE = "ciml_beta0"


class Trial(Part):
    """A learning rate and a number of steps."""

    learning_rate: float = Field(gt=0)
    steps: int = Field(gt=0)


class Tuning(Part):
    """Trials of every method, the same for all, among the candidates of the first division alone.

    Attributes:
        pool: Name of the protocol whose pool the trials are made on.
        learning_rates: Learning rates that are tried.
        steps: Numbers of steps that are tried with each.
        labels: Number of candidates to train on.
        ask: Number of candidates that are outlined and not trained on: the first by the SHA-256 of their id.
    """

    pool: str
    learning_rates: tuple[float, ...]
    steps: tuple[int, ...]
    labels: int
    ask: int

    @property
    def trials(self) -> list[Trial]:
        """Every learning rate with every number of steps."""
        return [
            Trial(learning_rate=rate, steps=steps) for rate, steps in product(self.learning_rates, self.steps)
        ]


class Protocol(PoolProtocol):
    """One comparison; `PoolProtocol` has the attributes that divide the pool.

    Attributes:
        seeds: Number of trainings of each method and number of labels. A seed draws the labelled candidates,
            the same for every method, and the weights and patches. With several divisions it is also the
            number of the division.
        labels: Numbers of labelled candidates; a larger set contains the smaller ones.
        primary_labels: Number of labels of the primary end point.
        every_choice: Number of test patients, the first by the SHA-256 of their id, whom the networks of
            `primary_labels` outline with every choice of modalities. All networks outline all test patients
            with all modalities and with each one missing.
        methods: Learning rate and steps of each method, the best of its trials.
        tuning: The trials.
        size: Size of CIML's network; the others have as many parameters to within a tenth.
        batch_size: Patches in a step.
        roi_size: Patch (D, H, W) in voxels.
        weight_decay: Weight decay of AdamW.
        beta: Price per nat of a message.
        modality_dropout: Probability that a patch lacks a modality, for every method.
    """

    seeds: int = Field(5, ge=2)
    labels: tuple[int, ...] = Field(min_length=1)
    primary_labels: int
    every_choice: int = 1000
    methods: dict[str, Trial | None] = Field(min_length=2)
    tuning: Tuning
    size: str = "tiny"
    batch_size: int = 2
    roi_size: tuple[int, int, int]
    weight_decay: float = 1e-2
    beta: float = 0.3
    modality_dropout: float = TrainingSettings.modality_dropout

    @model_validator(mode="after")
    def _fits(self) -> Protocol:
        if self.splits > 1 and self.seeds != self.splits:
            raise ValueError("with several splits there must be seeds as many as splits")
        if self.primary_labels not in self.labels:
            raise ValueError("primary_labels must be one of labels")
        return self

    @property
    def network(self) -> NetworkSettings:
        """Settings of CIML's network."""
        return NetworkSettings.of_size(self.size)

    def split_of(self, seed: int) -> int:
        """Division of the pool that a seed uses."""
        return seed if self.splits > 1 else 0

    def schedule(self, method: str, trial: Trial) -> TrainingSettings:
        """Training settings of a method."""
        usual = TrainingSettings(
            batch_size=self.batch_size,
            roi_size=self.roi_size,
            learning_rate=trial.learning_rate,
            weight_decay=self.weight_decay,
            modality_dropout=self.modality_dropout,
            beta=0.0 if method == WITHOUT_PRICE else self.beta,
        )
        return with_steps(usual, trial.steps)
