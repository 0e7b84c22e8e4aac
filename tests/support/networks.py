"""Networks that need no training."""

from __future__ import annotations

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.pipeline.workspace import Workspace


def outline_uptake(workspace: Workspace) -> None:
    """Publish a network whose answer is known: where PET is a standard deviation above its mean."""
    settings = NetworkSettings(
        channels=(1, 1), strides=((1, 1, 1), (2, 2, 2)), message_channels=1, message_levels=1
    )
    network = CimlNetwork(workspace.decomposition, workspace.preparation.modalities, settings)
    for weight in network.parameters():
        weight.data.zero_()  # CT and MR say nothing: the mean of the three is as sure of a side as PET is
    encoder = network.encoders[network.modalities.index("PET")]
    decoder = network.decoders[[task.name for task in workspace.decomposition.subtasks].index("PET")]
    for layer in (*encoder.stages[0], *decoder.stages[0]):
        layer.conv.weight.data[..., 1, 1, 1] = 1.0
        layer.adn.N.weight.data.fill_(1.0)
    decoder.head.weight.data.fill_(20.0)
    decoder.head.bias.data.fill_(-20.0)
    workspace.models.publish(network, {})
