"""Containers in and out: NumPy, torch, CuPy and any DLPack array, seen as memory and strides."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.devices import (
    DLPackArray,
    Placement,
    beside,
    is_captured,
    is_foreign,
    on_device,
)
from splic_ext.arrays.dtypes import DTYPES
from splic_ext.arrays.memory import Memory
from splic_ext.errors import ShapeError

__all__ = ["ArrayView", "channel_first", "looks_channel_last", "view_array"]


@dataclass(frozen=True)
class ArrayView:
    """An array of any library, opened without a copy.

    Attributes
    ----------
    array : Any
        The container as it came.
    bits : ndarray or None
        A NumPy view of its memory in its own axis order; bfloat16 shows as uint16. None where the
        memory is not on the CPU.
    dtype : str
        Name of the element type: "float32", "bfloat16", "bool" and so on.
    device : str
        Kind of device: "cpu", "cuda" and so on.
    """

    array: Any
    bits: npt.NDArray[Any] | None
    dtype: str
    device: str

    @property
    def host(self) -> npt.NDArray[Any]:
        """The NumPy view of an array on the CPU."""
        if self.bits is None:
            raise TypeError(f"an array on {self.device!r} has no NumPy view")
        return self.bits

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.array.shape if self.bits is None else self.bits.shape)

    @property
    def place(self) -> str:
        """The device, with its number where there may be several: "cpu", "cuda:1"."""
        if self.device != "cuda":
            return self.device
        return f"cuda:{on_device(self.array).index}"

    def memory(self, partner: ArrayView | None = None) -> Memory:
        """Return the memory of the array.

        That of a CUDA device is ready on the current stream of its library, or of that of a
        `partner` with which it is used.
        """
        if self.device != "cuda":
            return Memory.of(self.host)
        array = on_device(self.array)
        return (array if partner is None else beside(array, on_device(partner.array))).memory()

    def copied(self) -> ArrayView:
        """Return a copy of the memory of the array."""
        if self.device == "cuda":
            return view_array("copy", on_device(self.array).copy())
        bits = self.host.copy("K")
        return ArrayView(bits, bits, self.dtype, self.device)

    def placement(self, reads: bool) -> Placement | None:
        """Return where and how the array is completed; None on the CPU."""
        if self.device != "cuda":
            return None
        array = on_device(self.array)
        return Placement(array.index, array.stream(), array.scratch, reads or array.waits)

    def wait_for(self, other: ArrayView) -> None:
        """Wait for the device where the library of another array may reuse its memory too early."""
        if self.device == "cuda":
            array = on_device(self.array)
            if is_foreign(on_device(other.array), array):
                array.wait()

    def check_graph(self, name: str, other: ArrayView) -> None:
        """Refuse an array that would have to be waited for while a CUDA graph is captured."""
        if self.device != "cuda":
            return
        array = on_device(self.array)
        if is_foreign(on_device(other.array), array) and is_captured(array):
            raise RuntimeError(
                f"a CUDA graph cannot take in a call that waits for the device, as for a `{name}` "
                f"of another library than `batch`, got a {type(other.array).__name__}; convert it "
                "before the capture"
            )

    def same_kind(self, other: ArrayView) -> bool:
        """Whether both are arrays of one library."""
        for kind in (np.ndarray, getattr(sys.modules.get("torch"), "Tensor", np.ndarray)):
            if isinstance(self.array, kind) or isinstance(other.array, kind):
                return isinstance(self.array, kind) and isinstance(other.array, kind)
        return type(self.array) is type(other.array)

    def empty_like(self) -> ArrayView:
        """Return an uninitialised array of the same container, dtype, shape and layout."""
        if self.device == "cuda":
            empty = on_device(self.array).empty_like()
            return ArrayView(empty, None, self.dtype, self.device)
        if isinstance(self.array, np.ndarray):
            return view_array("out", np.empty_like(self.array, subok=False))
        torch = _torch_of(self.array)
        if torch is not None:
            with torch.inference_mode(self.array.is_inference()):
                return view_array("out", torch.empty_like(self.array))
        # An array of another library may be immutable: fill a NumPy array, convert it at the end.
        return view_array("out", np.empty_like(self.host))

    def convert(self, result: ArrayView) -> Any:
        """Return a result of :meth:`empty_like` as the container of this array."""
        if result.same_kind(self):
            return result.array
        return self.array.__array_namespace__().from_dlpack(result.array)

    def will_change(self) -> None:
        """Tell torch that the memory is about to change, so that backward() does not use it."""
        torch = _torch_of(self.array)
        if torch is not None and not self.array.is_inference():  # those keep no count
            torch.autograd.graph.increment_version(self.array)


def _torch_of(array: Any) -> Any:
    """Return the torch module if `array` is one of its tensors; never imports torch."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else None


def view_array(name: str, array: Any) -> ArrayView:
    """Open a container.

    Raises
    ------
    TypeError
        Not an array, or one whose memory cannot be viewed; the message names the parameter.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must be a plain array, got a MaskedArray, whose mask would be ignored; use "
            ".filled(0) or .data, and to inpaint pass ~numpy.ma.getmaskarray(batch) as `mask`"
        )
    if isinstance(array, np.ndarray):
        return _numpy_view(name, array, array.view(np.ndarray))
    torch = _torch_of(array)
    if torch is not None:
        return _torch_view(name, array, torch)
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        kind = int(array.__dlpack_device__()[0])
        if kind != 1:
            device = {2: "cuda", 3: "cuda", 10: "rocm", 13: "cuda"}.get(kind, f"dlpack:{kind}")
            dtype = str(getattr(array, "dtype", "unknown")).rpartition(".")[2]
            if device == "cuda" and isinstance(on_device(array), DLPackArray):
                _check_namespace(name, array)
            return ArrayView(array, None, dtype, device)
        _check_namespace(name, array)
        return _numpy_view(name, array, np.from_dlpack(array))
    raise TypeError(
        f"`{name}` must be a NumPy array, a torch tensor or another DLPack array, got "
        f"{type(array).__name__}; convert it with numpy.asarray"
    )


def _check_namespace(name: str, array: Any) -> None:
    if not hasattr(array, "__array_namespace__"):
        raise TypeError(
            f"`{name}` is a {type(array).__name__}, which has no `__array_namespace__` to come "
            "back as; convert it with numpy.from_dlpack, or one on a GPU with torch.from_dlpack"
        )


def _numpy_view(name: str, array: Any, bits: npt.NDArray[Any]) -> ArrayView:
    dtype = bits.dtype.name
    if not bits.dtype.isnative:
        raise TypeError(
            f"`{name}` must be in the byte order of this machine, got dtype {bits.dtype.str!r}; "
            f"convert it with {name}.astype({dtype!r})"
        )
    if dtype == "bfloat16":  # the NumPy extension type of ml_dtypes
        bits = bits.view(np.uint16)
    return ArrayView(array, bits, dtype, "cpu")


def _in_graph(tensor: Any, torch: Any) -> bool:
    """Say whether the memory of a tensor is not there, or what is written to it would be lost."""
    if torch.compiler.is_compiling():  # torch.compile leaves it out of its graphs, export does not
        return not torch.compiler.is_dynamo_compiling()
    modes = torch._C._TorchDispatchModeKey
    return bool(
        torch.jit.is_tracing()
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        or torch._C._get_dispatch_mode(modes.PROXY) is not None
        or torch._C._get_dispatch_mode(modes.FAKE) is not None
    )


def _torch_view(name: str, tensor: Any, torch: Any) -> ArrayView:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if _in_graph(tensor, torch):
        raise RuntimeError(
            f"`{name}` is in a trace or transform of torch, as by vmap, and complete() leaves "
            "torch; use splic_ext.autograd.complete_differentiable or a defence, which are "
            "operators of torch, or call it outside"
        )
    if tensor.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"`{name}` requires grad, but complete() is not differentiable; pass {name}.detach(), "
            "or call it under torch.no_grad()"
        )
    if tensor.layout != torch.strided:
        raise TypeError(
            f"`{name}` must be a dense tensor, got layout {tensor.layout}; use .to_dense()"
        )
    if tensor.is_neg() and name == "out":
        raise TypeError(
            f"`{name}` is a lazily negated view, which has no memory of its own; "
            f"use {name}.resolve_neg()"
        )
    if tensor.device.type != "cpu":
        return ArrayView(tensor, None, dtype, tensor.device.type)
    bits = tensor.detach().resolve_neg()
    if dtype == "bfloat16":
        return ArrayView(tensor, bits.view(torch.int16).numpy().view(np.uint16), dtype, "cpu")
    if dtype not in DTYPES and dtype != "bool":
        return ArrayView(tensor, None, dtype, "cpu")
    return ArrayView(tensor, bits.numpy(), dtype, "cpu")


def looks_channel_last(shape: tuple[int, ...], channel_axis: int) -> bool:
    """Tell whether an array read as channel first has 3 or 4 columns, and more channels than 4."""
    if len(shape) < 3 or channel_axis not in (-3, len(shape) - 3):
        return False
    return shape[-1] in (3, 4) and shape[-3] > 4


def channel_first(name: str, memory: Memory, channel_axis: int) -> Memory:
    """Return the memory of an image, a colour image or a batch in the shape (N, C, H, W)."""
    ndim = len(memory.shape)
    if ndim not in (2, 3, 4):
        expected = "(H, W), (C, H, W) or (N, C, H, W)"
        raise ShapeError(
            f"`{name}` must have shape {expected}, got {memory.shape}; reshape it to 2, 3 or 4 "
            "axes",
            memory.shape,
            expected,
        )
    if isinstance(channel_axis, bool) or not isinstance(channel_axis, (int, np.integer)):
        raise TypeError(f"`channel_axis` must be an integer, got {channel_axis!r}; use -3 or -1")
    if ndim == 2:
        return memory.expanded(2)
    axis = int(channel_axis)
    axis = axis - ndim if axis >= 0 else axis
    if axis not in (-3, -1):
        raise ValueError(
            f"`channel_axis` must be -3 (channel first) or -1 (channel last), got {channel_axis} "
            f"for an array of {ndim} axes; move it there with moveaxis"
        )
    return memory.moved(axis, -3).expanded(4 - ndim)
