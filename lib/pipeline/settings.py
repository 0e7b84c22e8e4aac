"""Every `--conf` key of the app, once: default, unit, meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from lib.cases.formats.image import MAX_VOXELS
from lib.plan.budget import Budget
from lib.runtime.errors import UserError

_OF_MONAI_LABEL = {"server_mode"}  # keys that the framework itself reads from --conf


def _words(value: Any) -> Any:
    return (
        tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value
    )


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Numbers = Annotated[tuple[float, float], BeforeValidator(_words)]


def _key(default: Any, meaning: str, unit: str = "", **limits: Any) -> Any:
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **limits)


class AppSettings(BaseModel):
    """What a site can set with `--conf KEY VALUE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # fmt: off
    # the studies
    layout: str = _key("auto", "How the studies lie on disk; auto takes the first layout that finds a case")
    modalities: Words = _key((), "Further names of modalities that this site uses, separated by commas")
    series_rules: str = _key("usual", "Which DICOM series is which modality: usual, glioma_mr, pet_ct, pet_ct_mr, or the absolute path of your own in a .yaml file")
    reference: str = _key("", "Modality whose grid a case takes; empty: the finest of the usual order")
    follow_links: bool = _key(False, "Also use files and folders that are links to outside the studies folder")
    study_labels: Literal["final", "original", "ignore"] = _key("final", "What a contour found beside the images is: a finished label, a start for the reader, or nothing")
    released: Words = _key((), "Cases that a person looked at and took out of quarantine, separated by commas")
    work_dir: str = _key("", "Where the plan, models and cache live; empty: .mdal in the studies folder, for a PACS a folder in ~/.mdal")
    cache_gb: float = _key(20.0, "Most that prepared cases may take on disk", "GB", gt=0)
    dicom_gb: float = _key(50.0, "Most that series fetched from a PACS may take on disk; the longest unused are removed", "GB", gt=0)
    images_gb: float = _key(20.0, "Most that files made for viewers may take on disk, of DICOM series and 4-D files", "GB", gt=0)
    refresh_s: float = _key(30.0, "How often new studies are looked for, and segmentations in a PACS", "s", gt=0)
    max_voxels: int = _key(MAX_VOXELS, "A larger volume is refused from its header", "voxels", gt=0)
    ct_window: Numbers = _key((-160.0, 240.0), "CT values mapped to -1 and 1; where the first is negative, quote it with a space before", "HU")
    pet_ceiling: float = _key(5.0, "PET value mapped to 1", "SUV", gt=0)
    workers: int = _key(0, "Cases checked at the same time; 0: one for each core", "cases", ge=0)
    check_first: int = _key(64, "A pool on disk of at most so many cases is checked before it is served; a larger one, or a PACS, meanwhile", "cases", ge=0)

    # who may ask
    allowed_hosts: Words = _key((), "Further names by which clients reach this server, separated by commas; its own name, localhost and IP addresses always are")
    allowed_origins: Words = _key((), "Web pages from elsewhere that may use this server, such as https://viewer.example.org, separated by commas")
    require_login: bool = _key(False, "Refuse to start on an address that other machines reach while the login is off")
    upload_gb: float = _key(2.0, "Most that one request may send", "GB", gt=0)
    model_upload: bool = _key(False, "Administrators may send a trained model (PUT /model/ciml), which becomes the newest version")

    # which case next
    strategies: Words = _key(("paced", "mdal", "diversemd", "uniform"), "Orders that are computed and offered by name, separated by commas", min_length=1)
    strategy: str = _key("paced", "Strategy that answers under the name random, the only one that OHIF asks for; one of strategies", validate_default=True)
    budget: str = _key("", "When Next Sample stops: 20 cases, a share such as 20% or 0.2, plateau (coverage hardly grows); empty: never", "cases or share")
    no_plan: Literal["random", "error"] = _key("random", "Next Sample before the plan is there: a random unlabelled case that says so, or an error")
    lease_minutes: float = _key(120.0, "How long a case offered to one reader is kept from the others", "min", gt=0, le=525_600)
    database_url: str = _key("", "Database of the plan, postgresql://USER@HOST/NAME where several servers share it; empty: SQLite in work_dir")
    seed: int = _key(0, "Same pool, settings and seed: same plan", ge=0, lt=2**32)
    folds: int = _key(5, "Parts of the pool; each is scored by models that never saw it", "folds", ge=2)
    repeats: int = _key(3, "Trainings averaged for a case's score, each from another seed", "trainings", ge=1)
    retrain_share: float = _key(0.2, "Share of the pool that may be new or changed before the encoders are trained again; below it new cases are scored by the trained ones", "1", ge=0, le=1)
    encoder: Literal["auto", "small", "large"] = _key("auto", "Size of the encoders; auto: small on a CPU, large on a GPU")
    scoring_steps: int = _key(0, "Contrastive steps of one training; 0: by the size of the pool and the device", "steps", ge=0)

    # where the lesion is
    labels: Words = _key((), "Names of the labels 1..n, separated by commas; empty: those of the decomposition")
    decomposition: str = _key("auto", "Table of subtasks: auto, glioma_mr, pet_ct, pet_ct_mr, generic, or the absolute path of your own in a .yaml file")
    network: Literal["auto", "tiny", "base", "large"] = _key("auto", "Size of the network; auto: tiny on a CPU, base on a GPU")
    train_epochs: int = _key(0, "Epochs of one training; 0: as the size of the network needs, 10 for tiny", "epochs", ge=0)
    minimum_labels: int = _key(2, "Labelled patients that a training needs", "patients", ge=2)
    validation_share: float = _key(0.2, "Share of labelled patients kept for validation", "1", gt=0, lt=1)
    train_precision: Literal["auto", "float32", "bfloat16", "float16"] = _key("auto", "Arithmetic of a training's forward passes; auto: half where the device has it")
    accumulate: int = _key(1, "Batches whose gradients one training step averages, where a larger batch does not fit", "batches", ge=1)
    model_version: int = _key(0, "Version of the model that answers and that trainings go on from; 0: the one chosen on the page, else the newest", ge=0)
    models_kept: int = _key(10, "Newest versions of the model that are kept", "versions", ge=1)
    tracking: Literal["tensorboard", "mlflow", "off"] = _key("tensorboard", "Where a training's figures go: tensorboard (model/events in work_dir), mlflow (there as well) or off")
    tracking_uri: str = _key("", "MLflow's server or database; empty: a database beside TensorBoard's events")
    segmentations_gb: float = _key(2.0, "Most that segmentations kept for the next request may take on disk", "GB", gt=0)
    prefetch: int = _key(4, "Next cases of the plan that are segmented before anyone asks; 0: none", "cases", ge=0)
    device: str = _key("auto", "auto, cpu, cuda or cuda:N")
    # fmt: on

    @field_validator("ct_window")
    @classmethod
    def _rises(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not window[0] < window[1]:
            raise ValueError("the first value must be below the second")
        return window

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or f"{parts.scheme}://{parts.netloc}" != origin.lower():
                raise ValueError(
                    f"{origin!r} is no origin; write scheme, host and port, and nothing behind it"
                )
        return tuple(origin.lower() for origin in origins)

    @field_validator("strategies")
    @classmethod
    def _are_known(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        from lib.mdal.selection.strategies import SELECTORS  # takes seconds to import scikit-learn

        unknown = [name for name in strategies if name not in SELECTORS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(SELECTORS)}")
        return strategies

    @field_validator("strategy")
    @classmethod
    def _is_offered(cls, strategy: str, info: ValidationInfo) -> str:
        offered = info.data.get("strategies", (strategy,))  # not there where it was refused itself
        if strategy not in offered:
            raise ValueError(
                f"strategy must be one of {', '.join(offered)}; got {strategy!r}. Set --conf strategy, "
                "or add it to --conf strategies."
            )
        return strategy

    @field_validator("budget", mode="before")
    @classmethod
    def _is_budget(cls, budget: Any) -> str:
        return str(Budget.parse(str(budget)))


def read_settings(conf: Mapping[str, Any]) -> AppSettings:
    """Settings from `--conf` pairs.

    Raises:
        UserError: If a key is unknown or a value does not fit; the message lists the keys.
    """
    values = {key: value for key, value in conf.items() if key not in _OF_MONAI_LABEL}
    if unknown := sorted(set(values) - set(AppSettings.model_fields)):
        raise UserError(
            f"--conf {unknown[0]} is not a key of this app. It must be one of "
            f"{', '.join(AppSettings.model_fields)}. See `python main.py settings`."
        )
    try:
        return AppSettings(**values)
    except ValidationError as err:
        first = err.errors()[0]
        key = str(first["loc"][0])
        sentence = str(first.get("ctx", {}).get("error", ""))
        if sentence.startswith(f"{key} must be"):
            raise UserError(f"--conf {sentence}") from err
        raise UserError(
            f"--conf {key} must be: {AppSettings.model_fields[key].description}. {first['msg']}; "
            f"got {first['input']!r}."
        ) from err


def as_conf(settings: AppSettings) -> dict[str, str]:
    """The `--conf` pairs that give these settings; defaults are left out."""
    changed = settings.model_dump(exclude_defaults=True)
    return {
        key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in changed.items()
    }


def unit_of(key: str) -> str:
    """Unit of a key; empty where it has none."""
    extra = AppSettings.model_fields[key].json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""
