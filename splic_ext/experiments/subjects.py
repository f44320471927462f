"""What an experiment is made on: test images, a network, training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from splic_ext.data import Dataset, load_dataset
from splic_ext.runs.inputs import MOST_SHARED, check_dataset, count_shared_images

__all__ = ["KINDS", "Subject", "check_subjects", "digits_subject", "shapes_subject"]

#: Whose column of the paper images may belong to; "digits" and "shapes" are in none.
KINDS = ("cifar10", "svhn", "digits", "shapes")


@dataclass(frozen=True)
class Subject:
    """Images, and the network that is attacked and defended, or what to train it on.

    Parameters
    ----------
    kind : {"cifar10", "svhn", "digits", "shapes"}
        Whose column of the paper they belong to.
    dataset : Dataset
        Test images; or what :func:`splic_ext.data.as_dataset` takes.
    model : nn.Module, optional
        A network that was trained without a defence, in eval mode. None: one is trained.
    model_name : str, optional
        For the result; default: the name of its class.
    training : Dataset, optional
        Training images, likewise, for what has to be trained.
    """

    kind: str
    dataset: Dataset
    model: nn.Module | None = None
    model_name: str | None = None
    training: Dataset | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", check_dataset(self.dataset))
        if self.training is not None:
            object.__setattr__(self, "training", check_dataset(self.training))

    @property
    def name(self) -> str:
        """Of the data set, without its split; sections of a result are named after it."""
        return self.dataset.name.partition("/")[0]


def digits_subject(limit: int | None = None) -> Subject:
    """Return scikit-learn's digits, which need no file.

    Parameters
    ----------
    limit : int, optional
        Most test images, the first ones.

    Returns
    -------
    Subject

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.

    Examples
    --------
    >>> digits_subject(limit=20).dataset
    Dataset('digits/test': 20 images of 1 x 8 x 8, 10 classes)
    """
    test = load_dataset("digits", "test", limit=limit)
    return Subject("digits", test, training=load_dataset("digits", "train"))


def shapes_subject(limit: int | None = None, training: int | None = None) -> Subject:
    """Return figures of ten shapes, drawn on the fly: they need no file and no package.

    Parameters
    ----------
    limit, training : int, optional
        Most test and most training images, the first ones.

    Returns
    -------
    Subject

    Examples
    --------
    >>> shapes_subject(limit=20, training=100).dataset
    Dataset('shapes/test': 20 images of 3 x 32 x 32, 10 classes)
    """
    test = load_dataset("shapes", "test", limit=limit)
    return Subject("shapes", test, training=load_dataset("shapes", "train", limit=training))


def check_subjects(name: str, kinds: Sequence[str], subjects: Any, *, trains: bool) -> None:
    """Raise unless the subjects are what the experiment of that name takes."""
    if not isinstance(subjects, Sequence):
        raise TypeError(
            f"`subjects` must be a list, got {type(subjects).__name__}; put a single one into it"
        )
    if not subjects:
        raise ValueError(
            f"`subjects` of {name} must not be empty; give images and a network of "
            f"{' or '.join(kinds)}"
        )
    sections: set[str] = set()
    for subject in subjects:
        if not isinstance(subject, Subject):
            raise TypeError(
                f"`subjects` must hold Subject objects, got {type(subject).__name__}; make one "
                "with Subject(kind, dataset, model)"
            )
        if subject.kind not in kinds:
            raise ValueError(
                f"`subjects` of {name} must be of {' or '.join(kinds)}, got "
                f"{subject.kind!r}; leave it out"
            )
        if subject.training is not None:
            shared = count_shared_images(subject.dataset, subject.training)
            if shared > MOST_SHARED * len(subject.dataset):
                raise ValueError(
                    f"`training` of {subject.dataset.name} must have other images than the test, "
                    f"got {shared} of its {len(subject.dataset)}; give other images"
                )
        elif trains or subject.model is None:
            raise ValueError(
                f"`training` of {subject.dataset.name} must be a data set: {name} trains "
                "networks on it; give training images"
            )
        if subject.name in sections:
            raise ValueError(
                f"`subjects` must have data sets of different names, got {subject.name!r} twice; "
                "rename one, since the sections of the table are named after them"
            )
        sections.add(subject.name)
