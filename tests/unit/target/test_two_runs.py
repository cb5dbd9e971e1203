"""Two runs at once, each of a model of its own, on one folder and one configuration."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.target import run_lock
from target import Target
from test_two_models import CONFIG, begin, two

MODULE = without_ansible.load("model_release")
ROUNDS = 15


def call(target: Target, state: str, **options) -> dict:
    defaults = {name: spec.get("default") for name, spec in MODULE.MODULE["argument_spec"].items()}
    given = {"root": str(target.root), "name": target.model, "state": state, "token": target.model}
    return MODULE.run(defaults | given | options, False)


def planned(target: Target, state: str, **options) -> None:
    """Plan and do it; plan again as often as the other run was faster."""
    for _ in range(1000):
        config, owner = target.plan()
        try:
            call(target, state, config=config, previous=owner, **options)
        except ModelOpsError as error:
            assert error.facts == {"config_changed": True}, error
        else:
            return
    raise AssertionError("never done")


def run(target: Target) -> None:
    held = {"run": target.model, "owner": "a test", "process": ""}
    run_lock.take(run_lock.place(target.root, target.model), held)
    for number in range(ROUNDS):
        release = begin(target, f"{number}")["release_id"]
        planned(target, "active", release=release)
        assert target.in_service() == release
        call(target, "committed", release=release)
        call(target, "pruned", keep=0)
        planned(target, "rolled_back")
        assert target.in_service() == "fp32"


def test_they_do_not_meet(tmp_path):
    one, other = two(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (one, other)))
    assert one.config.read_text() == CONFIG
    for target in (one, other):
        events = [entry["event"] for entry in target.store.load()["history"]]
        assert events == ["activated", "committed", "rolled back"] * ROUNDS
