"""Small plain networks: for gray digits, for house numbers (a VGG), and for drawn shapes."""

from __future__ import annotations

from torch import Tensor, nn

from splic_ext.common.checks import check_integer
from splic_ext.errors import ShapeError
from splic_ext.models.layers import MAX_CLASSES, Normalize, constants_for

__all__ = ["DigitsCNN", "ShapesCNN", "SmallVGG", "digits_cnn", "shapes_cnn", "svhn_vgg"]

SVHN_MEAN, SVHN_STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)


class DigitsCNN(nn.Module):
    """Three convolutions for gray images of any size from 2 x 2; see :func:`digits_cnn`.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.
    """

    def __init__(self, num_classes: int = 10, channels: int | None = None) -> None:
        super().__init__()
        num_classes = check_integer("num_classes", num_classes, 1, MAX_CLASSES)
        mean, std = constants_for(channels, [0.5], [0.5])
        self.normalize = Normalize(mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(len(mean), 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (N, num_classes), of images (N, C, H, W) in [0, 1]."""
        normalized = self.normalize(images)
        if min(images.shape[2:]) < 2:
            raise ShapeError(
                f"`images` must have shape (N, {images.shape[1]}, H, W) with H and W from 2, "
                f"got {tuple(images.shape)}; the network is made for 8 x 8 and 28 x 28",
                tuple(images.shape),
                f"(N, {images.shape[1]}, H >= 2, W >= 2)",
            )
        logits: Tensor = self.classifier(self.features(normalized))
        return logits


class SmallVGG(nn.Module):
    """Six convolutions and two linear layers for 32 x 32 colour images; see :func:`svhn_vgg`.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.
    """

    def __init__(self, num_classes: int = 10, channels: int | None = None) -> None:
        super().__init__()
        num_classes = check_integer("num_classes", num_classes, 1, MAX_CLASSES)
        mean, std = constants_for(channels, SVHN_MEAN, SVHN_STD)
        self.normalize = Normalize(mean, std)
        layers: list[nn.Module] = []
        inputs = len(mean)
        for widths in ((8, 16), (32, 32), (32, 32)):
            for planes in widths:
                layers += [nn.Conv2d(inputs, planes, 3, padding=1), nn.BatchNorm2d(planes)]
                layers.append(nn.ReLU())
                inputs = planes
            layers.append(nn.MaxPool2d(2))
        self.conv_layers = nn.Sequential(*layers)
        # The identity keeps the names that the weights in circulation have.
        self.fc_layers = nn.Sequential(
            nn.Linear(512, 256), nn.ReLU(), nn.Identity(), nn.Linear(256, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (N, num_classes), of images (N, C, 32, 32) in [0, 1]."""
        normalized = self.normalize(images)
        if images.shape[2:] != (32, 32):
            raise ShapeError(
                f"`images` must have shape (N, {images.shape[1]}, 32, 32), got "
                f"{tuple(images.shape)}; resize them, or use a ResNet, which takes any size",
                tuple(images.shape),
                f"(N, {images.shape[1]}, 32, 32)",
            )
        logits: Tensor = self.fc_layers(self.conv_layers(normalized).flatten(1))
        return logits


class ShapesCNN(nn.Module):
    """Four convolutions for colour images of any size; see :func:`shapes_cnn`.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.
    """

    def __init__(self, num_classes: int = 10, channels: int | None = None) -> None:
        super().__init__()
        num_classes = check_integer("num_classes", num_classes, 1, MAX_CLASSES)
        mean, std = constants_for(channels, (0.5,) * 3, (0.25,) * 3)
        self.normalize = Normalize(mean, std)
        layers: list[nn.Module] = []
        inputs = len(mean)
        for planes, stride in ((16, 2), (32, 2), (64, 1), (64, 2)):
            layers.append(nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False))
            layers += [nn.BatchNorm2d(planes), nn.ReLU()]
            inputs = planes
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.classifier = nn.Linear(4 * inputs, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (N, num_classes), of images (N, C, H, W) in [0, 1]."""
        logits: Tensor = self.classifier(self.features(self.normalize(images)))
        return logits


def digits_cnn(num_classes: int = 10, channels: int | None = None) -> DigitsCNN:
    """Return a small CNN for gray digits, 8 x 8 or 28 x 28; it trains on a CPU in seconds.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Returns
    -------
    DigitsCNN
        With random weights. Inputs (N, 1, H, W) in [0, 1].

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.

    Examples
    --------
    >>> import torch
    >>> digits_cnn()(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    return DigitsCNN(num_classes, channels)


def shapes_cnn(num_classes: int = 10, channels: int | None = None) -> ShapesCNN:
    """Return a small CNN for drawn shapes, 32 x 32 in colour: 63,258 weights.

    Convolutions of 16, 32, 64, 64 channels, each with batch normalisation and ReLU, three of them
    of stride 2; then the averages of the four quarters, and a linear layer. On
    ``load_dataset("shapes")`` it learns in seconds on a CPU.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Returns
    -------
    ShapesCNN
        With random weights. Inputs (N, 3, H, W) of any size in [0, 1].

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.

    Examples
    --------
    >>> import torch
    >>> shapes_cnn()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return ShapesCNN(num_classes, channels)


def svhn_vgg(num_classes: int = 10, channels: int | None = None) -> SmallVGG:
    """Return a small VGG for 32 x 32 colour images, made for SVHN: 0.17 million weights.

    Convolutions of 8, 16; 32, 32; 32, 32 channels, each with batch normalisation and ReLU, each
    pair followed by max pooling; then linear layers of 256 and `num_classes`.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Returns
    -------
    SmallVGG
        With random weights. Inputs (N, 3, 32, 32) in [0, 1], normalised by the mean
        (.4377, .4438, .4728) and deviation (.1980, .2010, .1970).

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.

    Examples
    --------
    >>> import torch
    >>> svhn_vgg()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return SmallVGG(num_classes, channels)
