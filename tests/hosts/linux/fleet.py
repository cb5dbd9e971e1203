"""Three hosts that run the stand-in for SARAi on FP32, and the project's playbooks run on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from bed import Bed
from config_texts import NESTED
from modelops.sample.sample import make_sample
from rootfs import HOME, ROOT

MODEL = "agi_audio_core"
MODELS = f"{HOME}/models/onnx"
CONFIG = NESTED  # the owner's file
# Where a run is broken off: its phase, and the task that has just begun.
PHASES = {
    "transfer": "transfer : Verify their SHA-256 and make them a release",
    "activation": "activate : Move the artifacts to the live names",
    "restart": "sarai_service : Restart it, wait until it is healthy",
    "validation": "validate : Measure the release against FP32 on the target",
    "commit": "activate : Commit the release",
}
UNIT = f"modelops-revert@{MODEL}"
UPLOAD = "/var/lib/sarai-upload"
# What setup_target.yml and keys.yml make, and what runs with become leave.
TRACES = (
    "/etc/modelops", "/var/lib/modelops", "/etc/sudoers.d/modelops",
    "/etc/ssh/sshd_config.d/50-modelops.conf", "/usr/local/sbin/modelops-root",
    "/usr/local/lib/modelops", UPLOAD, f"/etc/systemd/system/{UNIT}.service",
    f"/etc/systemd/system/{UNIT}.timer",
    f"/etc/systemd/system/timers.target.wants/{UNIT}.timer",
)  # fmt: skip
# How often a run was broken off in which phase; conftest.py prints it.
INJECTED: Counter[str] = Counter()
ADOPT = {"transfer_strategy": "adopt"}
# One host, and the builder's part only as far as the release needs it.
ONE = ("--limit", "h1,control,localhost", "--tags", "release")
# Small models are not faster in INT8: the figures are not what is tested here.
FAST: dict[str, Any] = {
    "sarai_measure_runs": 1,
    "sarai_measure_samples": 1,
    "sarai_gate_speedup_min": 0,
    "sarai_gate_rss_ratio_max": 100,
    "sarai_service_min_healthy_s": 1,
    "sarai_service_start_s": 30,
    "quantize_progress_s": 0,
    "sarai_measure_progress_s": 0,
    "sarai_service_health_expect": {"status": "HEALTHY"},
    "sarai_service_question": {
        "url": "http://127.0.0.1:8080/infer",
        "body": {"seed": 1},
        "field": "values",
    },
}


class Fleet:
    """The hosts of a bed as targets, and this machine as the builder."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.project = ROOT
        self.builder = bed.state / "builder"
        self.builder.mkdir(exist_ok=True)
        make_sample(self.builder / f"{MODEL}.onnx", 8)

    def provision(self, host: str) -> None:
        """Give a host the FP32 pair and the configuration, and start its service on them."""
        self.bed.wait(host)  # sshd may be reading its configuration again
        # A run that was broken off leaves its timer enabled.
        disarm = f"systemctl disable --quiet --now {UNIT}.timer"
        self.bed.ssh(host, f"sudo systemctl stop sarai; sudo {disarm}", check=False)
        self.bed.ssh(host, f"rm -rf {HOME}/config/* {HOME}/models/[!l]*", check=False)
        self.bed.ssh(host, f"rm -rf {HOME}/fault")
        for suffix in (".onnx", ".onnx.data"):
            content = (self.builder / f"{MODEL}{suffix}").read_bytes()
            self.bed.put(host, content, f"{MODELS}/{MODEL}{suffix}")
        self.bed.put(host, CONFIG, f"{HOME}/config/sarai.yaml")
        start = "enable --quiet sarai", "reset-failed sarai", "restart sarai"
        self.bed.ssh(host, "; ".join(f"sudo systemctl {step}" for step in start))

    def strip(self, host: str) -> None:
        """Take off a host what root made there for this project."""
        clean = f"rm -rf {' '.join(TRACES)}; userdel sarai-upload; systemctl daemon-reload"
        self.bed.ssh(host, f"sudo sh -c '{clean}; systemctl reload ssh'", check=False)
        self.bed.wait(host)  # sshd reads its configuration again

    def run(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess:
        with self.start(playbook, *arguments, **variables) as process:
            output, _ = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.Popen[str]:
        given = FAST | {"report_dir": str(self.bed.state / "reports")} | variables
        tool = str(Path(sys.executable).with_name("ansible-playbook"))
        command = self.bed.command(
            tool, "-i", self.bed.inventory, playbook, "-e", json.dumps(given), *arguments
        )
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.project / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.bed.state / "cp"),
            "LC_ALL": "C.UTF-8",
        }
        return subprocess.Popen(
            command, cwd=self.project, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def config(self, host: str) -> str:
        return self.bed.ssh(host, f"cat {HOME}/config/sarai.yaml").stdout

    def named(self, host: str) -> str:
        """Return `int8` or `fp32`, as the configuration says."""
        path = yaml.safe_load(self.config(host))["models"]["audio_omni"]["model_path"]
        return "int8" if "int8" in path else "fp32"

    def served(self, host: str) -> str:
        """Return which model the running service answers with, or why it does not."""
        url = "http://127.0.0.1:8080/health"
        ask = f"import urllib.request as u; print(u.urlopen('{url}', timeout=5).read().decode())"
        done = self.bed.ssh(host, f'python3 -c "{ask}"', check=False)
        if done.returncode:
            return "down"
        return "int8" if "int8" in json.loads(done.stdout)["model"] else "fp32"

    def state(self, host: str) -> dict[str, Any]:
        return json.loads(self.bed.ssh(host, f"cat {MODELS}/.releases/{MODEL}/state.json").stdout)

    def deliver(self, host: str) -> None:
        """Copy the builder's pair into the incoming folder, as a person would."""
        for name in (
            f"{MODEL}_int8.onnx",
            f"{MODEL}_int8.onnx.data",
            f"{MODEL}.golden.npz",
            f"{MODEL}.manifest.json",
        ):
            content = (self.builder / name).read_bytes()
            self.bed.put(host, content, f"{MODELS}/.incoming/{name}")


def until(condition, limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def run_until(fleet: Fleet, phase: str, **variables):
    """Start a release on h1 and return the running playbook when that phase begins."""
    process = fleet.start("quantize.yml", *ONE, **(ADOPT | variables))
    seen = []
    for line in process.stdout:
        seen.append(line)
        if f"[{PHASES[phase]}" in line:
            INJECTED[phase] += 1
            return process
    raise AssertionError(f"{phase} never began:\n{''.join(seen)}")


def went_back(fleet: Fleet) -> None:
    """Nobody commits: the target goes back by itself, and says so in its history."""
    until(lambda: fleet.named("h1") == "fp32", 40, "the timer did not bring FP32 back")
    until(lambda: fleet.served("h1") == "fp32", 20, "the service was not restarted")
    assert fleet.config("h1") == CONFIG
    last = fleet.state("h1")["history"][-1]
    assert (last["event"], last["by"]) == ("reverted", "the target's timer")
