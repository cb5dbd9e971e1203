"""The bridge to Windows hosts, as far as it goes without one: both of its sides, on this system."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import models
import pytest
from ansible.errors import AnsibleError
from ansible.module_utils.testing import patch_module_args
from modelops.execution import windows_jobs, without_ansible

from plugin_utils import boot, bridge
from plugin_utils.reply import decode

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in ROOT.glob("library/*.py"))
PAIR = {"src": r"C:\a\m.onnx", "dest": r"C:\a\m8.onnx"}


class Host:
    """A host's Python that is called as the bridge calls it, with a folder of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "modelops"

    def start(self, **call: object) -> subprocess.Popen[str]:
        call = {"boot": Path(boot.__file__).read_text(), **bridge.packed()[0], **call}
        process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", bridge.START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LOCALAPPDATA": str(self.folder)},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(call))
        process.stdin.close()
        process.stdin = None
        return process

    def call(self, **call: object) -> dict[str, object]:
        process = self.start(**call)
        stdout, stderr = process.communicate(timeout=60)
        return decode({"rc": process.returncode, "stdout": stdout, "stderr": stderr}, "py")

    def sample(
        self, job: str, path: Path, megabytes: int = 5, limit_s: float = 60, same: str = "x"
    ) -> subprocess.Popen[str]:
        options = {"path": str(path), "megabytes": megabytes}
        return self.begin(job, "sample_model", options, limit_s, same)

    def begin(
        self, job: str, module: str, options: dict, limit_s: float = 60, same: str = "x"
    ) -> subprocess.Popen[str]:
        params = bridge.validate(module, options)
        work = {"module": module, "params": params, "check": False, "same": same}
        return self.start(do="job", job=job, limit_s=limit_s, limit_is="limit_s", **work)

    def look(self, job: str, wait_s: float = 0, **call: object) -> dict[str, object]:
        return self.call(do="watch", job=job, wait_s=wait_s, **call)

    def finish(self, job: str, path: Path, **options: object) -> dict[str, object]:
        """A job from its start to its end."""
        process = self.sample(job, path, **options)
        seen = self.look(job, wait_s=30)
        process.communicate(timeout=60)
        return seen

    def job(self, name: str) -> Path:
        return self.base / "jobs" / name


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path / "local folder ü")
    host.folder.mkdir()
    answer = host.look("none", package=bridge.packed()[1])
    assert answer["state"] == "waiting", answer
    return host


# ------------------------------------------------------------------ the options


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_an_action_that_goes_over_the_bridge(module):
    action = importlib.import_module(f"action_plugins.{module}").ActionModule
    assert issubclass(action, bridge.Bridge)


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("onnx_quantize", {}),
        ("onnx_quantize", {**PAIR, "bogus": 1}),
        ("onnx_quantize", {**PAIR, "granularity": "per_row"}),
        ("onnx_quantize", {**PAIR, "src": {"a": 1}, "threads": "many"}),
        ("onnx_quantize", {**PAIR, "op_types": ["MatMul", "Relu"]}),
        ("onnx_quantize", {**PAIR, "forms": "none of them"}),
        ("onnx_compare", {"reference": "a", "candidate": "b", "gates": [{"name": "x"}]}),
        ("artifact_manifest", {"path": r"C:\a"}),
        ("artifact_push", {"state": "started", "src": r"C:\a"}),
        ("artifact_push", {"state": "finished"}),
    ],
)
def test_wrong_options_are_refused_in_the_words_of_linux(module, args, capsys):
    with pytest.raises(ValueError) as refused:
        bridge.validate(module, args)
    with patch_module_args(args), pytest.raises(SystemExit):
        without_ansible.load(module).main()
    said = json.loads(capsys.readouterr().out)["msg"]
    assert str(refused.value) == said.replace("(basic.py)", f"({module})")  # run from no file


@pytest.mark.parametrize("module", MODULES)
def test_ansible_is_told_what_the_bridge_reads(module, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "ansible.module_utils.basic.AnsibleModule",
        lambda **options: given.update(options) or SimpleNamespace(params={}, check_mode=True),
    )
    source = without_ansible.load(module)
    monkeypatch.setattr(source, "conclude", lambda *_: None)
    source.main()
    assert given == source.MODULE and given["supports_check_mode"] is True
    spec = given["argument_spec"]
    nested = [option for option in spec.values() if option.get("elements") == "path"]
    assert not nested, "the bridge takes paths only as options of their own"


@pytest.mark.parametrize(
    "path", [r"C:\a b\ü %TEMP%\$HOME\m.onnx", r"~\m.onnx", "D:/x/m.onnx", r"\\server\share\m"]
)
def test_a_path_stays_as_it_is_on_the_controller(path):
    params = bridge.validate("onnx_quantize", {**PAIR, "src": path})
    assert params["src"] == path
    assert params["granularity"] == "per_channel"


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (r"C:\a\m.onnx", r"C:\a\m.onnx"),
        (r"%Models%\m.onnx", r"C:\SARAi v2\m.onnx"),
        (r"C:\100%\a%b\%nothing%", r"C:\100%\a%b\%nothing%"),
        (r"~\m", r"C:\Users\noel\m"),
        (r"~m\m", r"~m\m"),
        ("C:/" + "d" * 250 + "/m", "\\\\?\\C:\\" + "d" * 250 + "\\m"),
        (r"\\server" + "\\d" * 150, r"\\server" + "\\d" * 150),
    ],
)
def test_the_host_knows_what_a_path_means(path, known):
    environment = {"MODELS": r"C:\SARAi v2", "USERPROFILE": r"C:\Users\noel"}
    assert windows_jobs.windows_path(path, environment) == known


@pytest.mark.parametrize("python", ["", "auto", "python.exe", r"%LOCALAPPDATA%\python.exe", "/x"])
def test_a_python_that_is_no_full_path_is_refused(python):
    with pytest.raises(AnsibleError, match="Set it to the full path"):
        bridge.require_python(python)


def test_a_full_path_may_have_either_slash():
    assert bridge.require_python("C:/a b/python.exe") == r"C:\a b\python.exe"


# ------------------------------------------------------------------ the code


def test_the_code_is_the_same_bytes_whenever_it_is_packed(tmp_path, monkeypatch):
    code, package = bridge.packed()
    content = zlib.decompress(base64.b64decode(package))
    assert hashlib.sha256(content).hexdigest() == code["code"]
    for file in [*ROOT.glob("library/*.py"), *ROOT.glob("module_utils/modelops/**/*.py")]:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        os.utime(copy, (1e9, 1e9))
    monkeypatch.setattr(bridge, "ROOT", tmp_path)
    assert bridge.packed.__wrapped__() == (code, package)
    (tmp_path / "library" / "host_check.py").write_text("")
    assert bridge.packed.__wrapped__()[0]["code"] != code["code"]


def test_the_code_is_asked_for_once_and_kept(tmp_path):
    host = Host(tmp_path)
    assert host.look("j") == {"need": "code"}
    code, package = bridge.packed()
    assert host.look("j", package=package)["state"] == "waiting"
    assert [path.name for path in (host.base / "code").iterdir()] == [code["code"]]
    assert host.look("j")["state"] == "waiting"


def test_code_that_was_damaged_is_brought_again(host):
    next(host.base.glob("code/*/library/host_check.py")).unlink()
    assert host.look("j") == {"need": "code"}
    assert host.look("j", package=bridge.packed()[1])["state"] == "waiting"
    assert next(host.base.glob("code/*/library/host_check.py")).exists()


def test_code_that_is_not_what_its_name_says_is_refused(tmp_path):
    host = Host(tmp_path)
    answer = host.look("j", code="0" * 64, package=bridge.packed()[1])
    assert answer["failed"] and "instead of " + "0" * 64 in answer["msg"]
    assert not (host.base / "code").exists()


# Of plugins with the same lines one (test_actions holds most of them equal).
OF_EACH_TEXT = {path.read_text("utf-8"): path for path in sorted(ROOT.glob("*_plugins/*.py"))}


@pytest.mark.parametrize("path", OF_EACH_TEXT.values(), ids=lambda path: path.stem)
def test_a_plugin_finds_modelops_by_itself(path):
    """An Ansible that is installed elsewhere has no way to this package but the plugin's own."""
    code = (
        "import runpy, sys; sys.path[:] = [p for p in sys.path if not p.endswith('module_utils')];"
        f" runpy.run_path({str(path)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr


def test_old_code_and_old_jobs_are_cleared_up(host, tmp_path):
    old, untold = host.base / "code" / ("1" * 64), host.job("untold")
    old.mkdir()
    untold.mkdir(parents=True)
    host.finish("a", tmp_path / "m.onnx")
    assert old.exists() and untold.exists(), "somebody may be about to use them"
    for folder in (old, untold):
        os.utime(folder, (1, 1))
    host.finish("b", tmp_path / "m.onnx")
    assert not old.exists() and not untold.exists() and not host.job("a").exists()


# ------------------------------------------------------------------ a call


def run(host: Host, module: str, check: bool = False, limit_s: float = 60, **args: object):
    params = bridge.validate(module, args)
    work = {
        "module": module,
        "params": params,
        "check": check,
        "limit_s": limit_s,
        "limit_is": "limit_s",
    }
    return host.call(do="call", **work)


def test_a_call_changes_checks_and_finds_no_change(host, tmp_path):
    path = tmp_path / "ünï codé %x%" / "m.onnx"
    path.parent.mkdir()
    options = {"path": str(path), "megabytes": 3}
    assert run(host, "sample_model", check=True, **options)["result"]["changed"]
    assert not path.exists()
    made = run(host, "sample_model", **options)["result"]
    assert made["changed"] and made["artifacts"][0]["path"] == str(path)
    assert not run(host, "sample_model", **options)["result"]["changed"]


def test_a_failure_has_the_modules_own_words(host):
    result = run(host, "onnx_quantize", src="/absent/ü.onnx", dest="/absent/m8.onnx")["result"]
    assert result["failed"] and result["msg"].startswith("/absent/ü.onnx: there is no such model")
    assert "exception" not in result


def test_a_fault_of_ours_comes_with_its_traceback(host, tmp_path):
    broken = {"module": "sample_model", "params": {"path": str(tmp_path)}, "check": False}
    result = host.call(do="call", limit_s=9, limit_is="limit_s", **broken)["result"]
    assert result["failed"] and result["msg"] == "KeyError: 'megabytes'"
    assert "Traceback" in result["exception"]


def test_a_call_that_takes_too_long_is_ended(host, tmp_path):
    result = run(host, "sample_model", limit_s=0.2, path=str(tmp_path / "m.onnx"), megabytes=3000)[
        "result"
    ]
    assert result["failed"] and "longer than limit_s, 0.2 s" in result["msg"]


# ------------------------------------------------------------------ a job


def test_a_job_is_watched_to_its_end_and_forgotten(host, tmp_path):
    assert host.look("j")["state"] == "waiting"
    seen = host.finish("j", tmp_path / "m.onnx")
    assert seen["state"] == "ended" and seen["result"]["changed"]
    ansible = tmp_path / "j1.2"
    ansible.write_text('{"finished": true}', encoding="utf-8-sig")  # as Windows writes it
    host.look("j", results_file=str(ansible))
    assert host.job("j").exists(), "whoever lost the answer asks again"
    host.finish("other", tmp_path / "m.onnx")
    assert not host.job("j").exists() and not ansible.exists()


def test_a_job_whose_python_fails_says_why(host, tmp_path):
    ansible = tmp_path / "j1.2"
    ansible.write_text('{"finished": true, "rc": 106, "stderr": "failed to locate pyvenv.cfg"}')
    seen = host.look("j", wait_s=9, results_file=str(ansible))
    assert seen["state"] == "gone"
    assert "the environment of py is broken" in decode(seen["said"], "py")["msg"]


def test_a_job_that_is_started_twice_begins_once(host, tmp_path):
    pair = [host.sample("j", tmp_path / "m.onnx") for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in pair]
    begun = ["begun" in json.loads(text.rpartition(boot.MARK)[2]) for text in said]
    assert sorted(begun) == [False, True]
    assert host.look("j")["result"]["changed"]


def test_a_job_that_cannot_be_noted_says_why(host, tmp_path):
    (host.base / "jobs").write_text("a file")
    said = host.sample("j", tmp_path / "m.onnx").communicate(timeout=60)[0]
    reply = decode({"rc": 0, "stdout": said}, "py")
    assert reply["failed"] and "NotADirectoryError" in reply["msg"], reply


def test_the_same_work_is_found_at_work_and_other_work_is_not(host, tmp_path):
    path = tmp_path / "m.onnx"
    process = host.sample("j", path, megabytes=1500)
    wait_for(lambda: host.look("j")["state"] == "running")
    again = host.finish("again", path, megabytes=1500)
    assert again["state"] == "same" and again["same"]["job"] == "j"
    assert 0 < again["same"]["since_s"] < 60
    other = host.finish("other", tmp_path / "other.onnx", same="y")
    assert other["state"] == "ended" and not host.job("again").exists()
    process.kill()
    process.communicate()
    gone = host.look("j", wait_s=5)
    assert gone["state"] == "gone" and gone["pid"] == process.pid
    assert host.finish("new", path)["state"] == "ended"


def test_of_two_that_begin_at_once_one_does_the_work(host, tmp_path):
    """If neither saw the other, the module's own lock decides."""
    models.voice(tmp_path / "m.onnx")
    options = {"src": str(tmp_path / "m.onnx"), "dest": str(tmp_path / "m8.onnx"), "verify": False}
    pair = [host.begin(name, "onnx_quantize", options) for name in ("a", "b")]
    for process in pair:
        process.communicate(timeout=60)
    seen = [host.look(name) for name in ("a", "b")]
    assert {"ended"} <= {look["state"] for look in seen} <= {"ended", "same"}
    assert any(look["result"].get("changed") for look in seen)


def test_a_job_ends_itself_at_its_limit(host, tmp_path):
    process = host.sample("j", tmp_path / "m.onnx", megabytes=3000, limit_s=0.5)
    seen = host.look("j", wait_s=30)
    assert seen["state"] == "ended" and "longer than limit_s, 0.5 s" in seen["result"]["msg"]
    process.communicate(timeout=30)
    assert process.returncode == 1


def wait_for(done) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("bits", "version", "words"),
    [(4, (3, 12, 1), "32 bits"), (8, (3, 8, 10), "too old"), (8, (3, 11, 0), "")],
)
def test_a_python_that_is_unfit_is_named(bits, version, words, monkeypatch):
    monkeypatch.setattr(boot.struct, "calcsize", lambda _: bits)
    monkeypatch.setattr(boot.sys, "version_info", version)
    assert words in boot.unfit() and bool(words) == bool(boot.unfit())
