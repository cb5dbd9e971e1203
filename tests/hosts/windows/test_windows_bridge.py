"""The project's modules on a Windows host, over WinRM."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import models
import pytest
from modelops import standalone
from modelops.sample import make_sample
from plays import Link, run, start

# A job that lasts long enough to do something to it.
SLOW = {"threads": 1, "verify": True, "samples": 1, "progress_s": 0.5, "quality": {"cosine": 0.9}}
HOLD = "import sys,time; f=open(sys.argv[1],'rb'); print('open',flush=True); time.sleep({})"


@pytest.fixture
def place(windows, tmp_path, request):
    """A folder of the test's own on the host, with spaces and more in its name."""
    name = "C:\\work\\" + re.sub(r"\W", "", request.node.name)[:30] + " ünï 100%"
    folder = windows.path(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield SimpleNamespace(name=name, folder=folder, local=tmp_path)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A model that takes some seconds to quantize."""
    path = tmp_path_factory.mktemp("sample") / "m.onnx"
    make_sample(path, 120)
    return path


@pytest.fixture
def large(sample, place) -> SimpleNamespace:
    for name in ("m.onnx", "m.onnx.data"):
        shutil.copyfile(sample.with_name(name), place.folder / name)
    return place


@pytest.fixture
def voice(place) -> SimpleNamespace:
    models.voice(place.folder / "m.onnx")
    return place


def quantize(place: SimpleNamespace, **options: object) -> dict:
    options = {"verify": False, "progress_s": 1, **options}
    names = {"src": f"{place.name}/m.onnx", "dest": f"{place.name}/m8.onnx"}
    return {"onnx_quantize": names | options}


def program(windows, text: str, *arguments: str, **keywords: object) -> dict:
    """A task that runs a line of Python there, past the bridge."""
    argv = [windows.python, "-I", "-c", text, *arguments]
    return {"ansible.windows.win_command": {"argv": argv}, **keywords}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def jobs(windows) -> Path:
    """The folder of the bridge's jobs on the host."""
    task = program(windows, "import os; print(os.environ['LOCALAPPDATA'])")
    return windows.path(run(windows, task).result["stdout"].strip() + r"\modelops\jobs")


def process_of_newest(jobs: Path) -> int:
    newest = max(jobs.glob("*/started.json"), key=lambda path: path.stat().st_mtime)
    return int(json.loads(newest.read_text())["pid"])


def await_line(process, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the play ended without {text!r}")


# ------------------------------------------------------------------ as on Linux


def test_check_diff_change_and_no_change(windows, voice):
    planned = run(windows, quantize(voice), arguments="--check --diff")
    assert planned.rc == 0, planned.output
    assert planned.result["changed"] and names(voice.folder) == {"m.onnx", "m.onnx.data"}
    assert re.search(r"\+m8\.onnx \d+ bytes [0-9a-f]{64}", planned.output)
    made, again = (run(windows, quantize(voice, verify=True)) for _ in range(2))
    assert made.result["changed"] and not again.result["changed"], again.output
    assert names(voice.folder) == {"m.onnx", "m.onnx.data", "m8.onnx", "m8.onnx.data"}
    assert made.result["release_id"] == planned.result["release_id"]
    for artifact in made.result["artifacts"]:
        content = (voice.folder / artifact["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    assert "m8.onnx.data" in planned.result["diff"]["after"]


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_pair_has_the_very_bytes_of_linux(windows, place, granularity, threads):
    options = {"granularity": granularity, "verify": False}
    models.voice(place.folder / "m.onnx")
    make_sample(place.folder / "s.onnx", 20)
    tasks = []
    for name in ("m", "s"):
        task = quantize(place, threads=threads, **options)["onnx_quantize"]
        task |= {"src": f"{place.name}\\{name}.onnx", "dest": f"{place.name}\\{name}8.onnx"}
        tasks.append({"onnx_quantize": task})
    outcome = run(windows, *tasks)
    assert outcome.rc == 0, outcome.output
    module = standalone.load("onnx_quantize")
    for name in ("m", "s"):
        for suffix in (".onnx", ".onnx.data"):
            shutil.copyfile(place.folder / f"{name}{suffix}", place.local / f"{name}{suffix}")
        params = {key: option.get("default") for key, option in module.ARGUMENT_SPEC.items()}
        params |= options | {"src": place.local / f"{name}.onnx", "threads": 2}
        module.run(params | {"dest": place.local / f"{name}8.onnx"}, False)
        for suffix in ("8.onnx", "8.onnx.data"):
            here = (place.local / f"{name}{suffix}").read_bytes()
            assert (place.folder / f"{name}{suffix}").read_bytes() == here


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"src": r"C:\absent\ü.onnx"}, r"C:\absent\ü.onnx: there is no such model file"),
        ({"granularity": "per_row"}, "value of granularity must be one of: per_channel"),
        ({"bogus": 1}, "Unsupported parameters for (onnx_quantize) module: bogus."),
    ],
)
def test_a_failure_has_the_modules_own_words(windows, voice, options, words):
    outcome = run(windows, quantize(voice, **options))
    assert outcome.rc == 2 and words in outcome.result["msg"]
    assert "Traceback" not in outcome.output
    assert names(voice.folder) == {"m.onnx", "m.onnx.data"}


def test_the_tasks_environment_and_the_hosts_variables(windows, voice):
    task = {
        "host_check": {"model": r"%My_Dir%\m.onnx", "folder": "%MY_DIR%", "spared_by": "%x%"},
        "environment": {"my_dir": voice.name, "PYTHONPATH": r"C:\nonsense", "PYTHONUTF8": "0",
                        "PYTHONIOENCODING": "cp1252"},
    }  # fmt: skip
    rows = {row["check"]: row["level"] == "ok" for row in run(windows, task).result["findings"]}
    assert rows[f"FP32 model {voice.name}\\m.onnx"] and rows[f"folder {voice.name}"]


def test_every_other_module(windows, large):
    model, pair = f"{large.name}/m.onnx", f"{large.name}/m8.onnx"
    outcome = run(
        windows,
        quantize(large) | {"register": "made"},
        {"artifact_manifest": {"path": large.name, "manifest": "{{ made.manifest }}"}},
        {"artifact_manifest": {"path": large.name, "state": "verified"}, "register": "known"},
        {
            "artifact_copy": {
                "src": large.name,
                "dest": f"{large.name}/copy",
                "manifest": "{{ known.manifest }}",
            }
        },
        {"onnx_compare": {"reference": model, "candidate": pair, "runs": 1, "samples": 1}},
        {"onnx_benchmark": {"path": pair, "runs": 1}},
        {"sample_model": {"path": f"{large.name}/s.onnx", "megabytes": 3}},
    )
    assert outcome.rc == 0, outcome.output
    manifest, compare, benchmark = outcome.results[1], outcome.results[4], outcome.results[5]
    assert manifest["changed"] and not outcome.results[2]["changed"]
    assert names(large.folder / "copy") == {"m8.onnx", "m8.onnx.data"}
    assert b"\r" not in (large.folder / "SHA256SUMS").read_bytes()
    assert b"\r" not in (large.folder / "manifest.json").read_bytes()
    assert compare["cosine_min"] > 0.9
    size = (large.folder / "m8.onnx.data").stat().st_size
    assert size < benchmark["peak_rss_bytes"] < 20 * size
    made = make_sample(large.local / "s.onnx", 3)["artifacts"]
    assert [a["sha256"] for a in outcome.result["artifacts"]] == [a["sha256"] for a in made]


@pytest.mark.parametrize("module", ["model_release", "service_health"])
def test_what_is_for_linux_alone_says_so(windows, module):
    outcome = run(windows, {module: {}})
    assert outcome.rc == 2 and "cannot run on a Windows host" in outcome.result["msg"]


def test_async_is_refused(windows, voice):
    outcome = run(windows, quantize(voice) | {"async": 60, "poll": 1})
    assert outcome.rc == 2 and "Remove `async`" in outcome.result["msg"]


# ------------------------------------------------------------------ names


def test_a_path_longer_than_260(windows, place):
    deep = place.folder.joinpath(*["d" * 60] * 5)
    deep.mkdir(parents=True)
    models.voice(deep / "m.onnx")
    name = "\\".join([place.name, *["d" * 60] * 5])
    # Without a proof: Wine's GetFinalPathNameByHandle, which onnx calls, ends at MAX_PATH.
    task = quantize(SimpleNamespace(name=name))
    made, again = run(windows, task), run(windows, task)
    assert made.rc == 0, made.output
    assert made.result["changed"] and not again.result["changed"]
    assert (deep / "m8.onnx.data").exists()


def test_another_case_names_the_same_files(windows, voice):
    made = run(windows, quantize(voice))
    again = run(windows, quantize(SimpleNamespace(name=voice.name.upper())))
    assert made.result["changed"], made.output
    assert again.rc == 0 and not again.result["changed"], again.output
    task = quantize(voice, dest=f"{voice.name.upper()}/M.onnx")
    assert "is a file of the source model" in run(windows, task).result["msg"]


# ------------------------------------------------------------------ what is in the way


def test_no_python_there(windows, voice):
    outcome = run(windows, quantize(voice), ansible_python_interpreter=r"C:\none\python.exe")
    assert r"there is no Python at C:\none\python.exe" in outcome.result["msg"]
    outcome = run(windows, quantize(voice), ansible_python_interpreter="auto")
    assert "full path of a Python" in outcome.result["msg"]


def test_noise_on_the_output_is_kept_apart(windows, voice):
    noise = windows.path(windows.python).parent / "Lib" / "site-packages" / "noise.pth"
    noise.write_text("import sys; print('{\"noise\": 1}'); print('hm', file=sys.stderr)\n")
    task = {"host_check": {"model": f"{voice.name}/m.onnx", "folder": "x", "spared_by": "x"}}
    try:
        outcome = run(windows, task)
    finally:
        noise.unlink()
    assert outcome.rc == 0 and outcome.result["findings"]
    assert outcome.result["module_stdout"] == '{"noise": 1}'
    assert "hm" in outcome.result["module_stderr"]


@pytest.mark.parametrize(("seconds", "rc"), [(3, 0), (14, 2)])
def test_a_file_that_is_open_elsewhere(windows, voice, seconds, rc):
    """An antivirus lets go again soon, a viewer does not; the pair that was there stays then."""
    made = run(windows, quantize(voice))
    assert made.rc == 0, made.output
    before = {path.name: path.read_bytes() for path in voice.folder.iterdir()}
    hold = program(windows, HOLD.format(seconds), f"{voice.name}\\m8.onnx")
    holder = start(windows, voice.local, hold)
    time.sleep(1.5)
    outcome = run(windows, quantize(voice, force=True, granularity="per_tensor"))
    holder.communicate(timeout=60)
    assert outcome.rc == rc, outcome.output
    if rc:
        assert f"{voice.name}\\m8.onnx" in outcome.result["msg"]
        assert "open in another program" in outcome.result["msg"]
        assert {path.name: path.read_bytes() for path in voice.folder.iterdir()} == before


# ------------------------------------------------------------------ long work


def test_progress_is_shown_as_on_linux(windows, place, jobs):
    make_sample(place.folder / "m.onnx", 1000)
    number = r"[\d.]+ [kMG]?B"
    line = (
        rf"\[win\] m8.onnx: quantizing: {number} of 25\d.\d+ MB \(\d+ %\), {number}/s,"
        rf" [\d.]+ m?s left, peak memory {number}"
    )
    for _ in range(5):  # it may end before anybody looks
        options = {"progress_s": 0.1, "threads": 1, "force": True, "exclude_nodes": ["hed_*"]}
        outcome = run(windows, quantize(place, **options))
        assert outcome.rc == 0, outcome.output
        assert "No node is called 'hed_*' (exclude_nodes)." in " ".join(outcome.output.split())
        if re.search(line, outcome.output):
            break
    else:
        raise AssertionError(outcome.output)
    assert names(place.folder) == {"m.onnx", "m.onnx.data", "m8.onnx", "m8.onnx.data"}
    told = {path.parent for path in jobs.glob("*/told")}
    assert len(told) == 1, "the next job removes one that was seen to its end"


def test_a_job_may_be_the_first_call_of_all(windows, voice, jobs):
    """The host has none of the project's code yet."""
    for folder in ("code", "jobs"):
        shutil.rmtree(jobs.with_name(folder), ignore_errors=True)
    made, again = (run(windows, quantize(voice)) for _ in range(2))
    assert made.rc == 0 and made.result["changed"], made.output
    assert again.rc == 0 and not again.result["changed"], again.output
    assert len(list(jobs.iterdir())) == 1


def test_a_job_ends_at_its_limit_and_leaves_no_half_pair(windows, large):
    outcome = run(windows, quantize(large, **SLOW, limit_s=2))
    assert outcome.rc == 2 and "longer than limit_s, 2 s" in outcome.result["msg"]
    assert not {"m8.onnx", "m8.onnx.data"} & names(large.folder)
    again = run(windows, quantize(large))
    assert again.rc == 0 and again.result["changed"], again.output


def test_a_link_that_breaks_and_comes_back(windows, large):
    variables = windows.inventory_vars()
    link = Link(variables["ansible_host"], variables["ansible_port"])
    process = start(windows, large.local, quantize(large, **SLOW), ansible_port=link.port)
    await_line(process, "m8.onnx: ")
    link.cut(3)
    output, _ = process.communicate(timeout=120)
    link.close()
    assert process.returncode == 0 and "changed=1" in output, output


def test_a_link_that_stays_broken(windows, large):
    variables = windows.inventory_vars()
    link = Link(variables["ansible_host"], variables["ansible_port"])
    slow = quantize(large, **SLOW)
    process = start(windows, large.local, slow, ansible_port=link.port, background_patience_s=3)
    await_line(process, "m8.onnx: ")
    link.close()
    output = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 2
    assert "has not answered for 3 s while it is at work" in output
    again = run(windows, slow)
    assert again.rc == 0 and (large.folder / "m8.onnx").exists(), again.output


def test_a_lost_controller_finds_its_job_again(windows, large):
    slow = quantize(large, **SLOW)
    process = start(windows, large.local, slow)
    await_line(process, "m8.onnx: ")
    process.kill()
    process.communicate()
    again = run(windows, slow)
    assert again.rc == 0 and again.result["changed"], again.output
    assert "goes on with the job that has been at work there" in again.output


def test_a_job_that_is_gone(windows, large, jobs):
    """As after a restart of Windows: nothing holds the job any more."""
    process = start(windows, large.local, quantize(large, **SLOW))
    await_line(process, "m8.onnx: ")
    pid = process_of_newest(jobs)
    kill = "import os,sys; os.kill(int(sys.argv[1]), 9)"
    assert run(windows, program(windows, kill, str(pid))).rc == 0
    output = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 2
    assert f"the run on the host is gone (process {pid}): Windows was restarted" in output
    assert "MaxMemoryPerShellMB" in output
    again = run(windows, quantize(large))
    assert again.rc == 0 and again.result["changed"], again.output
    assert names(large.folder) == {"m.onnx", "m.onnx.data", "m8.onnx", "m8.onnx.data"}


# ------------------------------------------------------------------ the way to a target


class Target(asyncssh.SSHServer):
    """An SFTP server of this machine that lets in the key that a file holds."""

    def __init__(self, keys: Path) -> None:
        self._keys = keys

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = self._keys.read_text() if self._keys.exists() else ""
        return key.export_public_key().decode().split()[1] in known


@pytest.fixture
def target(tmp_path):
    """An SFTP server with an incoming folder: host_key, port, keys, incoming."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    keys = tmp_path / "authorized_keys"
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncssh.create_server(
            lambda: Target(keys), "127.0.0.1", 0, server_host_keys=[host_key], sftp_factory=True
        )
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    public = " ".join(host_key.export_public_key().decode().split()[:2])
    yield SimpleNamespace(host_key=public, port=server.get_port(), keys=keys, incoming=incoming)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def push(place: SimpleNamespace, target: SimpleNamespace, **options: object) -> list[dict]:
    """The tasks of a push: its key, its permission, its end."""
    options = {
        "state": "started",
        "src": place.name,
        "manifest": "{{ made.manifest }}",
        "host": "127.0.0.1",
        "port": target.port,
        "user": "upload",
        "host_key": target.host_key,
        "folder": str(target.incoming),
        **options,
    }
    return [
        quantize(place) | {"register": "made"},
        {"artifact_push": options, "register": "begun"},
        {
            "ansible.builtin.copy": {
                "content": "{{ begun.public_key }}",
                "dest": str(target.keys),
            },
            "delegate_to": "localhost",
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        },
        {
            "artifact_push": {
                "state": "finished",
                "job": "{{ begun.job }}",
                "progress_s": 0.5,
            }
        },
    ]


def test_the_pair_is_pushed_from_windows(windows, large, target):
    outcome = run(windows, *push(large, target, rate=10e6))
    assert outcome.rc == 0, outcome.output
    assert outcome.results[1]["public_key"].startswith("ssh-ed25519 ")
    assert re.search(r"sending to 127.0.0.1: [\d.]+ MB of 30.\d+ MB", outcome.output)
    for name in outcome.result["sent"]:
        assert (target.incoming / name).read_bytes() == (large.folder / name).read_bytes()
    again = run(windows, *push(large, target))
    assert again.rc == 0 and again.result["sent"] == [], again.output


def test_a_push_that_is_not_let_in(windows, voice, target):
    tasks = push(voice, target, authorize_s=2)
    del tasks[2]
    outcome = run(windows, *tasks)
    assert outcome.rc == 2
    assert "did not let the key of this transfer in within 2 s" in outcome.result["msg"]


def test_a_key_that_somebody_reads_when_it_goes(windows, voice, target, jobs):
    """As the bridge does, or an antivirus: Windows refuses to remove what is open."""
    shutil.rmtree(jobs, ignore_errors=True)  # with the key of a job before this one
    reader = (
        "import glob,os,time\n"
        "jobs = os.path.join(os.environ['LOCALAPPDATA'], 'modelops', 'jobs')\n"
        "while not (found := glob.glob(jobs + '/*/public_key')): time.sleep(.02)\n"
        "with open(found[0]): time.sleep(4)"
    )
    holder = start(windows, voice.local, program(windows, reader))
    tasks = push(voice, target, authorize_s=2)
    del tasks[2]
    outcome = run(windows, *tasks)
    assert holder.wait(timeout=60) == 0
    assert "did not let the key of this transfer in within 2 s" in outcome.result["msg"]
