"""Residual networks: He et al.'s for CIFAR-10, and the ResNet-18 of the adversarial literature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splic_ext.common.checks import check_integer
from splic_ext.models.layers import MAX_CLASSES, Normalize, constants_for

__all__ = ["ResNet", "cifar_resnet20", "cifar_resnet56", "resnet18_32"]

#: The constants that the weights in circulation for the CIFAR networks were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _PadChannels(nn.Module):
    """Option A of He et al.: every other pixel, and zeros for the new channels."""

    def __init__(self, new: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = new, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        before = self.new // 2
        return nn.functional.pad(x, (0, 0, 0, 0, before, self.new - before))


class _Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, planes: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or inputs != planes:
            if projection:
                convolution = nn.Conv2d(inputs, planes, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(planes))
            else:
                self.shortcut = _PadChannels(planes - inputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network of basic blocks for small images, with a 3 x 3 stem and no max pooling.

    The first stage keeps the size, each further one halves it; the mean over the pixels goes to a
    linear layer. Names of the weights are those of the files in circulation: ``conv1``, ``bn1``,
    ``layer1.0.conv1``, ..., ``linear``.

    Parameters
    ----------
    blocks : sequence of int
        Number of blocks of each stage.
    widths : sequence of int
        Channels of each stage.
    projection : bool
        Shortcuts between stages: 1 x 1 convolutions (True), or subsampling and zeros for the new
        channels (False; option A of [1]_).
    num_classes : int, default 10
        Number of outputs.
    mean, std : sequence of float
        Of the :class:`~splic_ext.models.Normalize` in front.

    Raises
    ------
    TypeError, ValueError
        A parameter of another type or out of its range.

    References
    ----------
    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> ResNet([1, 1], [8, 16], projection=True)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        projection: bool,
        num_classes: int = 10,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        num_classes = check_integer("num_classes", num_classes, 1, MAX_CLASSES)
        if not blocks or len(blocks) != len(widths):
            raise ValueError(
                "`blocks` and `widths` must have one number for each stage, "
                f"got {len(blocks)} and {len(widths)}; give as many of both"
            )
        self.normalize = Normalize(mean, std)
        inputs = check_integer("widths", widths[0], 1, 2**16)
        self.conv1 = nn.Conv2d(len(mean), inputs, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self._stages = []
        for k, (count, planes) in enumerate(zip(blocks, widths, strict=True), 1):
            stage = nn.Sequential()
            for i in range(check_integer("blocks", count, 1, 2**10)):
                planes = check_integer("widths", planes, inputs, 2**16)
                stage.append(_Block(inputs, planes, 2 if i == 0 and k > 1 else 1, projection))
                inputs = planes
            self.add_module(f"layer{k}", stage)
            self._stages.append(f"layer{k}")
        self.linear = nn.Linear(inputs, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W), floating point
            In [0, 1].

        Returns
        -------
        Tensor of shape (N, num_classes)
        """
        y = torch.relu(self.bn1(self.conv1(self.normalize(images))))
        for name in self._stages:
            y = self.get_submodule(name)(y)
        logits: Tensor = self.linear(y.mean(dim=(2, 3)))
        return logits


def _cifar_resnet(n: int, num_classes: int, channels: int | None) -> ResNet:
    mean, std = constants_for(channels, IMAGENET_MEAN, IMAGENET_STD)
    network = ResNet(
        [n, n, n], [16, 32, 64], projection=False, num_classes=num_classes, mean=mean, std=std
    )
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return network


def cifar_resnet20(num_classes: int = 10, channels: int | None = None) -> ResNet:
    """Return He et al.'s ResNet-20 for CIFAR-10 [1]_: 0.27 million weights, option-A shortcuts.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Returns
    -------
    ResNet
        With random weights (He's normal initialisation). Inputs (N, 3, H, W) in [0, 1], made for
        32 x 32; normalised by the mean (.485, .456, .406) and deviation (.229, .224, .225).

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.

    References
    ----------
    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.

    Examples
    --------
    >>> sum(p.numel() for p in cifar_resnet20().parameters())
    269722
    """
    return _cifar_resnet(3, num_classes, channels)


def cifar_resnet56(num_classes: int = 10, channels: int | None = None) -> ResNet:
    """Return He et al.'s ResNet-56 for CIFAR-10: 0.85 million weights, option-A shortcuts.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Returns
    -------
    ResNet
        As :func:`cifar_resnet20`, with 9 blocks in a stage.

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.

    Examples
    --------
    >>> sum(p.numel() for p in cifar_resnet56().parameters())
    853018
    """
    return _cifar_resnet(9, num_classes, channels)


def resnet18_32(num_classes: int = 10, channels: int | None = None) -> ResNet:
    """Return the ResNet-18 for 32 x 32 images that ME-Net [1]_ and many others attack and train.

    Parameters
    ----------
    num_classes : int, default 10
        Number of outputs.
    channels : int, optional
        See :func:`splic_ext.models.build_model`.

    Returns
    -------
    ResNet
        With random weights (torch's default). Four stages of two blocks, 64, 128, 256 and 512
        channels, 1 x 1 convolutions as shortcuts: 11.2 million weights. Inputs (N, 3, H, W) in
        [0, 1], which the first layer takes to [-1, 1].

    Raises
    ------
    TypeError, ValueError
        `num_classes` or `channels` is no positive integer.

    References
    ----------
    .. [1] Y. Yang et al., "ME-Net: towards effective adversarial robustness with matrix
       estimation", ICML 2019.

    Examples
    --------
    >>> sum(p.numel() for p in resnet18_32().parameters())
    11173962
    """
    mean, std = constants_for(channels, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return ResNet(
        [2, 2, 2, 2],
        [64, 128, 256, 512],
        projection=True,
        num_classes=num_classes,
        mean=mean,
        std=std,
    )
