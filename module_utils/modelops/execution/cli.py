"""The command line that needs no Ansible: the same modules, by hand.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a required gate fails, 4 one is inconclusive, 130
interrupted. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..base import processor
from ..base.json_values import json_safe
from ..base.progress import Meter, Progress, line
from ..base.units import seconds, size
from ..judging import gates
from .module_result import run_guarded
from .without_ansible import documented_options, load

if TYPE_CHECKING:
    from rich.console import Console

DONE, FAILED, GATE_FAILED, INCONCLUSIVE, INTERRUPTED = 0, 1, 3, 4, 130
# What is required of any INT8 model; the rest depends on the model and is asked for with --gate.
DEFAULT_GATES = ("cosine_min>0.98", "speedup>=1")
SIMILARITY = (
    "cosine_min", "cosine_mean", "mse", "mae", "max_abs_error", "sqnr_db", "reference_rms",
    "agreement_min",
)  # fmt: skip
_GATE = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*")

Result = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command: the module that does it, and what of it the command line shows.

    Attributes:
        positional: the module's options that come without a name, with their names in the help.
        fixed: options that only make sense under Ansible, with what they are here.
        show: prints a result for people.
    """

    module: str
    summary: str
    positional: Mapping[str, str]
    show: Callable[[Result], None]
    fixed: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the console's code page lacks (cp1252) must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = vars(_parser().parse_args(arguments))
    command, as_json = COMMANDS[given.pop("command")], given.pop("json")
    for name, default in given.pop("defaults").items():
        # What a flag gathered takes the place of the default.
        value = given.get(name)
        given[name] = default if value is None else dict(value) if default == {} else value
    try:
        result = _run(command, given)
    except KeyboardInterrupt:
        print("Interrupted. Nothing half-written has a final name.", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print(json.dumps(json_safe(result), indent=2))
    elif not result.get("failed"):
        command.show(result)
    if result.get("failed"):
        if result.get("exception"):
            print(result["exception"], file=sys.stderr)
        print(f"ERROR: {result['msg']}", file=sys.stderr)
        return FAILED
    verdicts = {gates.FAIL: GATE_FAILED, gates.INCONCLUSIVE: INCONCLUSIVE}
    return verdicts.get(result.get("verdict", ""), DONE)


def _run(command: Command, given: dict[str, Any]) -> Result:
    check_mode = given.pop("check", False)
    module = load(command.module)
    if command.module == "onnx_quantize":
        with _bar() as bar:
            result = run_guarded(lambda p, check: module.run(p, check, bar), given, check_mode)
        if result.get("failed"):
            return result
        options = {"path": str(Path(given["dest"]).parent), "state": "present", "places": []}
        written = run_guarded(
            load("artifact_manifest").run, options | {"manifest": result["manifest"]}, check_mode
        )
        return written if written.get("failed") else result
    with _spinner(command.summary):
        return run_guarded(module.run, given, check_mode)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m modelops",
        description="Quantize an ONNX model and prove the result, without Ansible.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a required gate fails,"
        " 4 one is inconclusive.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        module = load(command.module)
        sub = commands.add_parser(name, help=command.summary, description=f"{command.summary}.")
        documented, defaults = _documented(module), dict(command.fixed)
        for option, spec in module.MODULE["argument_spec"].items():
            if option in command.positional:
                metavar = command.positional[option]
                sub.add_argument(option, metavar=metavar, help=documented[option])
            elif option not in command.fixed:
                defaults[option] = _add_option(sub, option, spec, documented[option])
        if name == "quantize":
            sub.add_argument("--check", action="store_true", help="Foretell, and write nothing.")
        sub.set_defaults(defaults=defaults)
        sub.add_argument("--json", action="store_true", help="Print the result as JSON.")
    return parser


def _add_option(
    parser: argparse.ArgumentParser, name: str, spec: Mapping[str, Any], text: str
) -> Any:
    """Add an Ansible option as a flag of the command line; return its default."""
    flag, default = f"--{name.replace('_', '-')}", spec.get("default")
    shown = "" if default in (None, [], {}) else f" (default: {default})"
    text = (text + shown).replace("%", "%%")
    add = partial(parser.add_argument, dest=name)
    if name == "gates":
        text = f"For instance 'cosine_min>0.98'. (default: {' and '.join(DEFAULT_GATES)})"
        default = [_gate(gate) for gate in DEFAULT_GATES]
        add("--gate", action="append", type=_gate, help=text)
    elif spec["type"] == "bool":
        add(flag, action=argparse.BooleanOptionalAction, help=text)
    elif spec["type"] == "dict":
        add(flag, action="append", type=_pair, metavar="NAME=VALUE", help=text)
    elif spec["type"] == "list":
        choices, metavar = spec.get("choices"), name.upper().removesuffix("S")
        text += " May be repeated."
        of_each = {"int": int}.get(spec.get("elements", ""), str)
        add(flag, action="append", type=of_each, choices=choices, metavar=metavar, help=text)
    else:
        kind = {"int": int, "float": float}.get(spec["type"], str)
        needed, choices = spec.get("required", False), spec.get("choices")
        add(flag, type=kind, choices=choices, required=needed, help=text)
    return default


def _pair(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE, the value as JSON where it is some."""
    name, _, value = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _gate(text: str) -> dict[str, Any]:
    found = _GATE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"write FIGURE>NUMBER with < <= > or >=, not {text!r}")
    name, op, number = found.groups()
    threshold = {"threshold": float(number), "promised_threshold": None}
    return {"name": name, "op": op, "required": True, **threshold}


def _documented(module: ModuleType) -> dict[str, str]:
    """Return a text for each option, without Ansible's markup."""
    texts = {}
    for name, option in documented_options(module).items():
        text = option["description"]
        text = text if isinstance(text, str) else " ".join(text)
        texts[name] = re.sub(r"\b(?:C|I|O|M|RV|V|E)\(([^)]*)\)", r"\1", text)
    return texts


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show how far a job is as a bar on standard error, if that is a terminal."""
    from rich import progress as bars

    console, meter = _console(), Meter()
    columns = bars.SpinnerColumn(), bars.BarColumn(20), bars.TextColumn("{task.description}")
    with bars.Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)

        def tell(phase: str, done: int, total: int) -> None:
            text = line(meter.figures(phase, done, total))
            shown.update(task, description=text, completed=done, total=total or None)

        yield tell


@contextmanager
def _spinner(text: str) -> Iterator[None]:
    console = _console()
    with console.status(text) if console.is_terminal else nullcontext():
        yield


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _show_quantized(result: Result) -> None:
    forms: dict[str, int] = defaultdict(int)
    for node in result["manifest"]["nodes"]:
        forms[node["form"]] += 1
    print("written" if result["changed"] else "unchanged: the artifacts are right already")
    for entry in result["artifacts"]:
        print(f"  {entry['path']}  {size(entry['size'])}  {entry['sha256']}")
    int8 = sum(entry["size"] for entry in result["artifacts"])
    share = 100 * int8 / result["source_bytes"]
    print(f"release {result['release_id']}: {share:.1f} % of {size(result['source_bytes'])}")
    peak = result["peak_rss_bytes"]
    memory = "" if peak is None else f", peak memory {size(peak)}"
    print(f"took {seconds(result['elapsed_s'])} without proving{memory}")
    print("nodes: " + ", ".join(f"{count} {form}" for form, count in sorted(forms.items())))
    reasons = defaultdict(list)
    for kept in result["kept_fp32"]:
        reasons[f"{kept['op']}: {kept['reason']}"].append(kept["node"])
    for reason, nodes in reasons.items():
        print(f"kept in FP32, {reason}")
        for node in nodes:
            print(f"  {node}")
    for step in result["quality_path"]:
        figures = ", ".join(f"{name} {value:.5g}" for name, value in step["figures"].items())
        print(f"{step['moved']} nodes moved: {figures}, {size(step['bytes'])}")
    for note in result["notes"]:
        print(note)


def _show_benchmark(result: Result) -> None:
    for name in ("load_s", "first_s", "p50_s", "p95_s", "p99_s"):
        print(f"{name.removesuffix('_s'):8} {seconds(result[name])}")
    for name in ("peak_rss_bytes", "rss_model_bytes", "output_bytes"):
        print(f"{name.removesuffix('_bytes')}: {size(result[name])}")
    print(f"finite: {result['finite']}, repeatable: {result['repeatable']}")
    print(f"providers: {', '.join(result['providers'])}")


def _show_comparison(result: Result) -> None:
    for name in SIMILARITY:
        if name in result:
            print(f"{name:14} {_figure(result[name])}")
    value, low, high = (_figure(result["speedup"][key]) for key in ("value", "low", "high"))
    print(f"speedup        {value} ({low} to {high})")
    for name in ("rss_ratio", "load_ratio"):
        print(f"{name:14} {_figure(result[name])}")
    for row in result["judged"]:
        note = f" ({row['note']})" if row["note"] else ""
        print(f"gate {row['name']} {row['op']} {row['threshold']:g}: {row['verdict']}{note}")
    for note in result["notes"]:
        print(note)
    print(f"verdict: {result['verdict']}")


def _figure(value: float | str | None) -> str:
    """Write a figure; one that is not finite comes as a text (json_safe)."""
    return f"{value:.5g}" if isinstance(value, float | int) else str(value)


def _show_advice(result: Result) -> None:
    print(processor.shown(result["cpu"]))
    for row in result["shapes"]:
        shape = " x ".join(map(str, row["shape"]))
        print(f"{row['op']} {shape}, {len(row['nodes'])} nodes: {row['proposed']} is proposed")
        for form, by_rows in row["speedup"].items():
            figures = (
                f"{count} rows {figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
                for count, figure in by_rows.items()
            )
            print(f"  {form}: {', '.join(figures)}")
    if left := result["unmeasured"]:
        print(f"{left} shape{'s were' if left > 1 else ' was'} not measured: see --most")
    print(f"granularity: {result['granularity']}")
    print("These are FP32's times by the form's on random weights. quantize measures similarity.")


def _show_manifest(result: Result) -> None:
    for row in result["files"]:
        print(f"ok  {row['name']}  {size(row['size'])}  {row['sha256']}")
    print(f"release {result['release_id']}")


def _show_signed(result: Result) -> None:
    print(f"release {result['release_id']}, serial {result['serial']}")
    print("signed" if result["changed"] else "unchanged: it was signed already")


COMMANDS = {
    "quantize": Command(
        "onnx_quantize",
        "Quantize SRC to DST + DST.data, with their manifest and SHA256SUMS",
        {"src": "SRC", "dest": "DST"},
        _show_quantized,
        {"progress_s": 0, "limit_s": 0, "progress_file": None, "places": []},
    ),
    "benchmark": Command(
        "onnx_benchmark",
        "Measure load, latency and memory of a model",
        {"path": "MODEL"},
        _show_benchmark,
        {},
    ),
    "compare": Command(
        "onnx_compare",
        "Measure a quantized model against its FP32 model, and judge it",
        {"reference": "FP32", "candidate": "DST"},
        _show_comparison,
        {
            "record": None,
            "key": None,
            "remeasure": False,
            "figures": {},
            "progress_s": 0,
            "limit_s": 0,
            "progress_file": None,
        },
    ),
    "advise": Command(
        "onnx_advise",
        "Measure which form is fastest here for the weights of a model, and propose a recipe",
        {"path": "MODEL"},
        _show_advice,
        {},
    ),
    "manifest": Command(
        "artifact_manifest",
        "Verify the artifacts in a folder against their manifest and SHA256SUMS",
        {"path": "FOLDER"},
        _show_manifest,
        {"state": "verified", "manifest": None, "places": []},
    ),
    "sign": Command(
        "release_sign",
        "Sign the artifacts in a folder that a person brings to a target",
        {"path": "FOLDER"},
        _show_signed,
        {"manifest": None},
    ),
}
