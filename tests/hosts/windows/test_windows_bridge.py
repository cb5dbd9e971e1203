"""The project's modules on a Windows host, over WinRM: as on Linux."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from types import SimpleNamespace

import models
import pytest
from modelops.execution import without_ansible
from modelops.sample.sample import make_sample
from plays import names, program, quantize, run, start

# Holds a file open, says so by a second one, and lets go when a third one is there or time is up.
HOLD = (
    "import os,sys,time; held=open(sys.argv[1],'rb'); open(sys.argv[2],'x').close();"
    " end=time.time()+{}; waits=lambda: time.time()<end and not os.path.exists(sys.argv[3]);"
    " [time.sleep(0.1) for _ in iter(waits, False)]"
)


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
def test_the_pair_has_the_very_bytes_of_linux(windows, work, granularity, threads):
    options = {"granularity": granularity, "verify": False}
    models.voice(work.folder / "m.onnx")
    make_sample(work.folder / "s.onnx", 20)
    tasks = []
    for name in ("m", "s"):
        task = quantize(work, threads=threads, **options)["onnx_quantize"]
        task |= {"src": f"{work.name}\\{name}.onnx", "dest": f"{work.name}\\{name}8.onnx"}
        tasks.append({"onnx_quantize": task})
    outcome = run(windows, *tasks)
    assert outcome.rc == 0, outcome.output
    module = without_ansible.load("onnx_quantize")
    for name in ("m", "s"):
        for suffix in (".onnx", ".onnx.data"):
            shutil.copyfile(work.folder / f"{name}{suffix}", work.local / f"{name}{suffix}")
        params = {
            key: option.get("default") for key, option in module.MODULE["argument_spec"].items()
        }
        params |= options | {"src": work.local / f"{name}.onnx", "threads": 2}
        module.run(params | {"dest": work.local / f"{name}8.onnx"}, False)
        for suffix in ("8.onnx", "8.onnx.data"):
            here = (work.local / f"{name}{suffix}").read_bytes()
            assert (work.folder / f"{name}{suffix}").read_bytes() == here


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
    model, pair = f"{large.name}/m.onnx", f"{large.name}/m_int8.onnx"
    outcome = run(
        windows,
        quantize(large, dest=pair) | {"register": "made"},
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
    assert names(large.folder / "copy") == {"m_int8.onnx", "m_int8.onnx.data"}
    assert b"\r" not in (large.folder / "m.SHA256SUMS").read_bytes()
    assert b"\r" not in (large.folder / "m.manifest.json").read_bytes()
    assert compare["cosine_min"] > 0.9
    size = (large.folder / "m_int8.onnx.data").stat().st_size
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


def test_a_path_longer_than_260(windows, work):
    deep = work.folder.joinpath(*["d" * 60] * 5)
    deep.mkdir(parents=True)
    models.voice(deep / "m.onnx")
    name = "\\".join([work.name, *["d" * 60] * 5])
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


@pytest.mark.parametrize(("seconds", "rc"), [(3, 0), (300, 2)])
def test_a_file_that_is_open_elsewhere(windows, voice, seconds, rc):
    """An antivirus lets go again soon, a viewer does not; the pair that was there stays then."""
    made = run(windows, quantize(voice))
    assert made.rc == 0, made.output
    before = {path.name: path.read_bytes() for path in voice.folder.iterdir()}
    held, let_go = voice.folder / "held", voice.folder / "let_go"
    paths = (f"{voice.name}\\{name}" for name in ("m8.onnx", held.name, let_go.name))
    holder = start(windows, voice.local, program(windows, HOLD.format(seconds), *paths))
    while not held.exists():
        assert holder.poll() is None, holder.communicate()[0]
        time.sleep(0.1)
    outcome = run(windows, quantize(voice, force=True, granularity="per_tensor"))
    let_go.touch()
    holder.communicate(timeout=60)
    held.unlink()
    let_go.unlink()
    assert outcome.rc == rc, outcome.output
    if rc:
        assert f"{voice.name}\\m8.onnx" in outcome.result["msg"]
        assert "open in another program" in outcome.result["msg"]
        assert {path.name: path.read_bytes() for path in voice.folder.iterdir()} == before
