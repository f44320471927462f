"""Whole data sets, completed or defended shard by shard, on one machine or many."""

from __future__ import annotations

import os
from typing import Any

from splic_ext.common.checks import check_bool, check_integer
from splic_ext.conversion.outcome import Conversion
from splic_ext.options import SolverOptions

__all__ = ["KINDS", "Conversion", "convert", "verify"]

#: What a destination may hold.
KINDS = ("folder", "tar", "parquet", "npy", "cifar10")


def convert(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    to: str | None = None,
    shard_size: int | None = None,
    defense: str | None = None,
    options: SolverOptions | str = "recommended",
    seed: int = 0,
    backend: str = "auto",
    encode: str = "keep",
    quality: int = 95,
    max_pixels: int = 64_000_000,
    max_bytes: int = 2**31,
    strict: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    engine: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
    reporter: Any = None,
) -> Conversion:
    """Complete all images of a data set, shard by shard, into another.

    Memory does not grow with the data set. Image i of the source draws the mask of index i, so that
    neither workers nor shards change a bit. A shard appears when it is finished; after any end the
    same call makes those that are missing.

    Parameters
    ----------
    source : str or path
        A folder tree of images; WebDataset archives (``.tar``), Parquet files with image bytes or
        ``.npy`` files, one or a folder tree of them; files of CIFAR-10, SVHN or MNIST; or the name
        of a data set. A path, or a URL that fsspec opens, such as ``s3://bucket/train``.
    dest : str or path
        A folder or URL that is empty or not there, or holds this conversion, begun or finished.
    to : {"folder", "tar", "parquet", "npy", "cifar10"}, optional
        What to write. Default: what the source is, of files of arrays ``"npy"``.
    shard_size : int, optional
        Images of a shard. Default: the shards of the source, else 10,000.
    defense : str, optional
        A defence, as :func:`splic_ext.defenses.defense_from_spec` takes it, such as
        ``"tv:weight=0.1"``. Default: SPLIC by :func:`splic_ext.complete`, with `options`.
    options : SolverOptions or str, default "recommended"
        Of SPLIC, where no `defense` is given.
    seed : int, default 0
        Of the masks, in [0, 2**64).
    backend : str, default "auto"
        As of :func:`splic_ext.complete`.
    encode : {"keep", "png"}
        Whether image files keep their format, or become PNG. Pixels become PNG in any case.
    quality : int, default 95
        Of JPEG and lossy WebP files.
    max_pixels : int, default 64 million
        Images of more are left out.
    max_bytes : int, default 2**31
        Most bytes of a file in memory, of what a compressed archive unpacks to, and of a row group.
    strict : bool, default False
        Raise at the first image that cannot be converted, which is listed otherwise.
    skip_unreadable : bool, default False
        List images of a disk that fails, as damaged ones are, and finish their shards; else those
        fail, as the disk may be well again. After a bad place an archive is read from the next
        thousandth sample on, and Parquet no more.
    overwrite : bool, default False
        Begin anew where `dest` holds another conversion, whose files are removed; write beside
        files that are no conversion.
    engine : {"local", "ray"}
        Processes of this machine, or an actor pool of Ray Data: on the cluster of the environment
        variable ``RAY_ADDRESS``, else on one that is started here and stopped at the end.
    workers : int, optional
        Processes. Default: one for each processor, with one thread each. 0: no other process.
    threads : int, optional
        Most of the solver in each worker. Default: the processors, shared among the workers;
        more are not taken.
    gpus : float, default 0
        GPUs of each worker of Ray.
    reporter : optional
        Hears how it goes: what has the methods of ``splic_ext.files.reporting.Reporter``.

    Returns
    -------
    Conversion
        Counts. In `dest` are ``manifest.json``, with the SHA-256 of all inputs and outputs, seed,
        options, version and counts, and ``rejects.jsonl``, one line for each image that is left
        out: its index, its key and the reason.

    Raises
    ------
    ValueError
        A parameter out of its range; a source that holds nothing or several kinds of files, or has
        changed; a destination with another conversion.
    FileExistsError
        `dest` holds other files.
    FileNotFoundError
        `source` is not there.
    BlockingIOError
        Another conversion writes to `dest`.
    OSError
        `dest` cannot be written.
    ConversionError
        Shards could not be made, because their source cannot be read; or `strict`, and an image is
        rejected. What is finished is kept.
    MissingExtraError
        A package is not installed: pillow, pyarrow, fsspec, ray or torch.

    Notes
    -----
    An image that ends its worker process twice, by a fault of a decoder or for want of memory, is
    left out as others that cannot be read; nothing else is lost.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert("digits", f"{folder}/clean", to="tar", options="paper", workers=0)
    >>> done.images, done.written, done.rejected, done.shards
    (1797, 1797, 0, 2)
    """
    from splic_ext.common.optional import optional

    with optional("`convert`", "cli", "PIL"):
        from splic_ext.conversion.opening import open_run
    check_bool("overwrite", overwrite)
    if shard_size is not None:
        shard_size = check_integer("shard_size", shard_size, 1)
    if to is not None and to not in KINDS:
        raise ValueError(f"`to` must be one of {', '.join(KINDS)}, got {to!r}; choose one")
    run = open_run(
        source,
        dest,
        to=to,
        shard_size=shard_size,
        engine=engine,
        workers=workers,
        threads=threads,
        gpus=gpus,
        overwrite=overwrite,
        reporter=reporter,
        settings={
            "options": options,
            "defense": defense,
            "seed": seed,
            "backend": backend,
            "encode": encode,
            "quality": quality,
            "max_pixels": max_pixels,
            "max_bytes": max_bytes,
            "strict": strict,
            "skip_unreadable": skip_unreadable,
        },
    )
    return run()


def verify(dest: str | os.PathLike[str]) -> list[str]:
    """Compare the files of a converted data set with the hashes in its manifest.

    Parameters
    ----------
    dest : str or path
        As of :func:`convert`. Of one that is not finished, the finished shards are compared.

    Returns
    -------
    list of str
        What is wrong, in words; empty if nothing is.

    Raises
    ------
    ValueError
        There is no manifest that can be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = convert("digits", folder, to="npy", options="paper", workers=0)
    ...     verify(folder)
    []
    """
    from splic_ext.common.optional import optional

    with optional("`verify`", "cli", "PIL"):
        from splic_ext.conversion.opening import problems_of
    return problems_of(dest)
