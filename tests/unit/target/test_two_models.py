"""Two models in one folder, named by one configuration: neither has anything of the other's."""

from __future__ import annotations

import contextlib
import random

import models
import onnx
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.target import activation, change, operations, rollback
from target import FP32_FILES, Target
from test_crash import OPERATIONS, Power, PowerCutError, rerun, word

# One name begins with the other, and our keys read the same in both blocks.
CONFIG = """\
models:
  audio_omni:
    model_path: models/onnx/m.onnx   # the audio model
    max_memory_mb: 4400
  voice:
    max_memory_mb: 4400
    model_path: models/onnx/m_v2.onnx
"""
V2_FILES = {"m_v2.onnx": b"fp32 graph of the voice, its weights within"}


def two(folder) -> tuple[Target, Target]:
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "sarai.yaml").write_text(CONFIG)
    first = Target(folder, block=("models", "audio_omni"))
    return first, Target(folder, "m_v2", ("models", "voice"), V2_FILES)


def begin(target: Target, letter: str) -> dict:
    listed = target.arrive(letter, data=target.model == "m")
    target.stage(listed)
    return listed


def step(target: Target, name: str, letter: str) -> None:
    """Do what a run does; what is not possible now is refused and changes nothing."""
    active = target.store.load()["active"]
    if name == "activate":
        target.activate(begin(target, letter)["release_id"], unvoid=True)
    elif name == "commit" and active != "fp32":
        target.commit(active)
    elif name in ("revert", "revert by the timer"):
        target.revert(void=name == "revert", with_plan=name == "revert")
    elif name == "roll back":
        target.roll_back(void=letter == "B")
    elif name == "last good":
        with contextlib.suppress(ModelOpsError):
            target.roll_back("last_good")
    elif name == "prune":
        operations.prune(target.store, 0, check_mode=False)


STEPS = ["activate", "commit", "revert", "revert by the timer", "roll back", "last good", "prune"]


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(STEPS), st.sampled_from("AB")), max_size=12)
)
def test_steps_of_two_models_in_any_order(tmp_path_factory, steps):
    both = two(tmp_path_factory.mktemp("two"))
    for which, name, letter in steps:
        one, other = both[which], both[not which]
        kept = other.store.load(), other.in_service(), tree_of(other)
        step(one, name, letter)
        assert (other.store.load(), other.in_service(), tree_of(other)) == kept
        active = one.store.load()["active"]
        assert one.in_service() == active
    for target in both:
        target.roll_back()
    assert both[0].config.read_text() == CONFIG


def tree_of(target: Target) -> dict[str, bytes]:
    """All files of a model: those of its name and those of its store."""
    own = [p for p in target.root.iterdir() if p.is_file() and f"{target.model}_int8." in p.name]
    own = [path for path in own if path.name.startswith(f"{target.model}_int8.")]
    own += [path for path in target.store.releases.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in own}


@pytest.mark.parametrize("name", ["first activation", "replace A with B", "roll back to FP32"])
def test_power_cut_and_another_model_released_before_the_rerun(name, tmp_path, monkeypatch):
    start, operation, end = OPERATIONS[name]
    cuts = 0
    for cut in range(0, 200, 3):
        one, other = two(tmp_path / str(cut))
        listed = start(one)
        with monkeypatch.context() as patch:
            power = Power(patch)
            power.limit = cut
            try:
                operation(one, listed)
                break
            except PowerCutError:
                cuts += 1
        before = other.store.load()["active"]
        other.activate(begin(other, "X")["release_id"])
        one.in_service()
        rerun(one, listed, operation)
        assert word(one, one.in_service()) == end
        assert other.in_service() != before
        one.roll_back()
        other.roll_back()
        assert one.config.read_text() == CONFIG
    assert cuts >= 5


def test_a_plan_that_another_model_made_old_is_told_apart(tmp_path):
    one, other = two(tmp_path)
    listed = begin(one, "A")
    config, owner = one.plan()
    other.activate(begin(other, "X")["release_id"])
    with pytest.raises(ModelOpsError, match="changed while") as caught:
        activation.activate(
            one.store, listed["release_id"], config, previous=owner, confirm_s=1, by=""
        )
    assert caught.value.facts == {"config_changed": True}
    one.activate(listed["release_id"])
    assert one.in_service() == listed["release_id"] and other.in_service() != "fp32"


def test_a_way_back_needs_no_second_plan(tmp_path):
    one, other = two(tmp_path)
    one.release("A")
    config = one.plan()[0]
    other.activate(begin(other, "X")["release_id"])
    rollback.roll_back(one.store, "fp32", config, by="", reason="", void=False)
    assert one.in_service() == "fp32" and other.in_service() != "fp32"
    other.roll_back()
    assert one.config.read_text() == CONFIG


def test_each_model_has_its_own_copy_of_the_text_before(tmp_path):
    one, other = two(tmp_path)
    one.release("A")
    between = one.config.read_text()
    other.activate(begin(other, "X")["release_id"])
    assert one.config.with_name("sarai.yaml.before-m_int8").read_text() == CONFIG
    assert one.config.with_name("sarai.yaml.before-m_v2_int8").read_text() == between


def test_the_pair_of_another_model_is_not_staged(tmp_path):
    one, other = two(tmp_path)
    listed = one.arrive("A")
    incoming = one.store.incoming / listed["release_id"]
    with pytest.raises(ModelOpsError, match="not of m_v2_int8"):
        operations.stage(other.store, listed["release_id"], listed, incoming, check_mode=False)
    assert other.store.staged() == []


@pytest.mark.parametrize("seed", range(12))
def test_one_file_and_two_files_replace_each_other(tmp_path, monkeypatch, seed):
    """The power fails somewhere, too: no data file goes with the wrong graph."""
    draw = random.Random(seed)
    target = Target(tmp_path, files=FP32_FILES if seed % 2 else {"m.onnx": b"all in one"})
    for number in range(6):
        listed = target.arrive(f"{number}", data=draw.random() < 0.5)
        target.stage(listed)
        with monkeypatch.context() as patch:
            power = Power(patch)
            power.limit = draw.randrange(0, 120)
            with contextlib.suppress(PowerCutError):
                target.activate(listed["release_id"])
        target.in_service()
        change.recover(target.store)
        target.in_service()
        target.activate(listed["release_id"])
        target.commit(listed["release_id"])
        assert target.in_service() == listed["release_id"]
        assert operations.query(target.store, True)["problems"] == []
        if number % 3 == 2:
            operations.prune(target.store, 1, check_mode=False)
    target.roll_back()
    assert target.in_service() == "fp32"


@pytest.mark.parametrize(("data", "missing"), [(None, ""), ("m.weights", "m.weights")])
def test_the_way_back_needs_the_files_that_the_graph_names(tmp_path, data, missing):
    target = Target(tmp_path, files={})
    path = models.matmul(target.root / "m.onnx", external=False)
    if data:
        onnx.save_model(
            onnx.load(path), path, save_as_external_data=True, location=data, size_threshold=0
        )
    assert target.store.fp32_problems(None, False) == []
    (target.root / "m.weights").unlink(missing_ok=True)
    assert "".join(target.store.fp32_problems(None, False)).startswith(
        f"{target.root / missing}: missing" if missing else ""
    )
    assert bool(target.store.fp32_problems(None, False)) == bool(missing)


def test_a_stored_text_does_not_bring_back_what_another_model_left(tmp_path):
    one, other = two(tmp_path)
    other.release("X")
    one.release("A")
    other.roll_back(void=True)
    assert not other.store.live[0].exists()
    one.config.write_text("broken: [\n")
    config = {"path": str(one.config), "unreadable": "it is no YAML"}
    rollback.roll_back(one.store, "fp32", config, by="", reason="", void=False)
    assert one.in_service() == other.in_service() == "fp32"
