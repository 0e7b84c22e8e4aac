"""One file that rebuilds the network, or says that it cannot."""

from __future__ import annotations

import json
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.ciml import checkpoint
from lib.ciml.network.ciml_network import CimlNetwork


def test_a_network_comes_back_from_its_file_alone(network: CimlNetwork, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 4, 16, 16)
    checkpoint.save(tmp_path / "models" / "ciml.pt", network.eval(), {"dice": 0.7, "cases": ["a", "b"]})
    loaded, metadata = checkpoint.load(tmp_path / "models" / "ciml.pt")
    assert metadata == {"dice": 0.7, "cases": ["a", "b"]}
    assert (loaded.modalities, loaded.settings) == (network.modalities, network.settings)
    assert loaded.decomposition == network.decomposition
    assert not loaded.training
    for name, logits in network(x).logits.items():
        assert torch.equal(logits, loaded(x).logits[name])
    assert [file.name for file in (tmp_path / "models").iterdir()] == ["ciml.pt"]


def test_a_network_of_an_earlier_release_answers_as_it_did(network: CimlNetwork, tmp_path: Path) -> None:
    """Earlier releases knew neither `absolute_values` nor `reliability`."""
    earlier = CimlNetwork(
        network.decomposition, network.modalities, replace(network.settings, absolute_values=False)
    ).eval()
    path, x = tmp_path / "ciml.pt", torch.randn(1, 3, 4, 16, 16)
    checkpoint.save(path, earlier, {})
    content = torch.load(path, weights_only=True)
    header, weights = json.loads(content["header"]), content["weights"]
    del header["settings"]["absolute_values"], weights["reliability"]
    header = json.dumps(header)
    torch.save({"header": header, "weights": weights, "digest": checkpoint._digest(header, weights)}, path)
    loaded, _ = checkpoint.load(path)
    assert loaded.settings == earlier.settings
    for name, logits in earlier(x).logits.items():
        assert torch.equal(logits, loaded(x).logits[name])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(network: CimlNetwork, tmp_path: Path, share: float) -> None:
    path = tmp_path / "ciml.pt"
    checkpoint.save(path, network, {})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="must be a complete checkpoint of this app"):
        checkpoint.load(path)


def test_a_flipped_bit_in_the_weights_is_noticed(network: CimlNetwork, tmp_path: Path) -> None:
    path = tmp_path / "ciml.pt"
    checkpoint.save(path, network, {})
    weight = network.encoders[0].stages[1][0].conv.weight.detach().numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight) + 7] ^= 0x01
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load(path)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_a_foreign_file_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ciml.pt"
    for content in (b"not a model", pickle.dumps(_Code(), protocol=2)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or another kind of file"):
            checkpoint.load(path)
    for other in ({"state_dict": {}}, [1, 2], {"header": "{}", "weights": {}, "digest": ""}):
        torch.save(other, path)
        with pytest.raises(ValueError, match="must be a complete checkpoint"):
            checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


def test_a_later_format_is_refused(
    network: CimlNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ciml.pt"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "CHECKPOINT_VERSION", 99)
        checkpoint.save(path, network, {})
    with pytest.raises(ValueError, match="version 1; it is another"):
        checkpoint.load(path)


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.pt")


def test_metadata_that_json_cannot_hold_is_refused(network: CimlNetwork, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "ciml.pt", network, {"when": object()})
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_earlier_file(
    network: CimlNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ciml.pt"
    checkpoint.save(path, network, {"round": 1})

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, network, {"round": 2})
    assert checkpoint.load(path)[1] == {"round": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_while_saving_keeps_the_earlier_file(
    network: CimlNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ciml.pt"
    checkpoint.save(path, network, {"round": 1})
    child = os.fork()
    if child == 0:
        monkeypatch.setattr("os.fsync", lambda descriptor: os.kill(os.getpid(), signal.SIGKILL))
        checkpoint.save(path, network, {"round": 2})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert checkpoint.load(path)[1] == {"round": 1}
