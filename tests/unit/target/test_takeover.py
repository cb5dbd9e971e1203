"""What a version before kept on a target becomes the folder of its model."""

from __future__ import annotations

import shutil
from pathlib import Path

import models
import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.target import change, operations, run_lock, self_revert, takeover
from modelops.target.store import Store, fresh_state
from target import Target
from test_crash import Power, PowerCutError
from test_two_models import V2_FILES, two

MODULE = without_ansible.load("model_release")


def as_before(target: Target) -> None:
    """Lay a target's store down as the version before did: .releases is that of one model."""
    releases = target.root / ".releases"
    for path in list((releases / target.model).iterdir()):
        path.rename(releases / path.name)
    (releases / target.model).rmdir()
    target.store = Store(target.root, target.model)


def call(target: Target, state: str, check_mode: bool = False, **options) -> dict:
    defaults = {name: spec.get("default") for name, spec in MODULE.MODULE["argument_spec"].items()}
    given = {"root": str(target.root), "name": target.model, "state": state, "token": "this run"}
    lock = run_lock.place(target.root, target.model)
    run_lock.take(lock, {"run": "this run"}, check_mode=check_mode or state == "query")
    done = MODULE.run(defaults | given | options, check_mode)
    run_lock.give_back(lock, "this run")
    return done


@pytest.fixture
def old(tmp_path) -> Target:
    """A is last good, B is active and nobody confirmed it."""
    target = Target(tmp_path)
    target.release("A")
    listed = target.arrive("B")
    target.stage(listed)
    target.activate(listed["release_id"])
    as_before(target)
    return target


def test_a_look_and_check_mode_read_it_and_change_nothing(old):
    before = models.tree(old.home)
    found = call(old, "query", verify=True)
    assert found["state"]["active"] == old.in_service() and len(found["whole"]) == 2
    told = call(old, "recovered", check_mode=True)
    assert told["changed"] and "take over" in told["moved"][0]
    assert models.tree(old.home) == before
    done = call(old, "recovered")
    assert (told["moved"], told["state"], told["whole"]) == (
        done["moved"], done["state"], done["whole"],
    )  # fmt: skip
    assert not call(old, "recovered")["changed"]


def test_it_goes_on_with_what_was_under_way(old):
    call(old, "reverted", config=old.plan()[0])
    old.store = Store(old.root, "m")
    assert old.store.releases == old.root / ".releases" / "m"
    assert old.in_service() == old.store.load()["active"] == old.store.load()["last_good"]
    archive = old.root / ".releases" / self_revert.NAME
    assert archive.is_file(), "an armed timer of the version before still finds it"
    call(old, "pruned")
    assert not archive.exists()


def test_power_cut_at_every_call(tmp_path, monkeypatch):
    cut = 0
    while True:
        old = Target(tmp_path / str(cut))
        old.release("A")
        listed = old.arrive("B")
        old.stage(listed)
        old.activate(listed["release_id"])
        as_before(old)
        state = old.store.load()
        with monkeypatch.context() as patch:
            power = Power(patch)
            power.limit = cut
            try:
                takeover.take_over(old.root, "m")
                break
            except PowerCutError:
                cut += 1
        old.store = Store(old.root, "m")
        assert old.store.load() == state, "a look finds it wherever it is"
        assert self_revert.main(["due", str(old.root), "m"]) == 0
        takeover.take_over(old.root, "another")
        old.store = Store(old.root, "m")
        assert old.store.load() == state
        assert old.store.releases == old.root / ".releases" / "m"
        old.revert(with_plan=False)
        assert old.in_service() == state["last_good"]
        shutil.rmtree(old.home)
    assert cut >= 4


def test_the_manifests_tell_whose_it_is(tmp_path):
    one, other = two(tmp_path)
    one.release("A")
    as_before(one)
    fresh = operations.query(Store(other.root, "m_v2"), True)
    assert fresh["state"] == fresh_state() and fresh["whole"] == []
    other.store = Store(other.root, "m_v2")
    call(other, "recovered")
    assert Store(one.root, "m").load()["active"] == one.in_service()
    assert Store(other.root, "m_v2").load() == fresh_state()


def test_releases_of_a_second_model_that_got_mixed_in_are_told_apart(tmp_path):
    one, other = two(tmp_path)
    a = one.release("A")
    b = other.arrive("X", data=False)["release_id"]
    other.stage(other_listed(other))
    as_before(one)
    (one.root / ".releases" / "m_v2" / b).rename(one.root / ".releases" / b)
    shutil.rmtree(one.root / ".releases" / "m_v2")
    assert operations.query(Store(one.root, "m"), True)["whole"] == [a]
    takeover.take_over(one.root, "m")
    assert Store(one.root, "m").staged() == [a] and Store(one.root, "m_v2").staged() == [b]
    assert operations.query(Store(one.root, "m_v2"), True)["whole"] == [b]


def other_listed(target: Target) -> dict:
    return target.arrive("X", data=False)


def test_another_model_of_this_version_stays_where_it_is(tmp_path):
    one, other = two(tmp_path)
    one.release("A")
    as_before(one)
    (tmp_path / "aside").mkdir()
    (one.root / ".releases").rename(tmp_path / "aside" / ".releases")
    other.activate(staged(other)["release_id"])
    for path in list((tmp_path / "aside" / ".releases").iterdir()):
        path.rename(one.root / ".releases" / path.name)
    assert takeover.take_over(one.root, "m")
    for target in (one, other):
        target.store = Store(target.root, target.model)
        assert target.store.load()["active"] == target.in_service() != "fp32"


def staged(target: Target) -> dict:
    listed = target.arrive("X", data=False)
    target.stage(listed)
    return listed


def test_two_states_of_one_model_are_not_mixed(tmp_path):
    target = Target(tmp_path)
    target.release("A")
    releases = target.root / ".releases"
    shutil.copytree(releases / "m", tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", releases, dirs_exist_ok=True)
    before = models.tree(target.home)
    with pytest.raises(ModelOpsError, match="two versions"):
        takeover.take_over(target.root, "m")
    assert models.tree(target.home) == before


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"live": 3}'])
def test_a_broken_state_does_not_stand_in_the_way_back(old, content):
    (old.root / ".releases" / "state.json").write_bytes(content)
    config = old.plan_without_state()
    call(old, "rolled_back", config=config)
    assert old.in_service() == "fp32"
    assert list((old.root / ".releases" / "m").glob("state.json.broken-*"))


def test_an_empty_place_stays_empty(tmp_path):
    assert takeover.take_over(tmp_path, "m") == []
    assert list(tmp_path.iterdir()) == []
    target = Target(tmp_path, "m_v2", files=V2_FILES)
    assert takeover.take_over(target.root, "m_v2") == []
    assert change.recover(target.store) is None
    assert not (Path(target.root) / ".releases").exists()
