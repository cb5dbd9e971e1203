"""The WinRM double itself: that its modules do what upstream documents, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import ansible_collections.ansible.windows as upstream
import pytest
import yaml
from plays import PLACE, tried
from winrm_double.modules import PLAYED
from winrm_double.options import OPTIONS
from winrm_double.programs import UnsupportedError, split_command_line, split_powershell

UPSTREAM = Path(next(iter(upstream.__path__)), "plugins/modules")


# ------------------------------------------------------------------ modules


@pytest.mark.parametrize("name", sorted(PLAYED))
def test_the_options_are_those_of_upstream(name):
    """What upstream documents: type, default, choices, aliases; the rest its script reads."""
    source = UPSTREAM / f"{name}.py"
    if source.exists():
        text = re.search(r"DOCUMENTATION = r?(\"\"\"|''')(.*?)\1", source.read_text(), re.S)[2]
        documented = yaml.safe_load(text)["options"]
    else:
        documented = yaml.safe_load(source.with_suffix(".yml").read_text())
        documented = documented["DOCUMENTATION"]["options"]
    script = source.with_suffix(".ps1").read_text()
    assert OPTIONS[name], "a module without options would prove nothing"
    # What the versions of ansible.windows call otherwise, to the same effect.
    other = {("win_shell", "_raw_params"): {"aliases"}, ("win_tempfile", "path"): {"default"}}
    for option, played in OPTIONS[name].items():
        spoken = ("free_form", "cmd") if (name, option) in other else (option,)
        said = next((documented[n] for n in (*spoken, option) if n in documented), None)
        if said is None:
            assert option == "symlinks" or f'"{option}"' in script
            continue
        asked = {"type", "default", "required", "elements", "aliases", "choices"}
        for what in asked - other.get((name, option), set()):
            here, there = played.get(what, False), said.get(what, False)
            if what == "choices" and here:
                here, there = sorted(here), sorted(there)
            assert here == there, f"{name} {option} {what}"


def test_win_ping(windows, place):
    plain, other, broken = tried(
        windows,
        {"ansible.windows.win_ping": {}},
        {"ansible.windows.win_ping": {"data": "here"}},
        {"ansible.windows.win_ping": {"data": "crash"}},
    )
    assert plain["ping"] == "pong" and other["ping"] == "here"
    assert broken["failed"] and broken["msg"].endswith("while executing module: boom")


def test_win_stat(windows, place):
    (place / "a.bin").write_bytes(b"12345")
    (place / "sub").mkdir()
    (place / "sub" / "b").write_bytes(b"123")
    name = f"{PLACE}\\A.BIN"
    file, sha256, bare, folder, absent, wrong, none = tried(
        windows,
        {"ansible.windows.win_stat": {"path": name}},
        {"ansible.windows.win_stat": {"path": name, "checksum_algorithm": "sha256"}},
        {"ansible.windows.win_stat": {"path": name, "get_size": False, "get_checksum": False}},
        {"ansible.windows.win_stat": {"path": PLACE}},
        {"ansible.windows.win_stat": {"path": f"{PLACE}\\none"}},
        {"ansible.windows.win_stat": {"path": name, "checksum_algorithm": "crc"}},
        {"ansible.windows.win_stat": {}},
    )
    assert file["stat"]["checksum"] == hashlib.sha1(b"12345").hexdigest()
    assert file["stat"]["size"] == 5 and file["stat"]["extension"].lower() == ".bin"
    assert file["stat"]["isreg"] and not file["stat"]["isdir"]
    assert sha256["stat"]["checksum"] == hashlib.sha256(b"12345").hexdigest()
    assert not {"size", "checksum"} & set(bare["stat"])
    assert folder["stat"]["isdir"] and folder["stat"]["size"] == 8
    assert folder["stat"]["path"] == PLACE and folder["stat"]["filename"] == "double ü"
    assert absent["stat"] == {"exists": False} and not absent["changed"]
    assert "value of checksum_algorithm must be one of: md5, sha1, sha256" in wrong["msg"]
    assert "missing required arguments: path" in none["msg"]


def test_win_file(windows, place):
    name, folder = f"{PLACE}\\f", f"{PLACE}\\d\\e"
    (place / "is").mkdir()

    def task(path: str, **options: object) -> dict:
        check = {"check_mode": options.pop("check_mode", False)}
        return {"ansible.windows.win_file": {"path": path, **options}, **check}

    found = tried(
        windows,
        task(folder, state="directory", check_mode=True),
        task(folder, state="directory"),
        task(folder, state="directory"),
        task(name, state="file"),
        task(name, state="touch"),
        task(name),
        task(name, state="directory"),
        task(f"{PLACE}\\is", state="file"),
        task(f"{PLACE}\\is"),
        task(f"{PLACE}\\d", state="absent", check_mode=True),
        task(f"{PLACE}\\d", state="absent"),
        task(f"{PLACE}\\d", state="absent"),
        task(name, state="link"),
        task(""),
    )
    changes = [result["changed"] for result in found]
    assert changes == [True, True, False, False, True, *[False] * 4, True, True, *[False] * 3]
    assert "will not be created" in found[3]["msg"]
    assert "is not a directory" in found[6]["msg"]
    assert found[7]["msg"] == f"path {PLACE}\\is is not a file"
    assert not found[5].get("failed") and not found[8].get("failed")
    assert "state needs to be one of absent,directory,file,touch but was link" in found[12]["msg"]
    assert found[13]["failed"]
    assert {path.name for path in place.iterdir()} == {"is", "f"}


def test_win_copy(windows, place, tmp_path):
    (tmp_path / "local").write_bytes(b"new")
    (place / "old").write_bytes(b"old")
    (place / "d").mkdir()

    def send(dest: str, **options: object) -> dict:
        return {
            "ansible.windows.win_copy": {"src": str(tmp_path / "local"), "dest": dest, **options}
        }

    def here(src: str, dest: str, **options: object) -> dict:
        options = {"src": src, "dest": dest, "remote_src": True, **options}
        return {"ansible.windows.win_copy": options}

    sent, again, kept, forced, into, nowhere, copied, same, unforced, absent, folder = tried(
        windows,
        send(f"{PLACE}\\new"),
        send(f"{PLACE}\\new"),
        send(f"{PLACE}\\old", force=False),
        send(f"{PLACE}\\old"),
        send(f"{PLACE}\\d\\"),
        send(f"{PLACE}\\x\\new"),
        here(f"{PLACE}\\new", f"{PLACE}\\d"),
        here(f"{PLACE}\\new", f"{PLACE}\\d\\new"),
        here(f"{PLACE}\\new", f"{PLACE}\\d\\local", force=False),
        here(f"{PLACE}\\none", f"{PLACE}\\y"),
        here(f"{PLACE}\\d", f"{PLACE}\\e"),
    )
    changes = [sent, again, kept, forced, into, copied, same, unforced]
    assert [result["changed"] for result in changes] == [1, 0, 0, 1, 1, 1, 0, 0]
    assert (place / "new").read_bytes() == (place / "old").read_bytes() == b"new"
    assert (place / "d" / "local").read_bytes() == (place / "d" / "new").read_bytes() == b"new"
    assert f"Destination directory '{PLACE}\\x' does not exist" in nowhere["msg"]
    assert copied["operation"] == "file_copy" and copied["size"] == 3
    assert copied["dest"] == f"{PLACE}\\d\\new"
    assert "Cannot copy src file" in absent["msg"] and "does not exist" in absent["msg"]
    assert folder["msg"] == "double: it does not play win_copy of a folder"
    assert not list(windows.path("%TEMP%").glob("ansible-tmp-*"))


def test_win_command(windows, place):
    (place / "there").touch()
    echo = (
        "import os,sys; print(sys.argv[1:], os.getcwd(), os.getenv('A')); print(sys.stdin.read())"
    )
    words = ["a b", 'say "hi"', "end\\", "%TEMP%"]

    def task(**options: object) -> dict:
        return {"ansible.windows.win_command": options}

    spoken, line, code, created, removed, planned, absent, nowhere, both, wide = tried(
        windows,
        task(argv=[windows.python, "-X", "utf8", "-c", echo, *words], stdin="in ü", chdir=PLACE)
        | {"environment": {"A": "b"}},
        {"ansible.windows.win_command": rf'{windows.python} -c "print(\"x  y\")"'},
        task(argv=[windows.python, "-c", "import sys; print('o'); sys.exit('e')"]),
        task(argv=[windows.python], creates=f"{PLACE}\\there"),
        task(argv=[windows.python], removes=f"{PLACE}\\gone"),
        task(argv=[windows.python]) | {"check_mode": True},
        task(argv=[r"C:\none\x.exe", "a"]),
        task(argv=[windows.python], chdir=r"C:\none"),
        task(argv=[windows.python], cmd="x"),
        task(
            argv=[windows.python, "-c", "import os; os.write(1, 'ü'.encode('cp1252'))"],
            output_encoding_override="windows-1252",
        ),
    )
    assert spoken["stdout"].splitlines() == [f"{words} {PLACE} b", "in ü"] and spoken["changed"]
    assert spoken["rc"] == 0 and re.fullmatch(r"0:\d\d:\d\d\.\d+", spoken["delta"])
    assert line["stdout"] == "x  y\r\n"
    assert code["failed"] and code["rc"] == 1 and code["msg"] == "non-zero return code"
    assert code["stdout"] == "o\r\n" and code["stderr"] == "e\r\n"
    assert created["msg"] == f"skipped, since {PLACE}\\there exists" and created["skipped"]
    assert removed["msg"] == f"skipped, since {PLACE}\\gone does not exist"
    assert planned["skipped"] and "does not support check mode" in planned["msg"]
    assert absent["rc"] == 2 and absent["msg"].startswith("Failed to run: 'C:\\none\\x.exe a': ")
    assert "cannot find the file specified" in absent["msg"]
    assert nowhere["rc"] == 2 and r"-WorkingDirectory 'C:\none'" in nowhere["msg"]
    assert "mutually exclusive" in both["msg"]
    assert wide["stdout"] == "ü"


def test_win_shell(windows, place):
    five = f"& '{windows.python}' -c 'import sys; sys.exit(5)'"

    def task(line: str, **options: object) -> dict:
        return {"ansible.windows.win_shell": line, "args": options}

    plain, one, own, cmd, spared, typed, nowhere = tried(
        windows,
        task(f"& '{windows.python}' -c 'print(1)'"),
        task(five),
        task(f"{five}; exit $LASTEXITCODE"),
        task("echo a b", executable="cmd"),
        task(five, removes=f"{PLACE}\\none"),
        task(f"& '{windows.python}' -c 'print(input())'", stdin="typed"),
        task(five, chdir=r"C:\none"),
    )
    assert plain["stdout"] == "1\r\n" and plain["changed"]
    assert (one["rc"], own["rc"]) == (1, 5), "powershell.exe says 1 for a program that failed"
    assert cmd["stdout"].split() == ["a", "b"]
    assert spared["skipped"] and not spared["changed"]
    assert typed["stdout"] == "typed\r\n"
    assert nowhere["msg"] == r"invalid working directory path 'C:\none'"


def test_win_tempfile_and_slurp(windows, place):
    (place / "s").write_bytes(b"\0\1")
    file, folder, planned, wrong, read, not_file, none = tried(
        windows,
        {"ansible.windows.win_tempfile": {"path": PLACE, "suffix": ".x"}},
        {"ansible.windows.win_tempfile": {"dest": PLACE, "state": "directory", "prefix": "p"}},
        {"ansible.windows.win_tempfile": {"path": PLACE, "prefix": "q"}, "check_mode": True},
        {"ansible.windows.win_tempfile": {"state": "link"}},
        {"ansible.builtin.slurp": {"src": f"{PLACE}\\s"}},
        {"ansible.builtin.slurp": {"src": PLACE}},
        {"ansible.builtin.slurp": {"src": f"{PLACE}\\none"}},
    )
    assert re.fullmatch(r"ansible\.\w+\.x", file["path"].removeprefix(f"{PLACE}\\"))
    assert windows.path(file["path"]).is_file() and windows.path(folder["path"]).is_dir()
    assert planned["changed"] and not list(place.glob("q*"))
    assert "value of state must be one of: directory, file" in wrong["msg"]
    assert (read["content"], read["encoding"]) == ("AAE=", "base64")
    assert not_file["msg"] == f"Path {PLACE} is a directory"
    assert none["msg"] == f"Path {PLACE}\\none is not found"


def test_async_and_async_status(windows, place):
    def task(text: str, seconds: int, poll: int) -> dict:
        argv = [windows.python, "-c", text]
        module = {"ansible.windows.win_command": {"argv": argv}}
        return module | {"async": seconds, "poll": poll}

    later, polled, late, lost, wrong = tried(
        windows,
        task("print(7)", 30, 0),
        {
            "ansible.builtin.async_status": {"jid": "{{ r0.ansible_job_id }}"},
            "until": "r1.finished",
            "retries": 30,
            "delay": 1,
        },
        task("import time; time.sleep(60)", 2, 1),
        {"ansible.builtin.async_status": {"jid": "none"}},
        {"ansible.windows.win_command": {"argv": ["netsh"]}, "async": 30, "poll": 1},
    )
    assert later["started"] and not later["finished"]
    assert re.search(r"\\\.ansible_async\\j\d+\.\d+$", later["results_file"])
    assert polled["stdout"] == "7\r\n" and polled["rc"] == 0 and polled["finished"]
    assert late["failed"], "ended by its limit"
    assert lost["failed"] and "could not find job" in lost["msg"]
    assert wrong["failed"] and "double: " in json.dumps(wrong), "refused in the background too"


def test_setup(windows, place):
    facts, part = tried(
        windows,
        {"ansible.builtin.setup": {}},
        {"ansible.builtin.setup": {"gather_subset": ["hardware"]}},
    )
    assert facts["ansible_facts"]["ansible_os_family"] == "Windows"
    assert facts["ansible_facts"]["ansible_system"] == "Win32NT"
    assert part["msg"].startswith("double: ")


# ------------------------------------------------------------------ what it does not play


def test_the_rest_is_refused(windows, place, tmp_path):
    script = tmp_path / "s.ps1"
    script.write_text("Get-Process | Stop-Process\n")
    tasks = [
        {"ansible.windows.win_service": {"name": "WinRM"}},
        {"ansible.windows.win_powershell": {"script": "1"}},
        {"ansible.windows.win_file": {"path": r"D:\x", "state": "absent"}},
        {"ansible.windows.win_file": {"path": r"work\x", "state": "absent"}},
        {"ansible.windows.win_copy": {"src": __file__, "dest": r"C:\x", "backup": True}},
        {"ansible.windows.win_command": "netsh advfirewall show allprofiles"},
        {"ansible.windows.win_command": r"C:\windows\system32\icacls.exe C:\work"},
        {"ansible.windows.win_command": "powershell.exe -Command exit"},
        {"ansible.windows.win_command": "cmd /c echo a & icacls C:\\"},
        {"ansible.windows.win_shell": "Get-Process"},
        {"ansible.windows.win_shell": "$x = 1; echo $x"},
        {"ansible.windows.win_shell": "echo 1", "args": {"executable": "pwsh"}},
        {"ansible.builtin.script": str(script)},
        {"ansible.builtin.raw": "Get-Date"},
        {"ansible.builtin.raw": "hostname"},
        {
            "ansible.windows.win_ping": {},
            "become": True,
            "become_method": "ansible.builtin.runas",
            "become_user": "SYSTEM",
        },
    ]
    for task, result in zip(tasks, tried(windows, *tasks), strict=True):
        words = [str(result.get(key, "")) for key in ("msg", "module_stderr", "stderr")]
        assert result["failed"], task
        assert any(text.startswith("double: it does not play ") for text in words), (task, words)


@pytest.mark.parametrize("line", ["a | b", "$x", "a; b", "(a)", '"$x"', "a > b", "a `\nb", "@(1)"])
def test_a_powershell_statement_that_is_not_simple_is_refused(line):
    with pytest.raises(UnsupportedError):
        split_powershell(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r"a\b c", [r"a\b", "c"]),
        (r'"a b" c', ["a b", "c"]),
        (r"a\"b", ['a"b']),
        (r'a\\"b c"', ["a\\b c"]),
        (r'"a\\"', ["a\\"]),
        ('""', [""]),
        ("a\tb", ["a", "b"]),
    ],
)
def test_a_command_line_is_split_as_by_windows(line, words):
    assert split_command_line(line) == words
