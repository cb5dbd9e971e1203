"""Ask an onnxruntime for a session of a tiny model, stamped as the real one is.

Whether an onnxruntime runs a model's IR version and opsets, whether it works together with the
numpy beside it, and which providers a session really uses, it says itself: the real model is not
loaded.
Standard library only; the Python that is asked has the packages.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import app_control
from ..base.finding import Finding, finding
from ..base.programs import Answer, ask
from ..model.declared import Declared
from ..model.wire import encoded

CHECK = "onnxruntime in a session"
# The ids of the rows of an onnxruntime that does not run such a model, or no block-wise nodes.
REFUSED, NO_BLOCKWISE, BLOCKED = "refused", "blockwise", app_control.BLOCKED
MARK = "@@session@@"
# The graph y = x + x, which any provider has a kernel for; the stamps come before and behind it.
GRAPH = base64.b64decode("Cg4KAXgKAXgSAXkiA0FkZBIBZ1oPCgF4EgoKCAgBEgQKAggCYg8KAXkSCgoICAESBAoCCAI=")
# y = MatMulNBits(x, w, s) of 64 x 1, 8 bits, accuracy level 4, as forms.py writes block-wise nodes.
BLOCKWISE = base64.b64decode(
    "CnMKAXgKAXcKAXMSAXkiC01hdE11bE5CaXRzKggKAUsYQKABAioICgFOGAGgAQIqFQoOYWNjdXJhY3lfbGV2ZWwY"
    "BKABAioLCgRiaXRzGAigAQIqEQoKYmxvY2tfc2l6ZRhAoAECOg1jb20ubWljcm9zb2Z0EgFiKk0IAQgBCEAQAkIB"
    "d0pAgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGB"
    "gSoNCAEQAUIBc0oEAACAP1oTCgF4Eg4KDAgBEggKAggBCgIIQGITCgF5Eg4KDAgBEggKAggBCgIIAQ=="
)
STAMPED = ("ai.onnx", "ai.onnx.ml", "com.microsoft")  # others need no version of onnxruntime
# The oldest onnxruntime that runs an IR version, and an opset of ai.onnx. Measured: the wheel of
# each release from 1.15 to 1.32 was asked for sessions of this model with every stamp. (What ONNX
# release has which stamp: onnx.helper.VERSION_TABLE; the same by onnxruntime: onnxruntime.ai, "ONNX
# Runtime compatibility". An opset that a release calls "under development" it refuses.) Newer ones
# are not known here, and need not be: the session decides, this names the version to install.
IR_SINCE = {10: "1.18", 11: "1.23", 12: "1.24", 13: "1.24", 14: "1.32"}
OPSET_SINCE = {
    20: "1.17", 21: "1.18", 22: "1.21", 23: "1.23", 24: "1.24", 25: "1.24", 26: "1.25",
    27: "1.32", 28: "1.32",
}  # fmt: skip
BLOCKWISE_SINCE = "1.22"  # MatMulNBits is older, with 4 bits alone
NUMPY_2_SINCE = "1.19"  # microsoft/onnxruntime issue 21063
TAIL = 200  # characters of what a program said
ALWAYS = ("CPUExecutionProvider", "AzureExecutionProvider")
# Listed is not usable, so each provider gets a session, and the session is asked what it uses.
SESSION = f"""
import base64, json, sys
asked = json.loads(sys.stdin.buffer.read())
said = {{"version": None}}
def use(model, *names):
    session = onnxruntime.InferenceSession(base64.b64decode(asked[model]), providers=list(names))
    x = numpy.ones((1, 64) if model == "blockwise" else 2, numpy.float32)
    (y,) = session.run(None, {{"x": x}})
    assert (y == (64 if model == "blockwise" else 2)).all(), y
    return session.get_providers()
def why(*arguments):
    try:
        use(*arguments)
        return ""
    except Exception as error:
        return str(error).rpartition("&) ")[2].strip()[-{TAIL}:]  # before it stands where, in C++
def blocked(error):
    sys.path.append(asked["code"])
    from modelops.base import app_control
    return app_control.blocked(error)
try:
    import onnxruntime
    import numpy
except ModuleNotFoundError as error:
    if error.name != "onnxruntime":
        raise
except ImportError as error:
    if sys.platform != "win32" or not blocked(error):
        raise
    said = {{"blocked": blocked(error)}}
else:
    listed = onnxruntime.get_available_providers()
    said = {{"version": onnxruntime.__version__, "numpy": numpy.__version__, "listed": listed}}
    said["refused"] = why("model", "CPUExecutionProvider")
    said["blockwise"] = why("blockwise", "CPUExecutionProvider")
    said["used"], said["why"] = [], ""
    for name in listed:
        if name not in {ALWAYS!r} and not said["refused"]:
            try:
                said["used"] += [p for p in use("model", name, {ALWAYS[0]!r}) if p == name]
            except Exception as error:
                said["why"] = f"{{type(error).__name__}}: {{error}}"[:{TAIL}]
print({MARK!r} + json.dumps(said))
"""


def model(ir_version: int, opsets: Mapping[str, int], graph: bytes = GRAPH) -> bytes:
    """Return a tiny model with an IR version and with opsets.

    A domain that onnxruntime has no operators of its own for is left out. The standard operators
    are stamped always: the graph is made of them.
    """
    stamped = {"ai.onnx": 13} | {name: v for name, v in opsets.items() if name in STAMPED}
    out = b"\x08" + encoded(ir_version) + b"\x3a" + encoded(len(graph)) + graph
    for name, version in stamped.items():
        domain = b"" if name == "ai.onnx" else name.encode()
        opset = b"\x0a" + encoded(len(domain)) + domain + b"\x10" + encoded(version)
        out += b"\x42" + encoded(len(opset)) + opset
    return out


def check_session(
    python: Path, declared: Declared | None, gpu: bool, required: bool, limit_s: float
) -> list[Finding]:
    """Say what onnxruntime really uses in a session of that Python, and whether the model can run.

    Args:
        declared: what the model's graph says; None where it cannot be read.
        gpu: whether NVIDIA's driver lists a GPU.
        required: whether FP32 must run on it.
    """
    if not python.is_file():
        remedy = "It is looked at when the environment is there."
        return [not_yet(f"there is no {python} yet", remedy)]
    stamps = (declared.ir_version, declared.opsets) if declared else (7, {})
    models = {"model": model(*stamps), "blockwise": model(7, {"com.microsoft": 1}, BLOCKWISE)}
    asked = {name: base64.b64encode(content).decode() for name, content in models.items()}
    asked["code"] = str(Path(__file__).resolve().parents[2])
    command = [python, "-I", "-X", "utf8", "-c", SESSION]
    answer = ask(command, limit_s, json.dumps(asked), ORT_DISABLE_TELEMETRY="1")
    return judge(answer, declared, gpu, required)


def not_yet(value: str, remedy: str) -> Finding:
    """Return the row of what is not there yet: that it is missing is another row's problem."""
    return finding(CHECK, False, value, "a session runs", remedy, "advice")


def judge(answer: Answer, declared: Declared | None, gpu: bool, required: bool) -> list[Finding]:
    """Judge what the program that made the sessions said."""
    text, mark, reply = answer.text.rpartition(MARK)
    if not mark:
        return [
            finding(
                CHECK, False, answer.text[-TAIL:] or f"exit code {answer.rc}", "a session runs",
                "Install onnxruntime again, with a numpy that it can use (numpy 2 needs onnxruntime"
                f" {NUMPY_2_SINCE} or newer); on Windows it also needs the Microsoft Visual C++"
                " Redistributable (x64).",
            )
        ]  # fmt: skip
    said = json.loads(reply.splitlines()[0])
    if "blocked" in said:
        return [blocked(said["blocked"])]
    if said["version"] is None:
        return [not_yet("not installed", "It is looked at when onnxruntime is installed.")]
    if said["refused"]:
        return [_refused(said, declared)]
    rows = [_used(said, text, declared, gpu, required)]
    if said["blockwise"]:
        remedy = (
            f"Install onnxruntime {BLOCKWISE_SINCE} or newer there. Until then a release with the"
            " form blockwise_int8, which quantize_quality may choose, is refused on this host."
        )
        value = f"{said['version']}: {said['blockwise']}"
        rows.append(
            finding(
                "block-wise nodes of 8 bits", False, value, "they run", remedy, "advice",
                NO_BLOCKWISE,
            )
        )  # fmt: skip
    return rows


def blocked(file: str) -> Finding:
    """Return the row of a package that Windows' application control does not let load."""
    value = f"Windows' application control blocks {file}"
    return finding(CHECK, False, value, "a session runs", app_control.REMEDY, name=BLOCKED)


def _used(
    said: Mapping[str, Any], text: str, declared: Declared | None, gpu: bool, required: bool
) -> Finding:
    """Return the row of the providers that sessions use; `text` is what they logged."""
    listed = [name for name in said["listed"] if name not in ALWAYS]
    value = f"{said['version']} uses {', '.join([*said['used'], ALWAYS[0]])}"
    level = "problem" if required else "advice"
    if listed and not said["used"]:
        reasons = re.findall("Failed to create .*", text) or [said["why"]]
        why = f" ({reasons[0][:TAIL].strip()})" if reasons[0] else ""
        value += f" alone, though listed: {', '.join(listed)}{why}"
        remedy = (
            "Install the CUDA and cuDNN that this onnxruntime-gpu is made for, and the latest"
            " Microsoft Visual C++ Redistributable. Until then FP32 is measured on the processor."
        )
        return finding(CHECK, False, value, "what is listed", remedy, level)
    if (gpu or required) and not said["used"]:
        remedy = "Install onnxruntime-gpu instead of onnxruntime to measure FP32 on the GPU."
        return finding(CHECK, False, value, "the GPU", remedy, level)
    return finding(CHECK, True, value, needs(declared) or "a session runs", "")


def _refused(said: Mapping[str, Any], declared: Declared | None) -> Finding:
    """Return the row of an onnxruntime that does not run what the model is stamped with."""
    value = f"{said['version']} with numpy {said['numpy']}: {said['refused']}"
    since = oldest(declared) if declared else ""
    version = f"onnxruntime {since} or newer" if since else "a newer onnxruntime"
    remedy = (
        f"Install {version} in that Python, which is the service's own, or export the model with an"
        " older IR version and opset."
    )
    wanted = needs(declared) or "a session runs"
    return finding(CHECK, False, value, wanted, remedy, name=REFUSED)


def needs(declared: Declared | None) -> str:
    """Return what a model needs of an onnxruntime, in words; empty where it is not known."""
    if declared is None:
        return ""
    opsets = [f"{name} {v}" for name, v in sorted(declared.opsets.items()) if name in STAMPED]
    return f"runs IR version {declared.ir_version} and opset {', '.join(opsets)}, as the model has"


def oldest(declared: Declared) -> str:
    """Return the oldest onnxruntime that runs a model; empty where this project does not know."""
    opset = declared.opsets.get("ai.onnx", 0)
    known = max(IR_SINCE), max(OPSET_SINCE)
    if declared.ir_version > known[0] or opset > known[1]:
        return ""
    since = IR_SINCE.get(declared.ir_version, "1.0"), OPSET_SINCE.get(opset, "1.0")
    return max(since, key=lambda version: [int(part) for part in version.split(".")])
