"""The child process that holds one onnxruntime session and answers JSON lines.

A single file of standard library, numpy and onnxruntime: its text is handed to a fresh interpreter
(see measure.py), so nothing of the package can be imported here. One request a line on standard
input, one reply a line on standard output:

    {"do": "start"}  -> versions, available providers, rss_before_bytes
    {"do": "load", path, providers, threads, session_options}
                     -> load_s, rss_after_load_bytes, inputs, outputs, providers
    {"do": "run", inputs: {seed, ranges, shapes} or {npz}, inspect, output: folder or null,
     take: {count, seed} or null}
                     -> seconds, outputs, peak_rss_bytes; with `inspect` also finite and sha256
    {"do": "quit"}

A request that fails is answered by {"error": text}.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

BLOCK = 1 << 20  # elements that are checked, hashed and written at a time
_BITS = (8, 16, 32, 64)
# onnxruntime's name of a type and numpy's. Types that numpy lacks (bfloat16, float8, int4) and
# strings are left out: a model that takes or gives them is refused.
DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({name}{bits})": f"{name}{bits}" for name in ("int", "uint") for bits in _BITS},
}


class RequestError(Exception):
    """A request that cannot be met, with a reason for people."""


def memory() -> tuple[int, int]:
    """Return this process's resident memory in bytes: now, and the highest so far.

    On Linux VmRSS and VmHWM of /proc/self/status. `ru_maxrss` would be wrong: a child inherits
    the figure of the process that started it. On Windows the working set.
    """
    if sys.platform == "win32":
        return _windows_memory()
    lines = Path("/proc/self/status").read_text(errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    now, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def _windows_memory() -> tuple[int, int]:
    if sys.platform != "win32":  # written so for mypy
        raise RequestError("this is not Windows")
    import ctypes
    from ctypes import wintypes

    sizes = "peak now peak_paged paged peak_nonpaged nonpaged pagefile peak_pagefile"

    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS of psapi.h
        _fields_ = [(name, wintypes.DWORD) for name in ("size", "page_faults")]
        _fields_ += [(name, ctypes.c_size_t) for name in sizes.split()]

    counters = Counters()
    counters.size = ctypes.sizeof(counters)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    get = kernel.K32GetProcessMemoryInfo
    get.argtypes = [wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD]
    if not get(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
        raise ctypes.WinError(ctypes.get_last_error())
    return int(counters.now), int(counters.peak)


def describe(values: Sequence[Any], kind: str) -> list[dict[str, Any]]:
    """Return name, type, numpy dtype and shape of a session's inputs or outputs.

    Raises:
        RequestError: a type that numpy lacks, or no tensor at all.
    """
    rows = []
    for value in values:
        dtype = DTYPES.get(value.type)
        if dtype is None:
            raise RequestError(
                f"{kind} {value.name!r} is of type {value.type}; supported are {', '.join(DTYPES)}"
            )
        shape = [size if isinstance(size, int) else str(size) for size in value.shape]
        rows.append({"name": value.name, "type": value.type, "dtype": dtype, "shape": shape})
    return rows


def is_static(row: Mapping[str, Any]) -> bool:
    """Tell whether every dimension of a described value is a number."""
    return all(isinstance(size, int) for size in row["shape"])


def concrete_shape(row: Mapping[str, Any], given: Sequence[int] | None) -> list[int]:
    """Return the shape to use for an input: as given, else 1 for each symbolic dimension.

    Raises:
        RequestError: the shape given does not fit the model's.
    """
    declared = row["shape"]
    if given is None:
        return [size if isinstance(size, int) else 1 for size in declared]
    fits = _numbers(given) and len(given) == len(declared)
    fits = fits and all(
        size >= 0 and size == (want if isinstance(want, int) else int(size))
        for size, want in zip(given, declared, strict=True)
    )
    if not fits:
        raise RequestError(f"shape {given!r} does not fit {row['name']!r}, which is {declared}")
    return [int(size) for size in given]


def _numbers(values: Any) -> bool:
    """Tell whether a request holds a list of numbers here."""
    listed = isinstance(values, list | tuple)
    return listed and all(isinstance(value, int | float) for value in values)


def seeded(
    rows: Sequence[Mapping[str, Any]],
    seed: int,
    ranges: Mapping[str, Sequence[float]],
    shapes: Mapping[str, Sequence[int]],
) -> Arrays:
    """Make inputs from a seed and the model's own descriptions.

    Floats are standard normal, integers uniform over [0, 1], booleans fair; with a range
    `[low, high]`, floats and integers are uniform over it, both ends included. Each input has its
    own random stream, from the seed and its name, whatever the order of inputs.

    Raises:
        RequestError: a range or shape that fits no input.
    """
    import numpy as np

    unknown = (set(ranges) | set(shapes)) - {row["name"] for row in rows}
    if unknown:
        names = ", ".join(sorted(row["name"] for row in rows))
        raise RequestError(f"no input is called {', '.join(sorted(unknown))}; there are {names}")
    inputs = {}
    for row in rows:
        name, dtype = row["name"], np.dtype(row["dtype"])
        shape = concrete_shape(row, shapes.get(name))
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        limits = _limits(name, dtype, ranges.get(name))
        if dtype.kind == "b":
            inputs[name] = random.integers(0, 2, shape).astype(bool)
        elif dtype.kind == "f" and limits is None:
            inputs[name] = np.asarray(random.standard_normal(shape)).astype(dtype)
        elif dtype.kind == "f":
            low, high = limits or (0, 1)
            inputs[name] = np.asarray(random.uniform(low, high, shape)).astype(dtype)
        else:
            low, high = (int(limit) for limit in limits or (0, 1))
            drawn = random.integers(low, high, shape, dtype=dtype.type, endpoint=True)
            inputs[name] = np.asarray(drawn)
    return inputs


def _limits(name: str, dtype: Any, limits: Sequence[float] | None) -> tuple[float, float] | None:
    import numpy as np

    if limits is None:
        return None
    if dtype.kind == "b" or not _numbers(limits) or len(limits) != 2 or limits[0] > limits[1]:
        raise RequestError(
            f"the range of {name!r} is {limits!r}; give [low, high], no range for bool"
        )
    bounds: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if limits[0] < bounds.min or limits[1] > bounds.max:
        raise RequestError(f"the range {limits} of {name!r} leaves the range of {dtype}")
    return limits[0], limits[1]


def from_file(rows: Sequence[Mapping[str, Any]], path: str) -> Arrays:
    """Read inputs from an .npz file with one array for each input.

    Raises:
        RequestError: names, types or shapes do not fit the model.
    """
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        inputs = {name: _native(archive[name]) for name in archive.files}
    names = {row["name"] for row in rows}
    if set(inputs) != names:
        raise RequestError(f"{path} holds {sorted(inputs)}, but the inputs are {sorted(names)}")
    for row in rows:
        array = inputs[row["name"]]
        if array.dtype.name != row["dtype"]:
            raise RequestError(f"{row['name']!r} in {path} is {array.dtype}, not {row['dtype']}")
        concrete_shape(row, array.shape)
    return inputs


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order and this machine's byte order, as onnxruntime wants it."""
    import numpy as np

    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def session_options(runtime: Any, threads: int, settings: Mapping[str, Any]) -> Any:
    """Return SessionOptions with what was given, or None: then the session is the default one.

    A name with a dot is a session config entry, any other an attribute of SessionOptions; the
    values of `graph_optimization_level` and `execution_mode` are names as ORT_DISABLE_ALL.

    Raises:
        RequestError: an attribute or value that onnxruntime does not know.
    """
    if not threads and not settings:
        return None
    options = runtime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    enums = {
        "graph_optimization_level": runtime.GraphOptimizationLevel,
        "execution_mode": runtime.ExecutionMode,
    }
    for name, value in settings.items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
            continue
        if name.startswith("_") or callable(getattr(options, name, min)):
            raise RequestError(f"onnxruntime has no session option {name!r}")
        try:
            setattr(options, name, getattr(enums[name], value) if name in enums else value)
        except (AttributeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"session option {name!r} cannot be {value!r}: {reason}") from None
    return options


class Server:
    """One session, its bound inputs and outputs."""

    def __init__(self) -> None:
        self._session: Any = None
        self._binding: Any = None
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []
        self._buffers: Arrays = {}
        self._bound: Any = None
        self._kept: Arrays = {}

    def start(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Import numpy and onnxruntime; what they take is not the model's memory."""
        import numpy as np
        import onnxruntime

        return {
            "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
            "available_providers": onnxruntime.get_available_providers(),
            "rss_before_bytes": memory()[0],
        }

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make the session. Outputs of static shape get a buffer that every run writes into."""
        import numpy as np
        import onnxruntime

        options = session_options(onnxruntime, request["threads"], request["session_options"])
        before = time.perf_counter()
        self._session = onnxruntime.InferenceSession(
            request["path"], sess_options=options, providers=request["providers"]
        )
        load_s = time.perf_counter() - before
        loaded = memory()[0]
        self._inputs = describe(self._session.get_inputs(), "input")
        self._outputs = describe(self._session.get_outputs(), "output")
        self._binding = self._session.io_binding()
        for row in self._outputs:
            if is_static(row) and math.prod(row["shape"]):
                self._buffers[row["name"]] = np.empty(row["shape"], row["dtype"])
        return {
            "load_s": load_s,
            "rss_after_load_bytes": loaded,
            "inputs": self._inputs,
            "outputs": self._outputs,
            "providers": self._session.get_providers(),
        }

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run once. Only the run itself is timed, not the inputs, checks, hashes and files."""
        self._bind_inputs(request["inputs"])
        try:
            seconds = self._timed_run()
        except Exception:
            if not self._buffers:
                raise
            self._buffers = {}  # onnxruntime forgives a wrongly declared shape of unbound outputs
            seconds = self._timed_run()
        bound = zip(self._outputs, self._binding.get_outputs(), strict=True)
        arrays: Arrays = {}
        for row, value in bound:
            buffer = self._buffers.get(row["name"])
            arrays[row["name"]] = value.numpy() if buffer is None else buffer
        reply: dict[str, Any] = {"seconds": seconds}
        if request["inspect"] or request["output"]:
            reply |= inspect_arrays(arrays, None if request["take"] else request["output"])
        if request["take"]:
            take_values(arrays, request["take"], request["output"])
        reply["outputs"] = [
            {"name": name, "dtype": a.dtype.name, "shape": list(a.shape), "bytes": a.nbytes}
            for name, a in arrays.items()
        ]
        reply["peak_rss_bytes"] = memory()[1]
        return reply

    def _timed_run(self) -> float:
        self._bind_outputs()
        before = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return time.perf_counter() - before

    def _bind_inputs(self, spec: Mapping[str, Any]) -> None:
        if spec == self._bound:
            return
        if "npz" in spec:
            self._kept = from_file(self._inputs, spec["npz"])
        else:
            self._kept = seeded(self._inputs, spec["seed"], spec["ranges"], spec["shapes"])
        self._binding.clear_binding_inputs()
        for name, array in self._kept.items():  # kept: the binding does not own their memory
            self._binding.bind_cpu_input(name, array)
        self._bound = dict(spec)

    def _bind_outputs(self) -> None:
        self._binding.clear_binding_outputs()
        for row in self._outputs:
            buffer = self._buffers.get(row["name"])
            if buffer is None:
                self._binding.bind_output(row["name"], "cpu")
            else:
                self._binding.bind_output(
                    row["name"], "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data
                )


def inspect_arrays(arrays: Arrays, folder: str | None) -> dict[str, Any]:
    """Tell whether all values are finite and the SHA-256 of all bytes, block by block.

    With a folder, the bytes of output number N also become its file `N.bin`.
    """
    import numpy as np

    finite, digest = True, hashlib.sha256()
    for number, array in enumerate(arrays.values()):
        flat = np.ascontiguousarray(array).reshape(-1)
        with open(Path(folder) / f"{number}.bin" if folder else os.devnull, "wb") as handle:
            for first in range(0, flat.size, BLOCK):
                block = flat[first : first + BLOCK]
                finite = finite and (block.dtype.kind != "f" or bool(np.isfinite(block).all()))
                raw = block.view(np.uint8).data
                digest.update(raw)
                handle.write(raw)
    return {"finite": finite, "sha256": digest.hexdigest()}


def positions(size: int, count: int, seed: int) -> NDArray[Any]:
    """Choose `count` of `size` elements: one seeded draw in each of `count` equal parts.

    Returns:
        int64 positions, ascending and all different; all of them when there are no more.
    """
    import numpy as np

    if size <= count:
        return np.arange(size)
    edges = np.arange(count + 1, dtype=np.int64) * size // count
    # Not a Generator: its streams may change with numpy's version, and positions are not shipped.
    drawn = np.random.RandomState(seed).random_sample(count)
    return edges[:-1] + (drawn * np.diff(edges)).astype(np.int64)


def take_values(arrays: Arrays, take: Mapping[str, int], folder: str) -> None:
    """Write the chosen values of output number N, in order of position, to its file `N.bin`."""
    import numpy as np

    for number, array in enumerate(arrays.values()):
        flat = np.ascontiguousarray(array).reshape(-1)
        flat[positions(flat.size, take["count"], take["seed"])].tofile(
            Path(folder, f"{number}.bin")
        )


def main() -> None:
    """Answer requests until "quit" or the end of standard input."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # whatever a library prints goes to standard error, not between the replies
    server = Server()
    commands = {"start": server.start, "load": server.load, "run": server.run}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        try:
            reply = commands[request["do"]](request)
        except RequestError as error:
            reply = {"error": str(error)}
        except Exception as error:  # onnxruntime's errors share no base class of their own
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
