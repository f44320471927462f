"""What a result came from: images, network, machine, versions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DatasetInfo", "Machine", "NetworkInfo", "Provenance"]


@dataclass(frozen=True)
class DatasetInfo:
    """The images that were computed on.

    Attributes
    ----------
    name : str
        Of the data set, without the split.
    split : str or None
        None where the source does not say.
    images : int
        How many, the first ones of the split.
    shape : tuple of int
        (C, H, W) of each.
    sha256 : str
        Of these images and their labels.
    """

    name: str
    split: str | None
    images: int
    shape: tuple[int, ...]
    sha256: str

    def __post_init__(self) -> None:
        if not self.shape or min(self.images, *self.shape) < 1:
            raise ValueError(
                f"a data set of a result must have images of a pixel at least, got {self.images} "
                f"of shape {self.shape}; take the result as it was made"
            )


@dataclass(frozen=True)
class NetworkInfo:
    """A network: its name, and the SHA-256 of its weights and buffers."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Machine:
    """What a computation ran on.

    Attributes
    ----------
    cpu : str
        Name of the processor.
    cores : int or None
        Its logical cores.
    system : str
    network_threads, solver_threads : int
        Of torch, and of SPLIC.
    device : str
        Of the networks.
    """

    cpu: str
    cores: int | None
    system: str
    network_threads: int
    solver_threads: int
    device: str


@dataclass(frozen=True)
class Provenance:
    """How a result came about.

    Attributes
    ----------
    versions : dict
        Package -> version, None where it is not installed.
    code : str
        SHA-256 of the code of this package that decides the result.
    machine : Machine
    command : str or None
        The command line, if there was one.
    date : str
        When the result was finished, in UTC.
    """

    versions: dict[str, str | None]
    code: str
    machine: Machine
    command: str | None
    date: str
