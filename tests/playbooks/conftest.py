"""A controller with one builder and one target, both this machine in folders of their own."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import models
import pytest
from modelops.sample.sample import make_sample

ROOT = Path(__file__).resolve().parents[2]

MODEL = "agi_audio_core.onnx"
CONFIG = (
    "audio_omni:\n  model_path: models/onnx/agi_audio_core.onnx  # 4.3 GB\n  max_memory_mb: 4400\n"
)

# Small models are not faster in INT8: the tests of the way of a run leave speed and memory out.
FAST = {
    "sample_megabytes": 3,
    "sarai_measure_runs": 1,
    "sarai_measure_samples": 1,
    "sarai_gate_speedup_min": 0,
    "sarai_gate_rss_ratio_max": 100,
    "quantize_progress_s": 0,
    "sarai_measure_progress_s": 0,
    "quantize_verify": False,
}


@dataclass
class Outcome:
    """What a playbook run said and did."""

    rc: int
    output: str
    changed: dict[str, int]
    events: list[dict[str, Any]] = field(repr=False)

    def changed_tasks(self) -> list[tuple[str, str]]:
        """The (host, task) pairs that changed, or in check mode would have changed, something."""
        return [
            (e["event_data"]["host"], e["event_data"]["task"])
            for e in self.events
            if e["event"] == "runner_on_ok" and e["event_data"]["res"].get("changed")
        ]

    def calls(self) -> int:
        """How many tasks ran, on all hosts."""
        return sum(e["event"] == "runner_on_ok" for e in self.events)


@dataclass
class Site:
    """Folders of a builder and targets, and a way to run the project's playbooks on them."""

    folder: Path
    targets: int = 1

    @property
    def builder(self) -> Path:
        return self.folder / "builder"

    def home(self, number: int = 1) -> Path:
        return self.folder / f"target{number}"

    def models(self, number: int = 1) -> Path:
        return self.home(number) / "models" / "onnx"

    def config(self, number: int = 1) -> Path:
        return self.home(number) / "config" / "sarai.yaml"

    def named_model(self, number: int = 1) -> str:
        import yaml

        return yaml.safe_load(self.config(number).read_text())["audio_omni"]["model_path"]

    def state(self, number: int = 1) -> dict[str, Any]:
        return json.loads((self.store(number) / "state.json").read_text())

    def store(self, number: int = 1, model: str = "agi_audio_core") -> Path:
        return self.models(number) / ".releases" / model

    def tree(self) -> dict[str, bytes]:
        return models.tree(self.folder)

    def inventory(self) -> dict[str, Any]:
        hosts = {
            f"target{n}": {"sarai_home": str(self.home(n))} for n in range(1, self.targets + 1)
        }
        return {
            "all": {
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                    "sarai_builder_python": sys.executable,
                    "sarai_python": sys.executable,
                    "sarai_service_manager": "none",
                    "transfer_strategy": "local",
                },
                "children": {
                    "builder": {"hosts": {"builder": {"sarai_builder_dir": str(self.builder)}}},
                    "targets": {"hosts": hosts},
                },
            }
        }

    def given(self) -> dict[str, Any]:
        """The variables of the command line, which beat all others."""
        return {"report_dir": str(self.folder / "reports")}

    def work(self, **variables: Any) -> Outcome:
        """Quantize and release, without the preflight of which the test does not ask anything."""
        return self.run("quantize.yml", "--skip-tags preflight", **variables)

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook of the project as a user would, from its folder."""
        # A folder a run: ansible-runner keeps the command line and variables of the one before.
        private = Path(tempfile.mkdtemp(prefix="runner-", dir=self.folder.parent))
        given = FAST | self.given() | variables
        environment = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
            "ORT_DISABLE_TELEMETRY": "1",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        result = ansible_runner.run(
            private_data_dir=str(private),
            project_dir=str(ROOT),
            playbook=playbook,
            inventory=self.inventory(),
            extravars=given,
            cmdline=" ".join(arguments),
            envvars=environment,
            quiet=True,
        )
        events = list(result.events)
        changed = (result.stats or {}).get("changed", {})
        return Outcome(result.rc, result.stdout.read(), changed, events)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@contextmanager
def shared(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """The folder of this name that all workers of pytest-xdist share: one of them fills it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def built_modules(tmp_path_factory) -> Iterator[None]:
    """A folder for what Ansible packs, of all runs of the session (callbacks/built_modules.py)."""
    with shared(tmp_path_factory, "built_modules") as folder:
        folder.mkdir(exist_ok=True)
    os.environ["MODELOPS_BUILT_MODULES"] = str(folder)
    yield
    del os.environ["MODELOPS_BUILT_MODULES"]


@pytest.fixture(scope="session")
def sampled(tmp_path_factory) -> Path:
    """A site with the owner's models and nothing done yet, to copy from."""
    with shared(tmp_path_factory, "sampled") as folder:
        if not folder.exists():
            made = Site(folder.with_suffix(".part"), targets=2)
            for models_dir in (made.builder, made.models(1), made.models(2)):
                models_dir.mkdir(parents=True)
            make_sample(made.builder / MODEL, 3, seed=1)  # as roles/sample
            for path, number in itertools.product(made.builder.iterdir(), (1, 2)):
                shutil.copy(path, made.models(number))
            for number in (1, 2):
                made.config(number).parent.mkdir()
                made.config(number).write_text(CONFIG)
            made.folder.rename(folder)
    return folder


@pytest.fixture
def fresh(site, sampled) -> Site:
    """A site with the owner's models and nothing done yet."""
    shutil.copytree(sampled, site.folder, dirs_exist_ok=True)
    return site


@pytest.fixture(scope="session")
def released(tmp_path_factory, sampled) -> tuple[Path, Outcome]:
    """A site after one good run, to copy from, and what that run said and did."""
    with shared(tmp_path_factory, "released") as folder:
        told = folder.with_suffix(".outcome")
        if not told.exists():
            shutil.copytree(sampled, folder)
            outcome = Site(folder).run("quantize.yml", quantize_verify=True)
            assert outcome.rc == 0, outcome.output
            told.write_bytes(pickle.dumps(outcome))
    return folder, pickle.loads(told.read_bytes())


@pytest.fixture
def live(site, released) -> Site:
    """A site where a release is in service."""
    shutil.copytree(released[0], site.folder, dirs_exist_ok=True)
    return site
