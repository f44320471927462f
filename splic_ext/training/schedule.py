"""The learning rate, and the radius of the attack, as a function of how far the training is."""

from __future__ import annotations

import math
from dataclasses import replace

from splic_ext.attacks import Attack
from splic_ext.training.options import TrainingOptions

__all__ = ["attack_at", "learning_rate_at"]


def learning_rate_at(options: TrainingOptions, epochs_done: float) -> float:
    r"""Return the learning rate of an update.

    With the largest rate :math:`\eta`, E epochs, w of them to warm up, and t epochs done:

    .. math::

        \eta \, t / w \text{ for } t < w, \text{ then }
        \tfrac{\eta}{2} \left( 1 + \cos \pi \tfrac{t - w}{E - w} \right)

    or, for ``"step"``, :math:`\eta`, a tenth of it from E / 2 on, and a hundredth from 3 E / 4 on.

    `epochs_done` is t at the middle of the update: never 0 exactly.

    >>> options = TrainingOptions(epochs=8, learning_rate=0.2, schedule="step", warmup_epochs=2)
    >>> [round(learning_rate_at(options, t), 3) for t in (0.5, 1.5, 3, 4, 7)]
    [0.05, 0.15, 0.2, 0.02, 0.002]
    """
    highest, warmup = options.learning_rate, options.warmup_epochs
    if epochs_done < warmup:
        return highest * epochs_done / warmup
    if options.schedule == "step":
        share = epochs_done / options.epochs
        return highest * (1.0 if share < 0.5 else 0.1 if share < 0.75 else 0.01)
    share = (epochs_done - warmup) / (options.epochs - warmup)
    return highest * 0.5 * (1 + math.cos(math.pi * share))


def attack_at(options: TrainingOptions, attack: Attack, epochs_done: float) -> Attack:
    """Return the attack of an update: with a smaller radius and smaller steps, while they grow.

    >>> options = TrainingOptions(epochs=8, adversarial="bpda", adversarial_warmup_epochs=4)
    >>> attack_at(options, options.build_attack(), 2.0)
    BPDA(norm='linf', epsilon=4/255, steps=7, step_size=1/255, restarts=1, random_start=True, seed=0)
    """  # noqa: E501
    growth = options.adversarial_warmup_epochs
    if epochs_done >= growth:
        return attack
    share, threat = epochs_done / growth, attack.threat
    smaller = replace(threat, epsilon=share * threat.epsilon, step_size=share * threat.step_size)
    return replace(attack, threat=smaller)
