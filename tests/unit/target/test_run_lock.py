"""The lock of a run: never two hold it, and a run that was killed loses it in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.execution import controller, without_ansible
from modelops.target import run_lock

TTL_S = 600


@pytest.fixture
def clock(monkeypatch):
    """The host's clock, which a test sets."""
    now = SimpleNamespace(s=1_800_000_000.0)
    monkeypatch.setattr(run_lock.time, "time", lambda: now.s)
    return now


@pytest.fixture
def path(tmp_path):
    return run_lock.place(tmp_path, "voice")


def run(token: str, process: str = "") -> dict[str, str]:
    return {"run": token, "owner": f"noel at {token}", "process": process}


def test_the_second_is_told_who_holds_it(path, clock):
    run_lock.take(path, run("A"))
    run_lock.take(path, run("A"))
    with pytest.raises(ModelOpsError, match=r"noel at A, since 20.* ends at 20") as caught:
        run_lock.take(path, run("B"))
    assert caught.value.facts["lock"]["owner"] == "noel at A"
    assert "A" not in caught.value.facts["lock"].values()  # the token is the run's own
    with pytest.raises(ModelOpsError):
        run_lock.take(path, run("B"), check_mode=True)
    run_lock.give_back(path, "B")
    assert run_lock.holder(path)["run"] == "A"
    run_lock.give_back(path, "A")
    run_lock.take(path, run("B"))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_check_mode_takes_nothing(path):
    run_lock.take(path, run("A"), check_mode=True)
    assert list(path.parent.iterdir()) == []


def test_models_of_one_folder_have_locks_of_their_own(tmp_path):
    run_lock.take(run_lock.place(tmp_path, "a"), run("A"))
    run_lock.take(run_lock.place(tmp_path, "b"), run("B"))


def test_a_run_that_was_killed_keeps_others_out_for_its_time_only(path, clock):
    run_lock.take(path, run("A"), TTL_S)
    clock.s += TTL_S
    with pytest.raises(ModelOpsError):
        run_lock.take(path, run("B"))
    clock.s += 1
    run_lock.take(path, run("B"))
    with pytest.raises(ModelOpsError, match="noel at B"):
        run_lock.hold(path, "A")


def test_a_run_that_goes_on_keeps_its_lock(path, clock):
    run_lock.take(path, run("A"), TTL_S)
    for _ in range(5):
        clock.s += TTL_S / 2
        run_lock.hold(path, "A")
    with pytest.raises(ModelOpsError):
        run_lock.take(path, run("B"))


def test_a_lock_whose_time_is_up_is_its_runs_while_nobody_took_it(path, clock):
    run_lock.take(path, run("A"), TTL_S)
    clock.s += 10 * TTL_S
    run_lock.hold(path, "A")
    with pytest.raises(ModelOpsError):
        run_lock.take(path, run("B"))


def test_who_was_pushed_aside_notices(path):
    run_lock.take(path, run("A"))
    run_lock.take(path, run("B"), force=True)
    with pytest.raises(ModelOpsError, match="noel at B"):
        run_lock.hold(path, "A")
    run_lock.give_back(path, "A")
    assert run_lock.holder(path)["run"] == "B"
    run_lock.give_back(path, "B")
    with pytest.raises(ModelOpsError, match="took it over, did its work and ended"):
        run_lock.hold(path, "A")


def test_without_a_token_nothing_is_held_nor_given_back(path):
    path.write_text("{")  # an unknown lock has no token either
    with pytest.raises(ModelOpsError, match="--start-at-task"):
        run_lock.hold(path, "")
    run_lock.give_back(path, "")
    assert path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"run": 1, "expires": "soon"}', '"x"', ""])
def test_a_broken_lock_holds_until_it_is_broken(path, text):
    path.write_text(text)
    with pytest.raises(ModelOpsError, match="unknown"):
        run_lock.take(path, run("B"))
    run_lock.take(path, run("B"), force=True)
    run_lock.hold(path, "B")


def test_only_the_dead_process_itself_is_replaced(path):
    run_lock.take(path, run("A", "here pid:[1] 7 100"))
    with pytest.raises(ModelOpsError):
        run_lock.take(path, run("B"), dead="here pid:[1] 7 101")
    run_lock.take(path, run("B"), dead="here pid:[1] 7 100")
    run_lock.hold(path, "B")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ABC"),
            st.sampled_from(["take", "hold", "back"]),
            st.integers(0, TTL_S),
        ),
        max_size=30,
    )
)
def test_whatever_happens_one_run_holds_it(steps):
    """A run that was let in is alone until its time is up or it gives the lock back."""
    now, inside = [1_800_000_000], {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_lock.time, "time", lambda: now[0])
        path = run_lock.place(Path(folder), "voice")
        for token, what, later in steps:
            now[0] += later
            try:
                if what == "back":
                    run_lock.give_back(path, token)
                    inside.pop(token, None)
                    continue
                run_lock.take(path, run(token), TTL_S) if what == "take" else run_lock.hold(
                    path, token
                )
            except ModelOpsError:
                assert any(t != token for t in inside) or what == "hold"
                continue
            others = {t: until for t, until in inside.items() if t != token and until >= now[0]}
            assert others == {}, (token, what)
            # A renewal may leave up to a quarter of the time unused.
            inside = {token: now[0] + TTL_S * (1 - run_lock.RENEW_AFTER)}


def test_the_lock_is_for_its_owner_alone(path):
    before = os.umask(0)
    try:
        run_lock.take(path, run("A"))
    finally:
        os.umask(before)
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o600


def test_a_release_is_for_who_holds_the_lock(tmp_path):
    module = without_ansible.load("model_release")
    given = {key: option.get("default") for key, option in module.MODULE["argument_spec"].items()}
    given |= {"root": str(tmp_path), "name": "voice", "state": "pruned"}
    with pytest.raises(ModelOpsError, match="this run holds no lock here"):
        module.run(given, False)
    run_lock.take(run_lock.place(tmp_path, "voice"), run("A"))
    assert module.run(given | {"token": "A"}, False)["changed"] is False
    for state in set(module.STATES) - {"query", "armed"}:  # neither changes a release
        with pytest.raises(ModelOpsError, match="noel at A"):
            module.run(given | {"token": "B", "state": state}, False)
    told = module.run(given | {"state": "query"}, False)["lock"]
    assert told["owner"] == "noel at A" and "run" not in told


def test_a_process_is_told_from_one_that_only_has_its_pid():
    mine = controller.process(os.getpid())
    if not mine:
        pytest.skip("this system has no /proc")
    place, pid, start = mine.rsplit(" ", 2)
    assert not controller.is_dead(mine)
    assert controller.is_dead(f"{place} {pid} {int(start) - 1}")  # the PID was used again
    elsewhere = place.replace("pid:[", "pid:[9")
    assert not controller.is_dead(f"{elsewhere} {pid} {int(start) - 1}")  # in another container
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    said = controller.process(child.pid)
    assert not controller.is_dead(said)
    child.communicate(b"\n")
    assert controller.is_dead(said)


@pytest.mark.parametrize("text", ["", "x", "a b c d", "a b", "  ", "boot pid:[1] 1; 2"])
def test_what_a_file_says_of_a_process_is_not_believed(text):
    assert not controller.is_dead(text)


def test_the_lock_of_an_earlier_version_is_not_misread(path):
    old = {"run": "boot/1", "owner": "noel", "boot": "b", "pid": 1, "since": 1, "expires": 2}
    path.write_text(json.dumps(old))
    assert run_lock.holder(path)["process"] == ""
    run_lock.take(path, run("B"))
