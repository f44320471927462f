"""Parameters of a command that stand for several flags each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from splic_ext.cli.options import images_option

__all__ = ["flag_group", "reading_flags"]


def flag_group(
    command: Callable[..., None], group: str, flags: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """Replace a parameter of a command by flags.

    The command receives in it a dict of those that have a value, and the others have the defaults
    of what it is given to.
    """
    flags = tuple(flags)

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        given = {flag.name: values.pop(flag.name) for flag in flags}
        found = {name: value for name, value in given.items() if value is not None}
        command(**{group: found}, **values)

    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in own
        for parameter in (flags if one.name == group else (one,))
    ]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapper


def reading_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `reading` by the flags on how images are read, for `load_dataset`."""
    return flag_group(
        command, "reading", inspect.signature(_reading, eval_str=True).parameters.values()
    )


def _reading(
    download: Annotated[
        bool, images_option("--download", help="Fetch missing official files.")
    ] = False,
    resize: Annotated[
        str | None,
        images_option(
            metavar="N|HxW",
            help="Resize each image: its shorter side to N, or to a height and width.",
        ),
    ] = None,
    center_crop: Annotated[
        str | None,
        images_option(metavar="N|HxW", help="Keep the centre of each image, after --resize."),
    ] = None,
    interpolation: Annotated[
        str, images_option(metavar="bilinear|bicubic", help="Kernel of --resize, antialiased.")
    ] = "bilinear",
    max_bytes: Annotated[
        int,
        images_option(min=1, help="Most bytes that the images may take, and a file unpack to."),
    ] = 2**31,
) -> None:
    """Have these flags."""
