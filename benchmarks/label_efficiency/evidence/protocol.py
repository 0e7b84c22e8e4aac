"""The protocol of a comparison on a pool: strategies, methods and end point, written before the first run."""

from __future__ import annotations

from pydantic import Field, field_validator

from benchmarks.ciml.methods import METHODS, RIGHT, SLICES
from benchmarks.common.protocols import Part, PoolProtocol, digest_of, with_steps
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.train import TrainingSettings
from lib.mdal.scoring.score_pool import ScoringSettings
from lib.pipeline.scoring import CONTRASTIVE


class Segmenter(Part):
    """The network that is trained on every chosen set: from scratch, without validation, the last weights.

    Attributes:
        method: Method of `benchmarks.ciml.methods`.
        size: Size of CIML's network; the other networks are made as large, except `unet_2d`.
        steps: Optimiser steps, the same at every budget.
        batch_size: Patches in a step.
        roi_size: Patch (D, H, W) in voxels.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        beta: Price per nat of a message.
        modality_dropout: Probability that a patch lacks a modality.
    """

    method: str = "ciml"
    size: str = "tiny"
    steps: int = Field(gt=0)
    batch_size: int = Field(2, gt=0)
    roi_size: tuple[int, int, int]
    learning_rate: float = Field(gt=0)
    weight_decay: float = 1e-2
    beta: float = 0.3
    modality_dropout: float = TrainingSettings.modality_dropout

    @field_validator("method")
    @classmethod
    def _is_known(cls, method: str) -> str:
        if method not in (*METHODS, RIGHT, SLICES):
            raise ValueError(f"must be one of {', '.join((*METHODS, RIGHT, SLICES))}")
        return method

    @property
    def network(self) -> NetworkSettings:
        """Settings of CIML's network."""
        return NetworkSettings.of_size(self.size)

    @property
    def schedule(self) -> TrainingSettings:
        """Training settings, with the steps in epochs of at most 50 steps."""
        usual = TrainingSettings(
            batch_size=self.batch_size,
            roi_size=self.roi_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            modality_dropout=self.modality_dropout,
            beta=0.0 if self.method == "ciml_beta0" else self.beta,
        )
        return with_steps(usual, self.steps)


class Scoring(Part):
    """Settings of the scoring, which is done once for all strategies; `ScoringSettings` explains them."""

    folds: int = 5
    repeats: int = 3
    scoring_steps: int = 0
    seed: int = 0

    @property
    def settings(self) -> ScoringSettings:
        """The settings as `ScoringSettings`: small encoders, trained anew for each pool."""
        return ScoringSettings(
            folds=self.folds,
            seeds=self.repeats,
            steps=self.scoring_steps or None,
            retrain_share=0.0,
            contrastive=CONTRASTIVE["small"],
        )


class Arm(Part):
    """Strategies that choose from the same candidates.

    Attributes:
        check: Whether cases in quarantine are taken out before scoring and choosing.
        seeds: Number of seeds by strategy; a seed draws the choice and the training's weights and patches.
    """

    check: bool
    seeds: dict[str, int]


class Headroom(Part):
    """Trainings that settle the schedule, among the candidates alone and before any strategy is looked at.

    Attributes:
        ask: Number of candidates that are outlined and not trained on: the first by the SHA-256 of their id.
        sizes: Sizes of the random subsets of the other candidates.
        seeds: Number of seeds of each size.
    """

    ask: int = 8
    sizes: tuple[int, ...]
    seeds: int = 2


class Protocol(PoolProtocol):
    """One comparison; `PoolProtocol` has the attributes that divide the pool.

    Attributes:
        budgets: Numbers of cases to label.
        pool_share: Share of the candidates that a seed may choose from. It is the same candidates for every
            strategy, and it makes the seeds differ even for an order without random draws.
        full_seeds: Number of trainings on all candidates.
        arms: Strategies and the candidates from which they choose.
        references: Strategies that the others are compared with, chance first.
        equal_foreground: Strategies against which Random is also run with as many foreground voxels as they
            have, whatever number of cases that takes; it is called `uniform_as_NAME`.
        questions: Pairs of strategies; is the first better than the second? A strategy of an arm without the
            check has the title `NAME without check`.
        hypothesis_budget: Budget at which Dice is regressed on the mean difference of chance's subsets.
        segmenter: Network of every run.
        scoring: Scoring of the candidates for every strategy.
        headroom: Trainings that settled the segmenter's schedule.
        order_seed: Seed of the order of the runs, which is shuffled so that an interruption is unbiased.
    """

    budgets: tuple[int, ...] = Field(min_length=2)
    pool_share: float = Field(0.9, gt=0, le=1)
    full_seeds: int = 3
    arms: tuple[Arm, ...]
    references: tuple[str, ...] = ("uniform", "kmeans")
    equal_foreground: tuple[str, ...] = ()
    questions: tuple[tuple[str, str], ...] = ()
    hypothesis_budget: int
    segmenter: Segmenter
    scoring: Scoring = Scoring()
    headroom: Headroom
    order_seed: int = 0

    @field_validator("budgets")
    @classmethod
    def _rise(cls, budgets: tuple[int, ...]) -> tuple[int, ...]:
        if list(budgets) != sorted(set(budgets)) or budgets[0] < 1:
            raise ValueError("must rise, from 1 on")
        return budgets

    def training_digest(self, contents: dict[str, str], tested: tuple[str, ...]) -> str:
        """Hash of everything that a training's result depends on apart from the chosen cases and the seed.

        Args:
            contents: Hash of each case's images, by id.
            tested: Ids of the test patients.
        """
        values = [self.segmenter.model_dump(mode="json"), self.modalities, sorted(contents.items()), tested]
        return digest_of(values)
