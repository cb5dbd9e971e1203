"""Nothing is fetched beyond the pins: packages by hash, actions by commit."""

from __future__ import annotations

import datetime
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import advisories
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PINS = sorted(path for path in (ROOT / "requirements").glob("*.txt") if path.stem != "advisories")
TREE = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
]
# What fetches or installs something: only these, each with what is fetched and why that is right.
FETCHERS = {
    ".github/workflows/ci.yml": "apt-get: Debian's archive signs what it serves",
    "tests/browser/chromium.py": "apt-get: as above, for Chromium",
    "tests/hosts/linux/rootfs.py": "apt-get, mmdebstrap: as above, for the hosts of a bed",
    "tests/hosts/windows/wine.py": "apt-get: as above, for Wine",
}
FETCH = (
    r"\b(?:apt-get|curl|wget|urlretrieve|ansible-galaxy.{1,9}install|get_url|Invoke-WebRequest"
    r"|npm install|uvx)\b"
)


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_every_package_has_one_version_and_hashes(path):
    text = path.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines and path.with_suffix(".in").exists()
    for line in lines:
        name, _, rest = line.partition(" ")
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z,-]+\])?==[^=\s;]+", name), line
        assert "--hash=sha256:" in rest and "://" not in rest, line


def test_pip_takes_nothing_without_a_hash():
    """Each call of pip that installs or downloads, in the Makefile, code, tests and workflows."""
    calls = []
    for path in TREE:
        if path.suffix in (".py", ".yml", ".ps1", ".sh") or path.name in ("Makefile", "run"):
            text = path.read_text("utf-8")
            begins = (
                r"-m[\"', ]+pip\b(?:[^|;#]{0,120}?)[\"', ](?:install|download)\b|\bpip3? install\b"
            )
            for call in re.finditer(begins, text):
                calls.append(path.relative_to(ROOT).as_posix())
                rest = text[call.start() : call.end() + 200]
                assert "--require-hashes" in rest, f"{calls[-1]}: {rest}"
    assert {"Makefile", "module_utils/modelops/environment/wheelhouse.py"} <= set(calls)
    assert calls.count("Makefile") == 4
    # The role's own call is put together from parts.
    venv = (ROOT / "module_utils/modelops/environment/venv.py").read_text("utf-8")
    assert venv.count('"install"') == venv.count('"install", "--no-deps", "--require-hashes"') == 1


def test_nothing_else_fetches():
    folders = ("roles", "playbooks", "module_utils", "library", "plugin_utils", "tests", ".github")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in TREE
        if path.suffix in (".py", ".yml", ".sh") or path.name in ("Makefile", "run")
        if path.relative_to(ROOT).parts[0] in (*folders, "Makefile", ".ci")
        and re.search(FETCH, path.read_text("utf-8"))
    }
    assert found - {"tests/unit/test_supply.py"} == set(FETCHERS)


def test_actions_are_pinned_by_commit():
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        used = re.findall(r"uses: *(.*)", path.read_text("utf-8"))
        assert used
        for action in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action), action


def test_collections_come_with_the_package_that_is_pinned():
    project = (ROOT / "requirements/project.txt").read_text("utf-8")
    assert re.search(r"^ansible==", project, re.MULTILINE)
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text("utf-8"))["collections"]
    used = {
        name
        for path in TREE
        if path.parts[len(ROOT.parts)] in ("roles", "playbooks") and path.suffix == ".yml"
        for name in re.findall(r"^\s+(\w+\.\w+)\.\w+:", path.read_text("utf-8"), re.MULTILINE)
    }
    assert used - {"ansible.builtin"} == {each["name"] for each in wanted}


TODAY = datetime.date(2026, 11, 29)
FOUND = SimpleNamespace(id="PYSEC-1", aliases={"CVE-1"}, fix_versions=["2.0"])


def judged(text: str = "", unknown: str = "") -> tuple[list[str], list[str]]:
    passes = advisories.allowed(text)
    ask = {"a": (unknown, [] if unknown else [FOUND]), "b": ("", [])}
    return advisories.judge([("a", "1.0"), ("b", "1.0")], lambda n, _: ask[n], passes, TODAY)


def test_an_advisory_fails_until_it_is_let_pass_and_from_its_day_on():
    assert judged() == (["a 1.0: PYSEC-1 (mended by 2.0)"], [])
    for name in ("PYSEC-1", "CVE-1"):
        fails, told = judged(f"# known\n{name} 2026-12-01 not imported\n")
        assert fails == [] and "let pass until 2026-12-01: not imported" in told[0]
    assert "was let pass until 2026-11-29" in judged("CVE-1 2026-11-29 not imported")[0][0]
    assert judged("X-9 2027-01-01 gone")[1] == ["X-9 is let pass, and nothing has it"]
    for line in ("CVE-1", "CVE-1 2026-12-01", "CVE-1 soon because"):
        with pytest.raises(ValueError):
            advisories.allowed(line)


def test_a_package_that_the_index_does_not_know_is_told():
    fails, told = judged(unknown="not found")
    assert (fails, told) == ([], ["a 1.0 was not judged: not found"])


def test_every_pin_is_asked_about():
    texts = [path.read_text("utf-8") for path in PINS]
    pinned = advisories.pins(texts)
    lines = {line.split()[0] for text in texts for line in text.splitlines() if "==" in line}
    assert len(pinned) == len({line.partition(";")[0] for line in lines}) > 100
    assert advisories.allowed((ROOT / "requirements/advisories.txt").read_text("utf-8")) == {}


def test_the_list_of_packages_is_made_of_every_set():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    sets = re.search(r"^SETS := (.*)$", makefile, re.MULTILINE)
    assert sets and set(sets[1].split()) == {path.stem for path in PINS}
