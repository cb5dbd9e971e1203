"""The child process that holds one onnxruntime session and answers JSON lines.

This file and what child.child_modules lists need the standard library, numpy and onnxruntime alone:
their text is handed to a fresh interpreter, which has no package. One request a line on standard
input, one reply a line on standard output:

    {"do": "start"}  -> versions, available providers, rss_before_bytes
    {"do": "load", path, providers, threads, session_options, fold, work: a folder}
                     -> load_s, rss_after_load_bytes, inputs, outputs, providers
    {"do": "run", inputs: {seed, shapes} or {npz, sample}, with ranges and batch, inspect, share,
     fresh, take: {count, seed} or null}
                     -> seconds, outputs, peak_rss_bytes, memory_over_time (see session_memory.py);
                     with `inspect` also finite and checksum
    {"do": "quit"}

With `share` each output has the `place` of its memory, which the next run writes into again; with
`fresh` a run writes into new memory. With `take` each has `taken`, a row of the chosen values.
A request that fails is answered by {"error": text}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from ..base.memory import resident
from .session_inputs import (
    Arrays,
    RequestError,
    as_batch,
    batch_shapes,
    describe,
    from_file,
    seeded,
)
from .session_memory import Memory
from .session_outputs import Outputs, inspect_arrays, take_values


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
        self._memory = Memory()
        self._memory.watch()
        self._session: Any = None
        self._binding: Any = None
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []
        self._buffers = Outputs("")
        self._taken = Outputs("")
        self._bound: Any = None
        self._kept: Arrays = {}

    def start(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """Import numpy and onnxruntime; what they take is not the model's memory."""
        import numpy as np
        import onnxruntime

        return {
            "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
            "available_providers": onnxruntime.get_available_providers(),
            "rss_before_bytes": resident()[0],
        }

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make the session, and the buffers of its outputs."""
        import onnxruntime

        options = session_options(onnxruntime, request["threads"], request["session_options"])
        before = time.perf_counter()
        self._session = onnxruntime.InferenceSession(
            request["path"],
            sess_options=options,
            providers=request["providers"],
            disabled_optimizers=None if request["fold"] else ["ConstantFolding"],
        )
        load_s = time.perf_counter() - before
        loaded = resident()[0]
        self._inputs = describe(self._session.get_inputs(), "input")
        self._outputs = describe(self._session.get_outputs(), "output")
        self._binding = self._session.io_binding()
        self._buffers, self._taken = Outputs(request["work"]), Outputs(request["work"])
        self._buffers.prepare(self._outputs)
        return {
            "load_s": load_s,
            "rss_after_load_bytes": loaded,
            "inputs": self._inputs,
            "outputs": self._outputs,
            "providers": self._session.get_providers(),
        }

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run once. Only the run itself is timed, not the inputs, checks and checksums."""
        if request["fresh"]:
            self._buffers.prepare(self._outputs)
        self._give_inputs(request["inputs"])
        try:
            seconds, arrays = self._timed_run()
        except Exception:
            if not self._buffers.arrays:
                raise
            self._buffers.release()  # onnxruntime forgives a wrongly declared shape when unbound
            seconds, arrays = self._timed_run()
        reply: dict[str, Any] = {"seconds": seconds}
        if request["inspect"]:
            reply |= inspect_arrays(arrays)
        take = request["take"]
        reply["outputs"] = [
            self._buffers.describe(name, array, request["share"] and not take)
            for name, array in arrays.items()
        ]
        for row in reply["outputs"] if take else ():
            values = take_values(arrays[row["name"]], take)
            row["taken"] = self._taken.describe(row["name"], values, True)
        reply["peak_rss_bytes"] = resident()[1]
        reply["memory_over_time"] = self._memory.points()
        return reply

    def _timed_run(self) -> tuple[float, Arrays]:
        """Run; return the seconds and the outputs by name."""
        names = [row["name"] for row in self._outputs]
        if any(row["dtype"] == "str" for row in (*self._inputs, *self._outputs)):
            before = time.perf_counter()  # onnxruntime binds no strings
            values = self._session.run(names, self._kept)
            return time.perf_counter() - before, dict(zip(names, values, strict=True))
        self._bind_outputs()
        before = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        seconds = time.perf_counter() - before
        arrays: Arrays = {}
        for name, value in zip(names, self._binding.get_outputs(), strict=True):
            buffer = self._buffers.arrays.get(name)
            arrays[name] = value.numpy() if buffer is None else buffer
        return seconds, arrays

    def _give_inputs(self, spec: Mapping[str, Any]) -> None:
        if spec == self._bound:
            return
        shapes = {} if "npz" in spec else spec["shapes"]
        if spec["batch"]:
            shapes = batch_shapes(self._inputs, shapes)
        if "npz" in spec:
            self._kept = from_file(self._inputs, spec["npz"], spec["sample"])
        else:
            self._kept = seeded(self._inputs, spec["seed"], spec["ranges"], shapes)
        if spec["batch"]:
            self._kept = as_batch(spec["batch"], self._inputs, self._kept, spec["ranges"])
        self._binding.clear_binding_inputs()
        for name, array in self._kept.items():  # kept: the binding does not own their memory
            if array.dtype.kind != "O":
                self._binding.bind_cpu_input(name, array)
        self._bound = dict(spec)

    def _bind_outputs(self) -> None:
        self._binding.clear_binding_outputs()
        for row in self._outputs:
            buffer = self._buffers.arrays.get(row["name"])
            if buffer is None:
                self._binding.bind_output(row["name"], "cpu")
            else:
                self._binding.bind_output(
                    row["name"], "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data
                )


def be_modest() -> None:
    """Take the lowest priority of processor and disk."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        os.nice(19)
    call = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine)  # ioprio_set(2)
    if call:
        import ctypes

        this_process, idle = 1, 3 << 13
        ctypes.CDLL(None).syscall(call, this_process, 0, idle)


def main() -> None:
    """Answer requests until "quit" or the end of standard input."""
    be_modest()
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
