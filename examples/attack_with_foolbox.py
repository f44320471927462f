"""Attack a defended network with foolbox: `Defended` is an ordinary module."""

import foolbox
import torch

from splic_ext import defenses
from splic_ext.data import load_dataset
from splic_ext.training import TrainingOptions, train

digits, test = load_dataset("digits", "train"), load_dataset("digits", "test", limit=100)
images, labels = torch.from_numpy(test.to_float()), torch.from_numpy(test.labels)
options = TrainingOptions(epochs=4, batch_size=32, crop=0, flip=False)
network = train("digits_cnn", digits, options, progress=False).network.eval()

radii = [0.02, 0.05, 0.1]
print("accuracy in % under PGD of", *radii)
for gradient in ("identity", "exact"):
    # foolbox sees the gradient that the defence is set to. The identity is BPDA's guess; a defence
    # that looks robust under it may fall to its true gradient.
    denoised = defenses.TotalVariation(weight=0.1, gradient=gradient)
    defended = defenses.Defended(network, denoised).eval()
    model = foolbox.PyTorchModel(defended, bounds=(0, 1))
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(steps=20, rel_stepsize=0.2)
    _, _, fooled = attack(model, images, labels, epsilons=radii)
    print(f"{gradient:<9}", *(f"{100 * (1 - row.float().mean()):6.1f}" for row in fooled))
