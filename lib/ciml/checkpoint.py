"""Checkpoint: a network in one file, with all that is needed to rebuild it and no code to execute."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.runtime.files import replacing

FORMAT = "mdal-ciml/ciml"
CHECKPOINT_VERSION = 1
UNREADABLE_CHECKPOINT = (  # errors of torch and JSON for a damaged file or one of another kind
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def save(path: Path, network: CimlNetwork, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: a reader sees either the earlier file or the complete new one.

    Args:
        path: File to write; it is replaced if it exists, and its folder is created.
        network: Network whose weights, modalities, decomposition and settings are saved.
        metadata: JSON values: training figures, versions, a date.

    Raises:
        TypeError: If JSON cannot hold the metadata.
        OSError: If the folder cannot be written.
    """
    header = json.dumps(
        {
            "format": FORMAT,
            "version": CHECKPOINT_VERSION,
            "modalities": network.modalities,
            "decomposition": network.decomposition.to_dict(),
            "settings": network.settings.to_dict(),
            "metadata": dict(metadata),
        }
    )
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    with replacing(path) as part:
        torch.save({"header": header, "weights": weights, "digest": _digest(header, weights)}, part)


def load(path: Path, device: torch.device | str = "cpu") -> tuple[CimlNetwork, dict[str, Any]]:
    """Load a network, in evaluation mode, and its metadata.

    Args:
        path: File written by `save`.
        device: Device of the weights.

    Raises:
        ValueError: If the file is damaged or not a checkpoint of this app.
        OSError: If the file cannot be opened.
    """
    header, weights = _read(path, device)
    try:
        network = CimlNetwork(
            Decomposition.from_dict(header["decomposition"]),
            tuple(header["modalities"]),
            NetworkSettings.from_dict(header["settings"]),
        )
        network.load_state_dict({"reliability": network.reliability, **weights})  # not in earlier releases
        metadata = dict(header["metadata"])
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as err:
        raise ValueError(f"{path} must describe the network it holds; {err}. Train again.") from err
    return network.to(device).eval(), metadata


def _read(path: Path, device: torch.device | str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with path.open("rb") as stream:
            content = torch.load(stream, map_location=device, weights_only=True)
        header, weights = json.loads(content["header"]), content["weights"]
        if content["digest"] != _digest(content["header"], weights):  # torch does not notice a flipped bit
            raise ValueError("its digest differs")
    except FileNotFoundError:
        raise
    except UNREADABLE_CHECKPOINT as err:
        raise ValueError(
            f"{path} must be a complete checkpoint of this app; it is damaged or another kind of file. "
            "Copy it again, or train again."
        ) from err
    if (
        not isinstance(header, dict)
        or header.get("format") != FORMAT
        or header.get("version") != CHECKPOINT_VERSION
    ):
        raise ValueError(
            f"{path} must be a checkpoint of {FORMAT} version {CHECKPOINT_VERSION}; it is another. "
            "Train again."
        )
    return header, weights


def _digest(header: str, weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(header.encode(), digest_size=16)
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
