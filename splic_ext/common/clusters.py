"""A cluster of Ray: that of the environment, or one for the time being."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from splic_ext.common.optional import optional

__all__ = ["ENGINES", "check_engine", "cluster"]

#: Where work is done: on this machine, or on a cluster of Ray.
ENGINES = ("local", "ray")


def check_engine(engine: str) -> str:
    """Return the name of an engine, or raise.

    >>> check_engine("ray")
    'ray'
    """
    if engine not in ENGINES:
        raise ValueError(
            f"`engine` must be one of {', '.join(ENGINES)}, got {engine!r}; choose one"
        )
    return engine


@contextmanager
def cluster() -> Iterator[Any]:
    """Give Ray, connected: to the cluster of RAY_ADDRESS, else to one that ends with the block."""
    with optional("`engine='ray'`", "ray", "ray"):
        ray: Any = import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if "RAY_ADDRESS" not in os.environ:
        given |= {"include_dashboard": False}
    ray.init(**given)
    try:
        yield ray
    finally:
        ray.shutdown()
