"""Message from an auxiliary to a primary modality, with spatial attention and noise.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670). From auxiliary a to
primary p:

    s          = mean_c F_p, max_c F_p, mean_c F_a, max_c F_a      (B, 4, D, H, W)
    A          = sigmoid(conv(s))                                   cross-modal spatial attention
    mu, logvar = conv(A * F_a)
    z          = mu + exp(logvar / 2) * eps   in training, mu in inference
    F_p'       = F_p + sum_a conv_out(z_a)                          conv_out starts at zero

The decoder already receives F_p, so information that z repeats from F_p costs KL without any gain. There is
no learned prior given x_p, because it would penalise complementary information.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.layers.factories import Conv
from torch import Generator, Tensor, nn

MAX_LOGVAR = 8.0  # exp(8) is far beyond any useful noise, and finite in every precision


@dataclass(frozen=True, eq=False)
class Message:
    """Message from one modality to one subtask at one level.

    Attributes:
        sender: Modality that sends the message.
        subtask: Subtask that receives the message.
        level: Level of the features; 0 is the finest, the last is the bottleneck.
        mu: Mean of z, shape (B, Cz, D, H, W).
        logvar: Logarithm of the variance of z, shape (B, Cz, D, H, W).
        attention: Attention in (0, 1), shape (B, 1, D, H, W).
        addition: Tensor added to the receiver's features, shape (B, C, D, H, W).
        present: Samples that have the sender, shape (B,), bool; None if every sample has it.
    """

    sender: str
    subtask: str
    level: int
    mu: Tensor
    logvar: Tensor
    attention: Tensor
    addition: Tensor
    present: Tensor | None


class MessageChannel(nn.Module):
    """Message channel of one sender, receiver and level, by the equations at the top of this module."""

    def __init__(self, channels: int, message_channels: int, *, spatial_dims: int = 3) -> None:
        """Build a message channel for features with `channels`."""
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]
        self.attention = convolution(4, 1, kernel_size=3, padding=1)
        self.posterior = convolution(channels, 2 * message_channels, kernel_size=1)
        self.out = convolution(message_channels, channels, kernel_size=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        primary_summary: Tensor,
        auxiliary: Tensor,
        auxiliary_summary: Tensor,
        *,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Addition to the primary features, then mu, logvar and attention.

        Args:
            primary_summary: Summary of F_p, shape (B, 2, D, H, W).
            auxiliary: Features F_a, shape (B, C, D, H, W).
            auxiliary_summary: Summary of F_a, shape (B, 2, D, H, W).
            generator: Source of the noise in training.
        """
        seen = torch.cat((primary_summary, auxiliary_summary), dim=1)
        attention = torch.sigmoid(self.attention(seen))
        mu, logvar = self.posterior(attention * auxiliary).chunk(2, dim=1)
        logvar = logvar.clamp(-MAX_LOGVAR, MAX_LOGVAR)
        z = mu
        if self.training:
            noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
            z = mu + torch.exp(logvar / 2) * noise
        return self.out(z), mu, logvar, attention


def summary_of(features: Tensor) -> Tensor:
    """Mean and maximum over the channels, the input of the attention, shape (B, 2, D, H, W)."""
    return torch.cat((features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)), dim=1)
