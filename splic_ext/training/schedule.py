"""The learning rate as a function of how far the training is."""

from __future__ import annotations

import math

from splic_ext.training.options import TrainingOptions

__all__ = ["learning_rate_at"]


def learning_rate_at(options: TrainingOptions, epochs_done: float) -> float:
    r"""Return the learning rate of an update.

    With the largest rate :math:`\eta`, E epochs, w of them to warm up, and t epochs done:

    .. math::

        \eta \, t / w \text{ for } t < w, \text{ then }
        \tfrac{\eta}{2} \left( 1 + \cos \pi \tfrac{t - w}{E - w} \right)

    or, for ``"step"``, :math:`\eta`, a tenth of it from E / 2 on, and a hundredth from 3 E / 4 on.

    Parameters
    ----------
    options : TrainingOptions
    epochs_done : float
        t, in [0, E), at the middle of the update: never 0 exactly.

    Returns
    -------
    float

    Examples
    --------
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
