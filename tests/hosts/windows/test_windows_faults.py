"""What goes wrong between controller and Windows builder: one clear error, and no half pair."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import models
import pytest
from modelops.sample.sample import make_sample
from plays import ENVIRONMENT, ROOT, Link, names, run, start

FOLDER = r"C:\work\faults"
PAIR = {"m.onnx", "m.onnx.data"}
MADE = PAIR | {"m8.onnx", "m8.onnx.data"}
# Answers of WinRM that do not come are waited for no longer than this.
QUICK = {
    "ansible_winrm_operation_timeout_sec": 2,
    "ansible_winrm_read_timeout_sec": 4,
    "background_patience_s": 25,
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "m.onnx"
    make_sample(path, 200)
    return path


@pytest.fixture
def work(windows, tmp_path):
    """A folder of the test's own on the host, and nothing broken before and after."""
    windows.mend()
    folder = windows.path(FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield SimpleNamespace(name=FOLDER, folder=folder, local=tmp_path)
    windows.mend()
    shutil.rmtree(folder, ignore_errors=True)


def quantize(**options: object) -> dict:
    named = {"src": f"{FOLDER}\\m.onnx", "dest": f"{FOLDER}\\m8.onnx", "verify": False}
    return {"onnx_quantize": named | {"progress_s": 0.3} | options}


# Some seconds after its first progress, and some more.
SHORT = {"threads": 1, "verify": True, "samples": 1}
SLOW = SHORT | {"quality": {"cosine": 0.9}}


def check(**options: object) -> dict:
    return {"host_check": {"model": f"{FOLDER}\\m.onnx", "folder": FOLDER, "spared_by": "x"}}


def at_work(process: subprocess.Popen) -> None:
    """Wait until a play has shown the progress of its job."""
    for line in process.stdout:
        if "m8.onnx: " in line:
            return
    raise AssertionError("the play ended without a job at work")


def end(process: subprocess.Popen, seconds: float = 120) -> str:
    return " ".join(process.communicate(timeout=seconds)[0].split())


# ------------------------------------------------------------------ the host is not reached


def reach(windows, folder: Path, **variables: object) -> tuple[int, str]:
    """Run playbooks/reach.yml for a Windows builder and a Linux target: its code and its output."""
    inventory = folder / "hosts.json"
    builder = {"hosts": {"pc": windows.inventory_vars() | variables}}
    target = {"hosts": {"box": {"ansible_connection": "local"}}}
    inventory.write_text(json.dumps({"all": {"children": {"builder": builder, "targets": target}}}))
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), "playbooks/reach.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        timeout=120,
    )
    return done.returncode, " ".join(done.stdout.split())


def test_a_windows_builder_is_reached(windows, work):
    code, said = reach(windows, work.local)
    assert code == 0, said
    assert "unreachable=0 failed=0" in said and "ok=1" in said


def test_why_a_host_is_not_reached(windows, work):
    """Each with the host, the cause and the remedy in the last words of the run."""
    wrong_ca = work.local / "ca.pem"
    shutil.copyfile(windows.state / "stranger.pem", wrong_ca)
    known = windows.inventory_vars()
    cases: list[tuple[dict, str, str]] = [
        ({"ansible_password": "wrong"}, "the user or the password is refused", "vault_builder"),
        (
            {"ansible_winrm_ca_trust_path": str(wrong_ca)},
            "its certificate is not of the CA in ansible_winrm_ca_trust_path",
            "do not turn the check of certificates off",
        ),
        (
            {"ansible_winrm_ca_trust_path": "/none.pem"},
            "the file of ansible_winrm_ca_trust_path is not on this controller",
            "Put the CA there",
        ),
        ({"ansible_port": 1}, "nothing listens at that port", "Get-Service WinRM"),
        (
            {"ansible_port": windows.inventory_vars("http")["ansible_port"]},
            "what answers at that port does not speak TLS",
            "5986",
        ),
        ({"ansible_host": "no-such-pc.invalid"}, "its name is not known here", "resolve"),
        ({"ansible_host": "localhost"}, "its certificate is for another name", "ansible_host"),
    ]
    for variables, cause, remedy in cases:
        code, said = reach(windows, work.local, **variables)
        merged = known | variables
        where = f"pc ({merged['ansible_host']}:{merged['ansible_port']} as {known['ansible_user']})"
        assert code == 2, said
        assert f"{where}: {cause}" in said and remedy in said, said
        assert known["ansible_password"] not in said


def test_a_certificate_that_has_expired(windows, work):
    windows.certificate("expired")
    code, said = reach(windows, work.local)
    assert code == 2 and ": its certificate has expired. Make a new one there" in said, said


def test_a_pc_that_sleeps_is_not_waited_for(windows, work):
    with windows.asleep():
        code, said = reach(windows, work.local, **QUICK)
    assert code == 2 and ": it does not answer. See that it is on, awake" in said, said


@pytest.mark.parametrize("module", ["host_check", "onnx_quantize"])
def test_a_first_call_says_at_once_why_there_is_no_answer(windows, work, module):
    windows.stop_service()
    done = run(windows, {module: (check() | quantize())[module]})
    assert done.rc == 4
    assert "nothing listens at that port. See that the service runs there" in done.result["msg"]


def test_a_call_that_is_never_answered_has_a_limit(windows, work):
    """WinRM's own waiting begins anew for ever while the host says that it goes on."""
    pth = windows.path(windows.python).parent / "Lib" / "site-packages" / "hang.pth"
    pth.write_text("import time; time.sleep(60)\n")
    try:
        done = run(windows, check(), bridge_call_limit_s=1, bridge_answer_limit_s=5, **QUICK)
    finally:
        pth.unlink()
    assert done.rc == 4
    assert "no answer within 6 s (see bridge_answer_limit_s)" in done.result["msg"]
    assert "See that it is on, awake" in done.result["msg"]


# ------------------------------------------------------------------ in the middle of a job


def test_the_answer_to_its_start_is_lost(windows, large):
    variables = windows.inventory_vars()
    link = Link(variables["ansible_host"], variables["ansible_port"])
    before = len(windows.log())
    process = start(windows, large.local, quantize(**SHORT), ansible_port=link.port, **QUICK)
    while not any("async_wrapper.ps1" in str(asked) for asked in windows.log()[before:]):
        assert process.poll() is None
        time.sleep(0.01)
    link.cut(1.5)
    said = end(process)
    link.close()
    assert process.returncode == 0 and "changed=1" in said, said


def test_the_service_is_stopped_and_comes_back(windows, large):
    process = start(windows, large.local, quantize(**SHORT), **QUICK)
    at_work(process)
    windows.stop_service()
    time.sleep(3)
    windows.start_service()
    said = end(process)
    assert process.returncode == 0 and "changed=1" in said, said
    assert names(large.folder) == MADE


def test_the_service_is_stopped_and_stays_so(windows, large):
    process = start(windows, large.local, quantize(**SLOW), background_patience_s=4)
    at_work(process)
    windows.stop_service()
    said = end(process)
    assert process.returncode == 2
    assert "has not answered for 4 s while it is at work" in said and "run again" in said
    windows.start_service()
    again = run(windows, quantize(**SLOW))
    assert again.rc == 0 and names(large.folder) == MADE, again.output


def test_the_pc_sleeps_for_a_while(windows, large):
    process = start(windows, large.local, quantize(**SHORT), **QUICK)
    at_work(process)
    with windows.asleep():
        time.sleep(7)
    said = end(process)
    assert process.returncode == 0 and "changed=1" in said, said
    assert names(large.folder) == MADE


def test_the_pc_reboots(windows, large):
    process = start(windows, large.local, quantize(**SLOW), **QUICK)
    at_work(process)
    windows.reboot(1)
    said = end(process)
    assert process.returncode == 2
    assert "the run on the host is gone" in said and "Windows was restarted" in said
    assert "Run again: what it left behind is cleared up" in said
    assert not {"m8.onnx", "m8.onnx.data"} & names(large.folder)
    again = run(windows, quantize())
    assert again.rc == 0 and again.result["changed"], again.output
    assert names(large.folder) == MADE


def test_the_network_drops_now_and_then(windows, large):
    process = start(windows, large.local, quantize(**SHORT), **QUICK)
    at_work(process)
    for _ in range(2):
        windows.drop(1.5)
        time.sleep(2.5)
    said = end(process)
    assert process.returncode == 0 and "changed=1" in said, said


# ------------------------------------------------------------------ the host lacks something


def test_the_disk_is_full(windows, work, sample):
    with windows.small_disk(FOLDER, 230):
        for name in PAIR:
            shutil.copyfile(sample.with_name(name), work.folder / name)
        full = run(windows, quantize())
        left = names(work.folder)
        # Here nobody looks beforehand: the writing itself fails.
        made = run(windows, {"sample_model": {"path": f"{FOLDER}\\s.onnx", "megabytes": 60}})
        after = names(work.folder)
    assert full.rc == 2 and left == after == PAIR, (full.output, left, after)
    assert f"{FOLDER}: not enough disk space" in full.result["msg"]
    assert made.rc == 2 and FOLDER in made.result["msg"], made.result["msg"]
    assert "space" in made.result["msg"], made.result["msg"]


def test_the_memory_of_a_shell_is_not_enough_for_a_call(windows, work):
    models.voice(work.folder / "m.onnx")
    for megabytes in (26, 32):  # it fails in another place each time
        windows.quota(MaxMemoryPerShellMB=megabytes)
        done = run(windows, check())
        assert done.rc == 2, done.output
        assert "memory" in done.result["msg"] and "MaxMemoryPerShellMB" in done.result["msg"]
    # A job has left the shell: its memory is not the shell's.
    windows.quota(MaxMemoryPerShellMB=60)
    job = run(windows, quantize(verify=True))
    assert job.rc == 0 and names(work.folder) == MADE, job.output


# ------------------------------------------------------------------ its Python


@pytest.fixture
def venv(windows, large) -> SimpleNamespace:
    """An environment on the host that takes its packages from the Python it is made of."""
    name = f"{FOLDER}\\venv"
    argv = [windows.python, "-m", "venv", "--without-pip", "--system-site-packages", name]
    made = run(windows, {"ansible.windows.win_command": {"argv": argv}})
    assert made.rc == 0, made.output
    return SimpleNamespace(folder=windows.path(name), python=f"{name}\\Scripts\\python.exe")


def test_an_environment_that_is_broken_or_deleted(windows, large, venv):
    python = {"ansible_python_interpreter": venv.python}
    right = run(windows, check(), **python)
    assert right.rc == 0 and venv.python in json.dumps(right.result, ensure_ascii=False).replace(
        "\\\\", "\\"
    )
    config = venv.folder / "pyvenv.cfg"
    config.write_text(config.read_text().replace("Python312", "Gone"))
    moved = run(windows, check(), **python)
    config.unlink()
    bare = run(windows, check(), **python)
    for done in (moved, bare):
        assert done.rc == 2, done.output
        assert f"the environment of {venv.python} is broken" in done.result["msg"]
        assert "make it again" in done.result["msg"]
    shutil.rmtree(venv.folder)
    gone = run(windows, check(), **python)
    assert gone.rc == 2 and f"there is no Python at {venv.python}" in gone.result["msg"]


def test_an_environment_that_is_deleted_while_a_job_runs_on_it(windows, large, venv):
    process = start(
        windows,
        large.local,
        quantize(**SLOW),
        ansible_python_interpreter=venv.python,
        background_patience_s=4,
    )
    at_work(process)
    shutil.rmtree(venv.folder)
    said = end(process)
    assert process.returncode == 2
    assert "there is no Python at" in said and "venv" in said, said
    again = run(windows, quantize(**SLOW))
    assert again.rc == 0 and names(large.folder) == MADE, again.output
