"""The project's output: a line a phase, changes and failures in full, the report's table last."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import ansible_runner
import pytest
from conftest import FAST, ROOT

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
ROLES = {
    "preflight/tasks/main.yml": """
- name: Look at it
  ansible.builtin.command: "true"
  changed_when: false
- name: Show the table
  ansible.builtin.debug:
    msg: "the \\x1b[31mtable\\nof all"
  run_once: true
""",
    "quantize/tasks/main.yml": """
- name: Write the pair
  ansible.builtin.copy:
    content: "{{ inventory_hostname }}\\n"
    dest: "{{ folder }}/{{ inventory_hostname }}"
  notify: Restart it
- name: Write more
  ansible.builtin.copy:
    content: "{{ item }}\\n"
    dest: "{{ folder }}/{{ item }}"
  loop: [x, y]
  run_once: true
- name: Never
  ansible.builtin.fail:
    msg: never
  when: false
- name: It does not matter
  ansible.builtin.fail:
    msg: a small fault
  ignore_errors: true
  run_once: true
- name: Use what another role does
  ansible.builtin.include_role:
    name: rollback
""",
    "quantize/handlers/main.yml": """
- name: Restart it
  ansible.builtin.command: "true"
""",
    "quantize/tasks/gate.yml": """
- name: Compare
  old_module:
    verdict: "{{ verdict | default('pass') }}"
""",
    "rollback/tasks/main.yml": """
- name: It is within quantize here
  ansible.builtin.set_fact: {known: 1}
""",
    "validate/tasks/main.yml": """
- name: Refuse it
  ansible.builtin.fail:
    msg: "{{ inventory_hostname }} is refused"
  when: inventory_hostname in refused
""",
}
OLD_MODULE = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"verdict": {"type": "str"}}, supports_check_mode=True)
module.warn("the disk is nearly full")
module.deprecate("it is old", version="9.9", collection_name="a.b")
module.exit_json(verdict=module.params["verdict"])
"""
PLAY = """
- hosts: all
  gather_facts: false
  serial: "{{ at_once | default(9) }}"
  tasks:
    - ansible.builtin.include_role: {name: "{{ item }}"}
      loop: [preflight, quantize]
    - ansible.builtin.meta: flush_handlers
    - ansible.builtin.include_role: {name: quantize, tasks_from: gate}
    - block:
        - ansible.builtin.include_role: {name: validate}
      rescue:
        - name: Go on all the same
          ansible.builtin.fail:
          when: not rescues
    - name: Stop here
      ansible.builtin.fail:
        msg: of no phase
      when: stops is defined
- hosts: all
  gather_facts: false
  roles: [preflight]
"""


class Small:
    """A project of a few roles, and two hosts that are this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = {f"roles/{name}": text for name, text in ROLES.items()}
        local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
        variables = f"folder={folder / 'out'}\nrefused=[]\nrescues=[]\n"
        files |= {
            "ansible.cfg": "[defaults]\n",
            "library/old_module.py": OLD_MODULE,
            "play.yml": PLAY,
            "hosts": f"[all]\na {local}\nb {local}\n[all:vars]\n{variables}",
            "out/.made": "",
        }
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.environment = {
            "ANSIBLE_STDOUT_CALLBACK": "phases",
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "callback_plugins"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_DEPRECATION_WARNINGS": "true",
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{ANSIBLE.parent}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }

    def command(self, *options: str) -> list[str]:
        play = [str(ANSIBLE), "-i", str(self.folder / "hosts"), str(self.folder / "play.yml")]
        return [*play, *options]

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options), cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, **self.environment, **environment},
        )  # fmt: skip


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


def phases(output: str) -> list[str]:
    """The lines of phases, without the seconds and with single spaces."""
    lines = (line for line in output.splitlines() if line[8:9] in ("✓", "✗"))
    return [" ".join(line.split()[:-2]) for line in lines]


def test_a_line_a_phase_a_line_a_change_and_what_was_said(small):
    done = small.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert phases(done.stdout) == [
        "before ✓ 1 preflight 2 hosts",
        "during ✓ 2 quantize 2 hosts, 2 changed",
        "during ✓ 3 gate 2 hosts",  # nobody takes part in validate
        "before ✓ 4 preflight 2 hosts",
    ]
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert sorted(line for line in lines if line.startswith("change:")) == [
        "change: a: Restart it",
        "change: a: Write more (x)",
        "change: a: Write more (y)",
        "change: a: Write the pair",
        "change: b: Restart it",
        "change: b: Write the pair",
    ]
    assert "ignored: a: It does not matter (a small fault)" in lines
    assert lines[:4] == ["", "the table", "of all", ""] and lines[4].startswith("before ")
    assert lines[-1].startswith("✓ done in ")
    assert lines[-1].endswith(": 2 hosts, 2 changed, 0 failed, 0 unreachable, 1 ignored")
    for said in ("the disk is nearly full", "it is old"):
        assert said in done.stderr
    for noise in ("TASK [", "PLAY", "never", "\x1b", "included:"):
        assert noise not in done.stdout
    again = small.run("--limit", "b")
    assert phases(again.stdout)[1] == "during ✓ 2 quantize 1 host"
    assert "change:" not in again.stdout


def test_check_mode_shows_what_would_change_with_its_diff(small):
    done = small.run("--check", "--diff")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "during ✓ 2 quantize 2 hosts, 2 would change" in phases(done.stdout)
    at = lines.index("planned: a: Write the pair")
    assert lines[at + 1].startswith("--- before") and "+a" in lines[at:]
    assert lines.count("planned: a: Write the pair") == 1 and "TASK [" not in done.stdout
    assert [path.name for path in (small.folder / "out").iterdir()] == [".made"]


def test_a_failure_is_shown_in_full_and_ends_the_run(small):
    done = small.run("-e", '{"refused": ["b"], "at_once": 1}')
    said = done.stdout + done.stderr
    assert done.returncode == 2 and "b is refused" in said
    assert "TASK [validate : Refuse it]" in said and "fatal: [b]: FAILED!" in said
    assert phases(done.stdout)[-3:] == [
        "during ✓ 5 quantize 1 host, 1 changed",  # the second batch
        "during ✓ 6 gate 1 host",
        "after ✗ 7 validate 1 host, 1 failed",
    ]
    assert done.stdout.splitlines()[-1].startswith("✗ stopped after ")


def test_a_failure_of_no_phase_marks_none(small):
    done = small.run("-e", "stops=true")
    assert done.returncode == 2 and phases(done.stdout)[-1] == "during ✓ 3 gate 2 hosts"
    assert "2 failed, 0 unreachable" in done.stdout.splitlines()[-1]


def test_a_failure_that_is_rescued_is_told_and_is_no_failure_of_the_run(small):
    done = small.run("-e", '{"refused": ["b"], "rescues": true, "verdict": "fail"}')
    assert done.returncode == 0 and "b is refused" in done.stdout + done.stderr
    assert "during ✗ 3 gate 2 hosts, 2 failed" in phases(done.stdout), "a gate that refuses"
    assert "after ✗ 4 validate 1 host, 1 failed" in phases(done.stdout)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("✓ done in ") and "0 failed, 0 unreachable, 1 rescued" in last


def test_a_host_that_does_not_answer(small):
    away = {"ansible_connection": "ssh", "ansible_port": "1", "ansible_host": "127.0.0.1"}
    with (small.folder / "hosts").open("a") as hosts:
        hosts.write("[all]\nc " + " ".join(f"{name}={value}" for name, value in away.items()))
    done = small.run()
    assert done.returncode == 4 and "fatal: [c]: UNREACHABLE!" in done.stdout + done.stderr
    assert phases(done.stdout)[0] == "before ✗ 1 preflight 3 hosts, 1 failed"
    assert "0 failed, 1 unreachable" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("way", ["environment", "configuration"])
def test_in_spanish(small, way):
    environment = {"MODELOPS_LANGUAGE": "es"} if way == "environment" else {}
    if not environment:
        (small.folder / "ansible.cfg").write_text("[callback_phases]\nlanguage = es\n")
    done = small.run(**environment)
    assert phases(done.stdout)[:2] == [
        "antes ✓ 1 revisión previa 2 equipos",
        "durante ✓ 2 cuantización 2 equipos, 2 con cambios",
    ]
    assert "cambio: a: Write the pair" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("✓ hecho en ")


@pytest.mark.parametrize(
    ("options", "environment"), [(["-v"], {}), ([], {"ANSIBLE_STDOUT_CALLBACK": "default"})]
)
def test_ansibles_own_output_is_there_for_who_asks(small, options, environment):
    done = small.run(*options, **environment)
    assert "TASK [quantize : Write the pair]" in done.stdout and "PLAY RECAP" in done.stdout
    assert not phases(done.stdout)


def on_a_terminal(small: Small, **environment: str) -> str:
    """Run the play on a terminal, and return all that came to it."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        small.command(), cwd=small.folder, stdout=slave, stderr=slave, stdin=subprocess.DEVNULL,
        env={**os.environ, **small.environment, **environment},
    ) as process:  # fmt: skip
        os.close(slave)
        said = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # EIO: nobody holds the other end any more
                break
            if not part:
                break
            said += part
    os.close(master)
    assert process.returncode == 0, said
    return said.decode()


def test_on_a_terminal_the_task_at_work_is_shown_and_replaced(small):
    text = on_a_terminal(small, TERM="xterm")
    assert "\r\x1b[K  … quantize : Write the pair" in text
    # A progress line is erased before anything else is written, warnings too.
    written = [line.rpartition("\x1b[K")[2] for line in text.split("\n")]
    assert not any("…" in line for line in written)
    assert any("the disk is nearly full" in line for line in written)


def test_a_terminal_that_cannot_erase_gets_no_progress_line(small):
    assert "\x1b" not in on_a_terminal(small, TERM="dumb")


def test_events_of_a_runner_are_the_same_as_under_ansibles_own_output(small):
    seen = []
    for name, callback in enumerate(("default", "phases")):
        private = small.folder / f"private{name}"
        private.mkdir()
        done = ansible_runner.run(
            private_data_dir=str(private), playbook=str(small.folder / "play.yml"),
            inventory=str(small.folder / "hosts"), quiet=True, project_dir=str(small.folder),
            envvars=small.environment | {"ANSIBLE_STDOUT_CALLBACK": callback},
            cmdline="--check --diff",
        )  # fmt: skip
        assert done.rc == 0, done.stdout.read()
        seen.append(
            [
                (event["event"], event["event_data"].get("host"), event["event_data"].get("task"))
                for event in done.events
                if event["event"] not in ("verbose", "warning", "deprecated")
            ]
        )
    assert sorted(map(str, seen[0])) == sorted(map(str, seen[1])) and len(seen[0]) > 20
    assert "✓ done in " in done.stdout.read()


def test_a_fault_of_the_output_is_a_warning_and_ends_no_run(small):
    broken = (ROOT / "callback_plugins/phases.py").read_text()
    (small.folder / "callback_plugins").mkdir()
    (small.folder / "module_utils").symlink_to(ROOT / "module_utils")
    (small.folder / "callback_plugins/broken.py").write_text(
        broken + "\n\ndef _phase(task):\n    raise RuntimeError('a fault of ours')\n"
    )
    done = small.run(
        ANSIBLE_STDOUT_CALLBACK="broken",
        ANSIBLE_CALLBACK_PLUGINS=str(small.folder / "callback_plugins"),
    )
    assert done.returncode == 0 and "a fault of ours" in done.stderr
    assert (small.folder / "out/a").exists() and "✓ done in " in done.stdout


def test_a_release_and_a_run_with_nothing_to_do(fresh):
    """The project's own playbook under its own ansible.cfg."""
    hosts = fresh.folder.parent / "hosts.json"
    hosts.write_text(json.dumps(fresh.inventory()))
    command = [
        *(str(ANSIBLE), "-i", str(hosts), "quantize.yml"),
        *("-e", json.dumps(FAST | fresh.given())),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "ANSIBLE_STDOUT_CALLBACK"}

    def run() -> list[str]:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False,
            env=environment | {"LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    lines = run()
    first = phases("\n".join(lines))
    assert [line.split(" ✓ ")[1].split()[1] for line in first] == [
        "preflight", "runtime", "quantize", "gate", "sign", "transfer", "activate", "validate",
        "commit", "report",
    ]  # fmt: skip
    assert any(line.startswith("measured on target1") for line in lines)
    assert any("change: target1: Move the artifacts to the live names" in line for line in lines)
    again = run()
    assert not any("change:" in line for line in again)
    assert len(again) < len(lines) < 100
