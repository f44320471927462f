"""One image at a time: a tensor, an array or a PIL image."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.backends import get_backend
from splic_ext.common.checks import check_integer, check_number, shortened
from splic_ext.completion import MAX_THREADS, complete, resolve_options
from splic_ext.errors import ShapeError
from splic_ext.options import SolverOptions
from splic_ext.transforms.processes import fresh_seed, threads_here

__all__ = ["Complete", "Completing", "check_axis", "refuse_channel_last"]

#: Samples and epochs are numbered below it: each pair has a mask index of its own.
MOST = 2**32

#: Modes of PIL that are completed, by the number of their channels; alpha is not one.
_MODES = {"L": 1, "RGB": 3, "CMYK": 4, "F": 1}
_WITH_ALPHA = {"LA": "L", "RGBA": "RGB"}


class Completing:
    """What transforms of images and of batches share: how the solver is called."""

    def __init__(
        self,
        options: SolverOptions | str | None,
        channel_axis: int,
        data_range: float | None,
        threads: int | None,
        backend: str,
    ) -> None:
        self.options = resolve_options(options)
        self.channel_axis = check_axis(channel_axis)
        self.data_range = data_range
        if data_range is not None:
            self.data_range = check_number("data_range", data_range, 0.0, above=True)
        self.threads = threads
        if threads is not None:
            self.threads = check_integer("threads", threads, 1, MAX_THREADS)
        get_backend(backend, "cpu")
        self.backend = backend


class Complete(Completing):
    """Low-rank completion of one image (SPLIC [1]_), to be used like a transform of torchvision.

    Parameters
    ----------
    options : SolverOptions or str, optional
        Options of the solver, or the name of a preset: ``"paper"`` (the default) or
        ``"recommended"``.
    seed : int, optional
        In [0, 2**64): the mask depends on it, the number of the sample and the epoch alone, see
        :meth:`__call__`. None (the default): fresh masks. Where torch was imported, their seed
        comes from torch's default CPU generator, which differs between the workers and the epochs
        of a ``DataLoader``, and can be repeated by ``torch.manual_seed``; else it comes from the
        system, and cannot be repeated.
    channel_axis : int, default -3
        -1 for tensors and arrays of shape (H, W, C).
    data_range : float, optional
        As in :func:`splic_ext.complete`: by default 255 for uint8, else 1.
    threads : int, optional
        Most threads of the solver. Default: one in a process that ``multiprocessing`` has started,
        such as a worker, and else as in :func:`splic_ext.complete`.
    backend : str, default "auto"
        As in :func:`splic_ext.complete`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    BackendUnavailableError
        The back end cannot run here.

    Notes
    -----
    *Thread safety*: safe to call from several threads. *Processes*: it can be pickled, and holds
    nothing that a fork would share. The back end ``"numpy"`` uses the threads of NumPy's BLAS,
    whatever `threads` says: bound them with ``OMP_NUM_THREADS=1``.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021.

    Examples
    --------
    >>> import splic_ext
    >>> image = np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)
    >>> done = Complete("recommended", seed=7)(image, index=5)
    >>> expected = splic_ext.complete(image, options="recommended", seed=7, first_index=5)
    >>> np.array_equal(done, expected)
    True
    """

    def __init__(
        self,
        options: SolverOptions | str | None = None,
        seed: int | None = None,
        *,
        channel_axis: int = -3,
        data_range: float | None = None,
        threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(options, channel_axis, data_range, threads, backend)
        self.seed = None if seed is None else check_integer("seed", seed, 0, 2**64 - 1)

    def __repr__(self) -> str:
        return f"Complete(options={self.options!r}, seed={self.seed})"

    def __call__(self, image: Any, *others: Any, index: int | None = None, epoch: int = 0) -> Any:
        """Complete an image.

        Parameters
        ----------
        image : tensor, array or PIL image
            A torch tensor or a NumPy array of shape (C, H, W) or (H, W), or (H, W, C) with
            ``channel_axis=-1``, of uint8 or of floats in [0, 1]; or a PIL image of the mode L,
            LA, RGB, RGBA, CMYK or F. H and W from 1 to 512. It is not changed.
        *others
            What belongs to the image, such as a label: returned as it came.
        index : int, optional
            Number of the sample in its data set, below 2**32. Needed with a `seed`; without one it
            has no effect.
        epoch : int, default 0
            Number of the epoch, below 2**32, for other masks in each. With 0 sample i has the mask
            of ``complete(..., seed=seed, first_index=i)``, with epoch e that of
            ``first_index=2**32 * e + i``.

        Returns
        -------
        image, or a tuple (image, *others)
            Of the kind, dtype, shape and device of `image`. Alpha of a PIL image comes back as it
            was; its `info` is kept.

        Raises
        ------
        TypeError
            No image, or one of another dtype or mode; an `index` that is missing.
        ValueError
            NaN, infinity or values out of range; an `index` or `epoch` out of range.
        ShapeError
            A `ValueError`: another number of axes, a side above 512 pixels, or an image that is
            channel last where `channel_axis` says otherwise.
        ArithmeticError
            The iteration diverged.
        """
        number, seed = self._number(index, epoch), self.seed
        seed = fresh_seed() if seed is None else seed
        pil = sys.modules.get("PIL.Image")
        if pil is not None and isinstance(image, pil.Image):
            done = self._picture(image, pil, seed, number)
        else:
            self._check(image)
            done = self._solve(image, self.channel_axis, seed, number)
            if type(done) is not type(image) and hasattr(done, "as_subclass"):
                done = done.as_subclass(type(image))  # as the images of torchvision are
        return (done, *others) if others else done

    def _number(self, index: int | None, epoch: int) -> int:
        """Return the mask index of a sample in an epoch."""
        if self.seed is None:
            return 0
        if index is None:
            raise TypeError(
                "`index` must be given to a transform with a `seed`, or all images would have one "
                "mask; wrap the data set in splic_ext.transforms.CompletedDataset, or leave out "
                "the `seed` for fresh masks"
            )
        number = check_integer("index", index, 0, MOST - 1)
        return check_integer("epoch", epoch, 0, MOST - 1) * MOST + number

    def _check(self, image: Any) -> None:
        """Raise unless this is a tensor or an array that holds one image."""
        shape = getattr(image, "shape", None)
        if shape is None or not hasattr(image, "dtype"):
            raise TypeError(
                f"`image` must be a tensor, an array or a PIL image, got {type(image).__name__}; "
                "convert it with numpy.asarray"
            )
        shape = tuple(shape)
        if len(shape) not in (2, 3):
            expected = "(C, H, W) or (H, W)" if self.channel_axis == -3 else "(H, W, C) or (H, W)"
            raise ShapeError(
                f"`image` must have shape {expected}, got {shape}; a transform takes one image: "
                "complete batches with splic_ext.complete, or CompleteCollate in a DataLoader",
                shape,
                expected,
            )
        refuse_channel_last("image", shape, self.channel_axis)

    def _solve(self, image: Any, axis: int, seed: int, number: int) -> Any:
        return complete(
            image,
            options=self.options,
            seed=seed,
            first_index=number,
            backend=self.backend,
            threads=threads_here(self.threads),
            channel_axis=axis,
            data_range=self.data_range,
        )

    def _picture(self, image: Any, pil: Any, seed: int, number: int) -> Any:
        """Return a PIL image, completed but for its alpha."""
        mode = _WITH_ALPHA.get(image.mode, image.mode)
        if mode not in _MODES:
            raise TypeError(
                f"`image` must be a PIL image of the mode L, LA, RGB, RGBA, CMYK or F, got "
                f"{shortened(repr(image.mode))}; convert it with image.convert('RGB')"
            )
        pixels: npt.NDArray[Any] = np.asarray(image).reshape(image.height, image.width, -1)
        done = self._solve(pixels[..., : _MODES[mode]], -1, seed, number)
        result = pil.frombytes(mode, image.size, np.ascontiguousarray(done).tobytes())
        if mode != image.mode:
            result.putalpha(image.getchannel("A"))
        result.info = dict(image.info)
        return result


def check_axis(channel_axis: Any) -> int:
    """Return the channel axis of images without a batch, or raise unless it is one."""
    if isinstance(channel_axis, bool) or channel_axis not in (-3, -1):
        raise ValueError(
            "`channel_axis` must be -3 (channel first) or -1 (channel last), got "
            f"{shortened(repr(channel_axis))}; move it there with moveaxis"
        )
    return int(channel_axis)


def refuse_channel_last(name: str, shape: tuple[int, ...], channel_axis: int) -> None:
    """Raise for images of 1, 3 or 4 columns, and more channels than that: they are channel last."""
    if channel_axis == -3 and len(shape) > 2 and shape[-1] in (1, 3, 4) and shape[-3] > 4:
        raise ShapeError(
            f"`{name}` of shape {shape} looks channel last; pass `channel_axis=-1` for images "
            "of shape (H, W, C)",
            shape,
            "channel first",
        )
