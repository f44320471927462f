"""Attack a defence of your own, by all that an attacker may know: the adaptive protocol."""

from dataclasses import replace

import torch
from torch import nn

from splic_ext.data import load_dataset
from splic_ext.experiments import SIZES, evaluate_adaptively
from splic_ext.training import TrainingOptions, train


class Shift(nn.Module):
    """Move each image by a pixel in a random direction. Any module from images to images will do.

    Its random numbers come from torch, so the protocol can repeat them and average over them.
    """

    def forward(self, images):
        """Move the images."""
        down, right = torch.randint(-1, 2, (2,)).tolist()
        return images.roll((down, right), dims=(2, 3))


digits, test = load_dataset("digits", "train"), load_dataset("digits", "test", limit=100)
options = TrainingOptions(epochs=4, batch_size=32, crop=1, flip=False)
network = train("digits_cnn", digits, options, progress=False).network.eval()

# Less than the size "small", and some of its sections; leave `sections` out for all of them.
quick = replace(SIZES["small"], images=40, steps=10, eot=4, restarts=1)
result = evaluate_adaptively(
    network,
    test,
    defense=Shift(),
    size=quick,
    sections=("gradients", "still", "transfer"),
    progress=False,
)
# For each attack: the share of the answers that stays right in one draw, in all, and by vote.
print(result.to_markdown())
# The last note is the verdict: the gradient and the attack that fool most.
print(result.notes[-1])
