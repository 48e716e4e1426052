"""Fixed scattering features: what a linear model needs to learn images under privacy.

Oyallon and Mallat, Deep Roto-Translation Scattering for Object Classification, CVPR 2015.
https://arxiv.org/abs/1412.8659
Tramer and Boneh, Differentially Private Learning Needs Better Features (or Much More Data), ICLR
2021, sections 2 and 3. https://arxiv.org/abs/2011.11660

Nothing before the head is learned or depends on a data set, so that only the head costs privacy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce

import numpy as np
import torch
from torch import nn
from torch.nn.functional import group_norm, pad

from fedcore.models.frozen import Cut


class ScatteringClassifier(nn.Module):
    """Scattering features and a linear head that starts at zero: the loss is convex in it.

    Attributes:
      backbone: fixed, from (n, c, h, w) to features (n, d).
      head: from features to logits (n, outputs).
    """

    def __init__(self, backbone: Scattering, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def cut(self) -> Cut:
        """After the features, always."""
        return Cut(self.backbone, self.head)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to logits (n, outputs)."""
        logits: torch.Tensor = self.head(self.backbone(inputs))
        return logits


class Scattering(nn.Module):
    """From images (n, c, h, w) to flat features (n, c * K * h' * w'), h' = ceil(h / 2^J).

    K = 1 + J L + L^2 J (J - 1) / 2 channels: the image, the moduli of its wavelet coefficients, and
    theirs at every coarser scale, each averaged over windows of 2^J pixels (81 of 7 x 7 for MNIST).

    Normalised by GroupNorm over ``groups`` of neighbouring channels, without learned scale (Tramer
    and Boneh, section 2.2). Mean and variance are of one sample: those of the data set would tell
    of other samples outside the mechanism and had to be paid for. A group of m values has an L2
    norm below sqrt(m), so that a sample's features have one below sqrt(width), whatever the image.

    Attributes:
      width: number of features, d.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], *, scales: int, angles: int, groups: int
    ) -> None:
        """
        Args:
          input_shape: (c, h, w) of the images, of at least two windows of 2^J pixels.
          scales: J.
          angles: L, orientations of a wavelet in half a turn.
          groups: of each colour's K channels; divides K.
        """
        super().__init__()
        colours, *sides = input_shape
        window = 2**scales
        channels = 1 + scales * angles + angles**2 * scales * (scales - 1) // 2
        self.scales, self.angles, self.groups = scales, angles, colours * groups
        # One window more on each side: no average sees the opposite border of the periodic grid.
        grid = [window * (math.ceil(side / window) + 2) for side in sides]
        self.margins = tuple(
            margin
            for side, size in reversed(list(zip(sides, grid, strict=True)))
            for margin in (window, size - side - window)
        )
        self.width = colours * channels * math.prod(size // window - 2 for size in grid)
        for octave in range(scales):
            height, width = (size >> octave for size in grid)
            bank = [
                # By the number of aliases in :meth:`_moduli`, whose sum is then their mean.
                morlet(height, width, scale, math.pi * turn / angles, 4 / angles) / 4**scale
                for scale in range(scales - octave)
                for turn in range(angles)
            ]
            wavelets = torch.tensor(np.array(bank)).float().view(-1, angles, height, width)
            self.register_buffer(f"wavelets_{octave}", wavelets)
            for axis, size in (("height", height), ("width", width)):
                matrix = averaging(size, scales - octave)[1:-1]
                self.register_buffer(f"average_{axis}_{octave}", torch.tensor(matrix).float())

    def extra_repr(self) -> str:
        """Everything that decides the features; part of their digest."""
        return f"scales={self.scales}, angles={self.angles}, groups={self.groups}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, d)."""
        signal = pad(images, self.margins, mode="reflect")[:, :, None]
        channels, second = [self._averaged(signal, 0)], []
        for octave, modulus in self._moduli(signal, 0, range(self.scales)):
            channels.append(self._averaged(modulus, octave))
            coarser = range(octave + 1, self.scales)
            for last, twice in self._moduli(modulus[:, :, :, None], octave, coarser):
                second.append(self._averaged(twice.flatten(2, 3), last))
        stacked = torch.cat([*channels, *second], dim=2).flatten(1, 2)
        return group_norm(stacked, self.groups).flatten(1)

    def _moduli(
        self, signal: torch.Tensor, octave: int, scales: range
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(scale, |signal * wavelets of the scale|), subsampled from 2^octave to 2^scale pixels."""
        spectrum = torch.fft.fft2(signal)
        wavelets = self.get_buffer(f"wavelets_{octave}")
        for scale in scales:
            product, step = spectrum * wavelets[scale - octave], 2 ** (scale - octave)
            # Every step-th value of a signal is the mean of the spectrum's aliases.
            for axis in (-2, -1):
                product = reduce(torch.add, product.chunk(step, axis))
            yield scale, torch.fft.ifft2(product).abs()

    def _averaged(self, signal: torch.Tensor, octave: int) -> torch.Tensor:
        """Gaussian means of ``signal`` at steps of 2^J pixels, without the margins."""
        down, across = (self.get_buffer(f"average_{a}_{octave}") for a in ("height", "width"))
        return down @ signal @ across.T


def morlet(height: int, width: int, scale: int, angle: float, slant: float) -> np.ndarray:
    """Fourier transform (height, width), real, of a Morlet wavelet with a mean of zero.

    ``psi(u) = g(u) (exp(i xi . u) - K)``: a Gaussian window g of standard deviation 0.8 * 2^scale
    along ``angle`` and 1 / slant times that across, |xi| = 3 pi / 4 / 2^scale. The constants are
    those of ScatNet and Kymatio (Andreux et al., JMLR 2020).

    Args:
      height: of the periodic grid; at least four windows fit the formula's tails.
      width: of the periodic grid.
      scale: j, in octaves of this grid's pixels.
      angle: direction of the oscillation.
      slant: ratio of the two standard deviations.
    """
    sigma, frequency = 0.8 * 2**scale, 0.75 * math.pi / 2**scale
    # Copies of the grid around it: the wavelet of a small periodic grid reaches over its border.
    rows, columns = np.mgrid[-2 * height : 3 * height, -2 * width : 3 * width].astype(float)
    along = rows * math.sin(angle) + columns * math.cos(angle)
    beside = columns * math.sin(angle) - rows * math.cos(angle)
    window = np.exp(-(along**2 + (slant * beside) ** 2) / (2 * sigma**2))
    wave = window * np.exp(1j * frequency * along)
    wavelet = (wave - window * (wave.sum() / window.sum())) * slant / (2 * math.pi * sigma**2)
    periodic = wavelet.reshape(5, height, 5, width).sum((0, 2))
    return np.ascontiguousarray(np.fft.fft2(periodic).real)


def averaging(size: int, octaves: int) -> np.ndarray:
    """(size / 2^octaves, size): periodic Gaussian means around every 2^octaves-th value.

    Of standard deviation 0.8 * 2^(octaves - 1), as for :func:`morlet`; rows sum to 1.
    """
    sigma, step = 0.8 * 2 ** (octaves - 1), 2**octaves
    places = np.arange(-2 * size, 3 * size)
    window = np.exp(-(places**2) / (2 * sigma**2)).reshape(5, size).sum(0)
    window /= window.sum()
    return np.stack([np.roll(window, shift) for shift in range(0, size, step)])
