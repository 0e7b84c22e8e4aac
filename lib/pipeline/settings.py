"""Every `--conf` key of the app, once: default, unit, meaning."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from lib.plan.budget import Budget
from lib.runtime.errors import UserError
from lib.runtime.yaml_table import YAML_SUFFIXES

_OF_MONAI_LABEL = {"server_mode"}  # keys that the framework itself reads from --conf

GONE = {  # keys of earlier releases, and what replaces each
    **dict.fromkeys(
        ("cache_gb", "dicom_gb", "images_gb", "segmentations_gb"),
        "Set --conf disk_gb, which bounds all files that can be made again.",
    ),
    **dict.fromkeys(
        ("folds", "repeats", "scoring_steps"),
        "Set --conf scoring to full or quick, which decides how many encoders are trained and how long.",
    ),
    "strategies": "Leave it out: every order is computed and offered. --conf strategy names the default.",
    "encoder": "Leave it out: --conf device decides; a GPU trains the large encoders, a CPU the small ones.",
    "retrain_share": "Leave it out: encoders are trained again once a fifth of the pool is new or changed.",
    "check_first": "Leave it out: a pool in a folder of at most 64 cases is checked before it is served.",
    "no_plan": "Leave it out: before the plan is ready, Next Sample is a random unlabelled case that says so.",
    "max_voxels": "Leave it out: a volume of more than 512 x 512 x 512 voxels is refused.",
    "minimum_labels": "Leave it out: a training needs labels of at least 2 patients.",
    "validation_share": "Leave it out: a fifth of the labelled patients is kept for validation.",
    "train_precision": "Leave it out: --conf device decides; half precision where the device computes in it.",
    "accumulate": "Leave it out: the batch of each size of network fits. Set a smaller --conf network.",
    "model_version": "Choose the version that answers on the page, under Model.",
    "models_kept": "Leave it out: the ten newest versions of the model are kept.",
    "tracking": "Leave it out: TensorBoard's events are always written; MLflow gets the figures too where the "
    "environment variable MLFLOW_TRACKING_URI names its server or database.",
    "tracking_uri": "Set the environment variable MLFLOW_TRACKING_URI.",
    "pacs_refresh_s": "Set --conf refresh_s.",
}


def _words(value: Any) -> Any:
    return (
        tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value
    )


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Numbers = Annotated[tuple[float, float], BeforeValidator(_words)]


def _key(default: Any, meaning: str, unit: str = "", *, of_plan: bool = False, **limits: Any) -> Any:
    """A setting; with `of_plan` another value makes another plan."""
    return Field(default, description=meaning, json_schema_extra={"unit": unit, "of_plan": of_plan}, **limits)


SECTIONS = {  # heading before the first key of each group
    "layout": "The studies",
    "allowed_hosts": "Who may ask",
    "strategy": "Which case next",
    "labels": "Where the lesion is",
}


class AppSettings(BaseModel):
    """What a site can set with `--conf KEY VALUE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # fmt: off
    layout: str = _key("auto", "How the studies lie on disk; auto takes the first layout that finds a case")
    modalities: Words = _key((), "Further names of modalities that this site uses, separated by commas")
    series_rules: str = _key("usual", "Which DICOM series is which modality: usual, glioma_mr, pet_ct, pet_ct_mr, or the absolute path of your own in a .yaml file")
    reference: str = _key("", "Modality whose grid a case takes; empty: the finest of the usual order", of_plan=True)
    follow_links: bool = _key(False, "Also use files and folders that are links to outside the studies folder")
    study_labels: Literal["final", "original", "ignore"] = _key("final", "What a contour found beside the images is: a finished label, a start for the reader, or nothing")
    released: Words = _key((), "Cases that a person looked at and took out of quarantine, or whose label is used although the check holds its place to be wrong; separated by commas", of_plan=True)
    work_dir: str = _key("", "Where the plan, models and cache live; empty: .mdal in the studies folder, for a PACS a folder in ~/.mdal")
    disk_gb: float = _key(100.0, "Disk space for what can be made or fetched again: prepared cases, series from a PACS, files for viewers, pictures; the longest unused are evicted", "GB", gt=0)
    refresh_s: float = _key(30.0, "How often new studies are looked for, and segmentations in a PACS", "s", gt=0)
    ct_window: Numbers = _key((-160.0, 240.0), "CT values mapped to -1 and 1; where the first is negative, quote it with a space before", "HU", of_plan=True)
    pet_ceiling: float = _key(5.0, "PET value mapped to 1", "SUV", of_plan=True, gt=0)
    workers: int = _key(0, "Cases checked at the same time; 0: one for each core", "cases", ge=0)

    allowed_hosts: Words = _key((), "Further names by which clients reach this server, separated by commas; its own name, localhost and IP addresses always are")
    allowed_origins: Words = _key((), "Web pages from elsewhere that may use this server, such as https://viewer.example.org, separated by commas")
    require_login: bool = _key(False, "Refuse to start on an address that other machines reach while the login is off")
    upload_gb: float = _key(2.0, "Most that one request may send", "GB", gt=0)
    model_upload: bool = _key(False, "Administrators may send a trained model (PUT /model/ciml), which becomes the newest version")

    strategy: str = _key("representative", "Order that answers under the name random, the only one that OHIF asks for: mdal, diversemd, representative, kmeans, stratified or uniform")
    budget: str = _key("", "When Next Sample stops: 20 cases, a share such as 20% or 0.2, plateau (coverage hardly grows); empty: never", "cases or share", of_plan=True)
    lease_minutes: float = _key(120.0, "How long a case offered to one reader is kept from the others", "min", gt=0, le=525_600)
    database_url: str = _key("", "Database of the plan, postgresql://USER@HOST/NAME where several servers share it; empty: SQLite in work_dir")
    seed: int = _key(0, "Same pool, settings and seed: same plan", of_plan=True, ge=0, lt=2**32)
    scoring: Literal["full", "quick"] = _key("full", "full: 15 trainings of encoders; quick: 4 short ones, to try the program out with an order that means nothing", of_plan=True)

    labels: Words = _key((), "Names of the labels 1..n, separated by commas; empty: those of the decomposition")
    decomposition: str = _key("auto", "Table of subtasks: auto, glioma_mr, pet_ct, pet_ct_mr, generic, or the absolute path of your own in a .yaml file")
    network: Literal["auto", "tiny", "base", "large"] = _key("auto", "Size of the network; auto: tiny on a CPU, base on a GPU")
    train_epochs: int = _key(0, "Epochs of one training; 0: as the size of the network needs, 10 for tiny", "epochs", ge=0)
    prefetch: int = _key(4, "Next cases of the plan that are segmented before anyone asks; 0: none", "cases", ge=0)
    device: str = _key("auto", "auto, cpu, cuda or cuda:N")
    # fmt: on

    @property
    def names_labels(self) -> bool:
        """Whether the site itself says what the label values mean, by `labels` or a table of its own."""
        return bool(self.labels) or self.decomposition.lower().endswith(YAML_SUFFIXES)

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

    @field_validator("strategy")
    @classmethod
    def _is_offered(cls, strategy: str) -> str:
        from lib.mdal.selection.strategies import STRATEGIES  # takes seconds to import scikit-learn

        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}; got {strategy!r}.")
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
    if gone := sorted(set(values) & set(GONE)):
        raise UserError(f"--conf {gone[0]} is no longer a key of this app. {GONE[gone[0]]}")
    if unknown := sorted(set(values) - set(AppSettings.model_fields)):
        raise UserError(f"--conf {unknown[0]} is not a key of this app. {_meant(unknown[0])}")
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


def _meant(key: str) -> str:
    """What to write in place of an unknown key."""
    if near := get_close_matches(key, AppSettings.model_fields, n=1):
        return f"Did you mean {near[0]}? `python main.py settings` lists all."
    return f"It must be one of {', '.join(AppSettings.model_fields)}. See `python main.py settings`."


def as_conf(settings: AppSettings) -> dict[str, str]:
    """The `--conf` pairs that give these settings; defaults are left out."""
    changed = settings.model_dump(exclude_defaults=True)
    return {
        key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in changed.items()
    }


def unit_of(key: str) -> str:
    """Unit of a key; empty where it has none."""
    return str(_about(key)["unit"])


def settings_of_plan(settings: AppSettings) -> dict[str, object]:
    """The settings that a plan depends on, as JSON."""
    keys = {key for key in AppSettings.model_fields if _about(key)["of_plan"]}
    return settings.model_dump(mode="json", include=keys)


def _about(key: str) -> dict[str, Any]:
    extra = AppSettings.model_fields[key].json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}
