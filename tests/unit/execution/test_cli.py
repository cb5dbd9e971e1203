"""The command line without Ansible: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import models
import pytest
from modelops.execution import cli, without_ansible

ROOT = Path(__file__).resolve().parents[3]
# As on a host that has no Ansible.
BOOT = (
    "import sys; sys.modules['ansible'] = None;"
    " from modelops.execution.cli import main; sys.exit(main())"
)


def modelops(*arguments: object, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BOOT, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding=encoding,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "module_utils"),
            "PYTHONIOENCODING": encoding,
            "ORT_DISABLE_TELEMETRY": "1",
        },
    )


@pytest.fixture
def source(tmp_path) -> Path:
    return models.matmul(tmp_path / "m.onnx", 512, 512)


def test_a_name_that_the_system_does_not_take(source, tmp_path):
    for dest in (tmp_path / f"{'o' * 300}.onnx", tmp_path / f"{'o' * 245}.onnx"):
        done = modelops("quantize", source, dest)
        assert done.returncode == 1 and "Choose a shorter name" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_way_by_hand(source, tmp_path):
    folder = tmp_path / "int8"
    folder.mkdir()
    pair = folder / "m_int8.onnx"
    foretold = modelops("quantize", source, pair, "--check", "--json")
    assert foretold.returncode == 0, foretold.stderr
    assert list(folder.iterdir()) == []
    done = modelops("quantize", source, pair)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "written" in done.stdout and "nodes: 1 dynamic_int8" in done.stdout
    assert json.loads(foretold.stdout)["release_id"] in done.stdout
    names = {"m_int8.onnx", "m_int8.onnx.data", "m.manifest.json", "m.SHA256SUMS"}
    assert {path.name for path in folder.iterdir()} == names
    assert "unchanged" in modelops("quantize", source, pair).stdout
    checked = modelops("manifest", folder)
    assert checked.returncode == 0 and checked.stdout.count("ok  ") == 2
    measured = modelops("benchmark", pair, "--runs", 3, "--json")
    assert measured.returncode == 0
    assert len(json.loads(measured.stdout)["samples"]) == 3
    compared = modelops("compare", source, pair, "--gate", "cosine_min>0.98")
    assert compared.returncode == 0, compared.stderr
    assert "verdict: pass" in compared.stdout
    (folder / "m_int8.onnx.data").write_bytes(b"other")
    broken = modelops("manifest", folder, "--json")
    assert broken.returncode == 1
    assert "bytes instead of" in broken.stderr
    assert json.loads(broken.stdout)["failed"]


def test_a_gate_that_fails_or_stays_open(source, tmp_path):
    pair = tmp_path / "m8.onnx"
    assert modelops("quantize", source, pair, "--no-verify").returncode == 0
    assert modelops("compare", source, pair, "--gate", "cosine_min>0.999999").returncode == 3
    unknown = modelops("compare", source, pair, "--gate", "candidate_unheard_of>1")
    assert unknown.returncode == 4


def test_options_of_every_kind(source, tmp_path):
    done = modelops(
        *("quantize", source, tmp_path / "m8.onnx", "--json", "--no-verify"),
        *("--granularity", "per_tensor", "--op-types", "MatMul", "--op-types", "Conv"),
        *("--exclude-nodes", "m?", "--quality", "cosine=0.9", "--shapes", "x=[4,512]"),
    )
    assert done.returncode == 0, done.stderr
    recipe = json.loads(done.stdout)["manifest"]["recipe"]
    assert recipe["granularity"] == "per_tensor"
    assert set(recipe["op_types"]) == {"Conv", "MatMul"}
    assert recipe["exclude_nodes"] == ["m?"]
    assert recipe["quality"] == {"cosine": 0.9}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["quantise"],
        ["quantize", "only.onnx"],
        ["quantize", "a.onnx", "b.onnx", "--threads", "two"],
        ["quantize", "a.onnx", "b.onnx", "--quality", "cosine"],
        ["quantize", "a.onnx", "b.onnx", "--granularity", "per_row"],
        ["compare", "a.onnx", "b.onnx", "--gate", "cosine_min=1"],
    ],
)
def test_wrong_usage(arguments):
    done = modelops(*arguments)
    assert done.returncode == 2
    assert "usage: python -m modelops" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_says_what_and_what_to_do(tmp_path):
    done = modelops("quantize", tmp_path / "absent.onnx", tmp_path / "m8.onnx")
    assert done.returncode == 1
    assert "there is no such model file. Check the path." in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_a_console_that_lacks_a_character(tmp_path):
    source = models.matmul(tmp_path / "模型.onnx", 512, 512)
    done = modelops("quantize", source, tmp_path / "é模.onnx", "--no-verify", encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert r"é\u6a21.onnx" in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_names_every_option_of_the_module(name):
    text = modelops(name, "--help").stdout
    spec = without_ansible.load(cli.COMMANDS[name].module).MODULE["argument_spec"]
    for option in set(spec) - set(cli.COMMANDS[name].fixed) - {"gates"}:
        shown = cli.COMMANDS[name].positional.get(option, f"--{option.replace('_', '-')}")
        assert shown in text, option
