"""Nothing hangs on words: faults are told by reasons, ids and codes, in whatever language."""

from __future__ import annotations

import errno
import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from modelops.base import app_control, programs
from modelops.environment import venv
from modelops.execution import module_result, windows_jobs
from modelops.preflight import builder

from plugin_utils import background, boot, reply

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    "module_utils", "library", "plugin_utils", "action_plugins", "filter_plugins",
    "callback_plugins",
)  # fmt: skip
# What asks a text that was made for a person, in a file that ends so.
PATTERNS = {
    ("the name of a task", ".yml"): r"ansible_failed_task",
    ("a failure matched", ".yml"): (
        r"(\.msg|\.stderr|\.stdout)\b[^|}\n]* (is|is not) (search|match|regex)"
    ),
    ("words in a failure", ".yml"): r"['\"] (not )?in \S*(\.msg|\.stderr|failed_result)\b",
    ("a result's beginning", ".py"): r"(\bmsg\b|\bstr\(\w+\))[^=\n]{0,20}\.startswith\(",
    ("words of an exception", ".py"): (
        r"['\"] (not )?in (str\((error|err|exc|e)\)|\w+\.(msg|strerror|what)\b)"
    ),
    ("words of a result", ".py"): r"['\"] (not )?in str\(\w+(\.get\(|\[)['\"]msg",
    ("the words of a row", ".py"): (
        r"\[['\"](check|value|remedy)['\"]\](\.startswith| (==|!=|in|not in) )"
    ),
    ("a beginning", ".py"): r"startswith\(f?['\"](there is|package |Out of)",
    ("words of Windows", ".py"): r"['\"](DLL load failed|Out of memory)['\"]",
}
# The one place for each text of others that has no code; each says why, and what holds without it.
KNOWN = {
    ("plugin_utils/reply.py", "words of a result"),
    ("roles/sarai_service/vars/main.yml", "words in a failure"),
}


def sources() -> list[Path]:
    found = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    for folder in ("roles", "playbooks"):
        found += (ROOT / folder).rglob("*.yml")
    return found


def asked(text: str, suffix: str) -> set[str]:
    return {
        what
        for (what, where), pattern in PATTERNS.items()
        if where == suffix and re.search(pattern, text)
    }


def test_no_control_flow_hangs_on_words():
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in sources()
        for what in asked(path.read_text(encoding="utf-8"), path.suffix)
    }
    assert found == KNOWN


@pytest.mark.parametrize(
    "line",
    [
        "when: ansible_failed_task.name is search('Take the pair over')",
        "when: ansible_failed_result.msg is search('SHA-256')",
        "when: \"'SHA-256' in ansible_failed_result.msg\"",
        "failed_when: x is failed and 'Could not find' not in x.msg",
        'if str(result.get("msg")).startswith("Out of memory"):',
        'if row["check"].startswith("package "):',
        'if row["value"] == "missing":',
        'if "DLL load failed" in str(error):',
        'if "Timeout exceeded" in str(result.get("msg")):',
        'if text.startswith("there is no "):',
    ],
)
def test_the_patterns_find_what_was_there(line):
    assert asked(line, ".py" if line.startswith("if ") else ".yml")


def test_want_of_memory_is_a_reason(monkeypatch):
    def run(params, check_mode):
        raise MemoryError

    assert module_result.run_guarded(run, {}, False)["reason"] == module_result.OUT_OF_MEMORY
    module = SimpleNamespace(MODULE={"argument_spec": {}}, run=run)
    monkeypatch.setattr(windows_jobs.without_ansible, "load", lambda name: module)
    monkeypatch.setattr(windows_jobs.windows, "own_children", lambda: None)
    call = {
        "do": "call",
        "module": "m",
        "params": {},
        "check": False,
        "limit_s": 60,
        "limit_is": "x",
    }
    said = windows_jobs.serve(call, "base", lambda reply: None)["result"]
    assert said["failed"] and "MaxMemoryPerShellMB" in said["msg"]


def test_machine_code_that_does_not_load_is_told_by_its_file(tmp_path, monkeypatch):
    """The interpreter's own fault: a file of that name is there and is no machine code."""
    (tmp_path / f"broken_package{app_control.NATIVE[0]}").write_bytes(b"no machine code")
    (tmp_path / "wraps.py").write_text(
        "try:\n    import broken_package\nexcept ImportError as error:\n"
        "    raise ImportError('No se puede cargar') from error\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, native in (("broken_package", True), ("wraps", True), ("no_such_package", False)):
        with pytest.raises(ImportError) as raised:
            importlib.import_module(name)
        assert app_control.is_native(raised.value) is native, name


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (ImportError("Error al cargar la DLL"), True),
        (MemoryError(), True),
        (ModuleNotFoundError("modelops"), False),
        (OSError(errno.EACCES, "Acceso denegado"), False),
    ],
)
def test_a_python_that_is_not_whole_is_told_in_any_language(error, short, monkeypatch, capfd):
    def answer(call, say):
        raise error

    monkeypatch.setattr(boot, "answer", answer)
    real = boot.os.dup(1)
    try:
        boot.main({})
    finally:
        boot.os.dup2(real, 1)
        boot.os.close(real)
    said = json.loads(capfd.readouterr().out.partition(boot.MARK)[2])
    assert said["failed"] and said["msg"].startswith(boot.SHORT) is short


def test_an_environment_without_its_python_is_told_by_its_exit_code():
    for rc in reply.NO_HOME:
        assert "environment of py is broken" in reply.explain({"rc": rc, "stderr": "¡no!"}, "py")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("ERROR: [Errno 28] No queda espacio en el dispositivo", "Free space"),
        ("ERROR: [WinError 112] Espacio en disco insuficiente", "Free space"),
        ("ERROR: [WinError 5] Acceso denegado: 'x'", "no program uses"),
        ("ERROR: [Errno 13] Permiso denegado: 'x'", "no program uses"),
        ("ERROR: [WinError 53] No se ha encontrado la ruta de red", "what pip names"),
        ("ERROR: [Errno 2] No existe el archivo", "what pip names"),
    ],
)
def test_pip_meets_a_fault_of_the_system(said, advice):
    assert advice in venv._remedy(said)


@pytest.mark.parametrize(("rc", "level"), [(0, "ok"), (1, "problem")])
def test_the_package_index_is_judged_by_the_exit_code(rc, level, monkeypatch):
    monkeypatch.setattr(builder, "ask", lambda *given, **more: programs.Answer(rc, "¿onnx?"))
    params = {"packages": "lacking", "wheelhouse": "", "index_url": "", "connect_limit_s": 1,
              "call_limit_s": 1}  # fmt: skip
    assert builder.check_packages_source(params)["level"] == level


@pytest.mark.parametrize("ended", [True, False])
def test_a_job_that_was_ended_is_told_by_its_process(ended):
    result = {"failed": True, "msg": "tiempo"} | ({"child_pid": 7} if ended else {})
    watched = SimpleNamespace(
        job={"ansible_job_id": "1"},
        _results="/jobs/1",
        _action=SimpleNamespace(_execute_module=lambda **given: dict(result)),
        _shell=lambda command: "",
    )
    said = background.PosixJob.result(watched, None)
    assert ("Raise limit_s" in said["msg"]) is ended
