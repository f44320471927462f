"""Attack a defended network with ART: the defence is a preprocessor of its classifier."""

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier

from splic_ext.data import load_dataset
from splic_ext.defenses import TotalVariation
from splic_ext.defenses.art import DefensePreprocessor
from splic_ext.training import TrainingOptions, train

digits, test = load_dataset("digits", "train"), load_dataset("digits", "test", limit=100)
images = test.to_float()
options = TrainingOptions(epochs=4, batch_size=32, crop=0, flip=False)
network = train("digits_cnn", digits, options, progress=False).network.eval()


def classifier(*preprocessors):
    """Return the network as ART's, behind preprocessors; channels first, pixels in [0, 1]."""
    return PyTorchClassifier(
        network,
        torch.nn.CrossEntropyLoss(),
        input_shape=images.shape[1:],
        nb_classes=10,
        clip_values=(0, 1),
        preprocessing_defences=list(preprocessors),
        device_type="cpu",
    )


plain, defended = classifier(), classifier(DefensePreprocessor(TotalVariation(weight=0.1)))
for name, target in (("gray box", plain), ("white box", defended)):
    attack = ProjectedGradientDescentPyTorch(
        target, eps=0.1, eps_step=0.02, max_iter=20, verbose=False
    )
    attacked = attack.generate(images, test.labels)
    right = [np.mean(c.predict(attacked).argmax(1) == test.labels) for c in (plain, defended)]
    print(f"{name}: {100 * right[0]:.1f} % bare, {100 * right[1]:.1f} % behind total variation")
