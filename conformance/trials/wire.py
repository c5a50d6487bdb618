"""How calls travel between the judge and a backend's own process: frames of plain values, arrays as their memory.

An array keeps shape, dtype and strides: the span of memory that it touches is sent, gaps and all. What comes from a
backend's process is unpickled without classes, so that nothing of the backend's is ever run in the judge's process.
"""

import ctypes
import io
import pickle
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases.arithmetic import DTYPES, numpy_dtype

AnyArray = NDArray[Any]
_HEAD = struct.Struct("<Q")
_LARGEST = 2**36
"""Bytes in a frame; more is no length that we wrote."""
_DTYPES = {name: numpy_dtype(name) for name in DTYPES}
NAMES: Mapping[Any, str] = {dtype: name for name, dtype in _DTYPES.items()}


class Garbled(Exception):
    """What came was not written by the other side's `send`."""


Packed = tuple[str, tuple[int, ...], tuple[int, ...], int, Any]
"""An array on its way: dtype, shape, strides, where the first element is in its memory, and the memory as bytes.

None for memory where only shape and dtype matter.
"""


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message of plain values."""
    data = pickle.dumps(message, protocol=5)
    stream.write(_HEAD.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message. Raises EOFError where the other side is gone, Garbled where it is not one of `send`."""
    (length,) = _HEAD.unpack(_read(stream, _HEAD.size))
    if length > _LARGEST:
        raise Garbled
    try:
        return _Plain(io.BytesIO(_read(stream, length))).load()
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise Garbled from error


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


class _Plain(pickle.Unpickler):
    """Reads builtin types alone."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


# -- arrays -----------------------------------------------------------------------------------------------------------


def span(array: AnyArray) -> tuple[int, int]:
    """Address of the first byte that an array touches, and how many bytes there are to the last."""
    address: int = array.__array_interface__["data"][0]
    if array.flags.c_contiguous:
        return address, array.nbytes
    reach = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    return address + low, high - low + array.itemsize


def memory(array: AnyArray) -> bytes:
    """The bytes of an array's span, with what lies in its gaps."""
    return array.tobytes() if array.flags.c_contiguous else ctypes.string_at(*span(array))


def pack(array: AnyArray) -> Packed:
    """An array to be sent."""
    if array.flags.c_contiguous:
        return _name(array.dtype), array.shape, array.strides, 0, array.tobytes()
    offset = array.__array_interface__["data"][0] - span(array)[0]
    return _name(array.dtype), array.shape, array.strides, offset, memory(array)


def hollow(array: AnyArray) -> Packed:
    """Shape and dtype of an array that is of no use otherwise."""
    return _name(array.dtype), array.shape, (), 0, None


def unpack(packed: Packed) -> AnyArray:
    """The array that was packed, in memory of its own."""
    name, shape, strides, offset, held = packed
    dtype = _DTYPES.get(name) or np.dtype(name)
    if held is None:
        return np.broadcast_to(np.zeros((), dtype), shape)
    return np.ndarray(shape, dtype, bytearray(held), offset, strides)


def overwrite(array: AnyArray, held: bytes) -> None:
    """Put other bytes into an array's span."""
    address, size = span(array)
    if size != len(held):
        raise Garbled
    ctypes.memmove(address, held, size)


def view(array: AnyArray, packed: Packed) -> AnyArray:
    """An array in the memory of another; the offset counts from where that one's begins."""
    name, shape, strides, offset, _ = packed
    return np.ndarray(shape, _DTYPES[name], np.asarray(_Span(array)), offset, strides)


class _Span:
    """The memory that an array touches, as bytes."""

    def __init__(self, array: AnyArray) -> None:
        self.array = array  # kept alive
        address, size = span(array)
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}


def _name(dtype: np.dtype[Any]) -> str:
    return NAMES.get(dtype) or dtype.str
