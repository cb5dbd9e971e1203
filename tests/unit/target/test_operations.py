"""Releases on a target, step by step."""

from __future__ import annotations

import models
import pytest
from modelops.base.errors import ModelOpsError
from modelops.target import activation, operations, rollback
from modelops.target.store import Store
from target import CONFIG, FP32_FILES, Target


@pytest.fixture
def target(tmp_path):
    return Target(tmp_path)


def test_stage_activate_commit_roll_back(target):
    listed = target.arrive("A")
    a = listed["release_id"]
    assert target.stage(listed)["changed"]
    assert not target.stage(listed)["changed"]
    assert not target.store.incoming.joinpath(a).exists()
    result = target.activate(a)
    assert result["changed"] and target.in_service() == a
    assert "m_int8.onnx" in result["diff"]["after"]
    assert not result["state"]["confirmed"] and result["state"]["deadline"]
    assert target.commit(a)["state"]["last_good"] == a
    assert not target.commit(a)["changed"]
    assert not target.activate(a)["changed"]
    assert not target.stage(listed)["changed"]
    assert target.config.with_name("sarai.yaml.before-m_int8").read_text() == CONFIG
    assert target.roll_back()["changed"]
    assert target.in_service() == "fp32"
    assert target.config.read_text() == CONFIG
    assert not target.roll_back()["changed"]
    assert target.roll_back("last_good")["changed"]
    assert target.in_service() == a


def test_check_mode_tells_the_steps_of_the_real_run(target):
    listed = target.arrive("A")
    before = models.tree(target.home)
    told = target.stage(listed, check_mode=True)
    assert models.tree(target.home) == before
    assert told["moved"] == target.stage(listed)["moved"]
    before = models.tree(target.home)
    told = target.activate(listed["release_id"], check_mode=True)
    assert models.tree(target.home) == before
    done = target.activate(listed["release_id"])
    assert (told["moved"], told["diff"]) == (done["moved"], done["diff"])


def test_check_mode_before_the_transfer(target):
    listed = target.arrive("A")
    a = listed["release_id"]
    for path in target.store.incoming.joinpath(a).iterdir():
        path.unlink()
    target.store.incoming.joinpath(a).rmdir()
    assert target.stage(listed, check_mode=True)["changed"]
    target.store = Store(target.root, "m", listed)
    assert target.activate(a, check_mode=True)["changed"]
    assert target.in_service() == "fp32"


def test_a_second_release_replaces_the_first_and_it_can_come_back(target):
    a, b = target.release("A"), target.release("B")
    assert target.in_service() == b
    assert operations.query(target.store, True)["whole"] == [b, a]
    target.roll_back(a)
    assert target.in_service() == a


def test_revert_goes_back_to_what_was_before(target):
    first = target.arrive("A")
    target.stage(first)
    target.activate(first["release_id"])
    assert target.revert()["changed"]
    assert target.in_service() == "fp32" and target.config.read_text() == CONFIG
    assert not target.revert()["changed"]
    a = target.release("A")
    second = target.arrive("B")
    target.stage(second)
    target.activate(second["release_id"])
    target.revert(void=True, with_plan=False)
    assert target.in_service() == a
    with pytest.raises(ModelOpsError, match="void: no good"):
        target.activate(second["release_id"])
    assert target.activate(second["release_id"], unvoid=True)["changed"]


def test_rollback_voids_and_never_lands_on_a_void_release(target):
    a, b = target.release("A"), target.release("B")
    target.roll_back(void=True, reason="sounds wrong")
    assert target.in_service() == "fp32"
    assert not target.store.live[0].exists()
    assert target.store.load()["void"] == {b: "sounds wrong"}
    with pytest.raises(ModelOpsError, match="is void"):
        target.roll_back(b)
    assert target.roll_back(a)["changed"]
    assert target.in_service() == a


@pytest.mark.parametrize("to", ["0" * 16, "../../etc", "nonsense"])
def test_rollback_to_what_is_absent(target, to):
    target.release("A")
    with pytest.raises(ModelOpsError, match=r"no such complete release|not a release id"):
        target.roll_back(to)


def test_rollback_without_any_int8_file(target):
    a = target.release("A")
    for path in target.store.live:
        path.unlink()
    target.roll_back()
    assert target.in_service() == "fp32"
    with pytest.raises(ModelOpsError, match="complete"):
        target.roll_back(a)


def test_rollback_with_a_broken_state(target):
    target.release("A")
    target.store.state_file.write_text("{")
    assert "not usable" in operations.query(target.store, False)["problems"][0]
    listed = target.arrive("B")
    with pytest.raises(ModelOpsError, match="not usable"):
        target.stage(listed)
    config = target.plan_without_state()
    rollback.roll_back(target.store, "fp32", config, by="", reason="", void=False)
    assert target.in_service() == "fp32"
    target.stage(listed)
    target.activate(listed["release_id"])
    assert target.in_service() == listed["release_id"]


def test_a_flipped_byte_is_repaired_by_the_same_release(target):
    a = target.release("A")
    data = target.store.live[1]
    data.write_bytes(b"X" + data.read_bytes()[1:])
    assert operations.query(target.store, True)["whole"] == []
    listed = target.arrive("A")
    assert target.stage(listed)["changed"]
    assert target.activate(a)["changed"]
    assert target.in_service() == a
    assert operations.prune(target.store, 0, check_mode=False)["changed"]
    assert not list(target.store.releases.glob("damaged-*"))


def test_the_owners_own_int8_pair_is_kept(target):
    target.store.live[0].write_bytes(b"made by hand")
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    (kept,) = target.store.releases.glob("unmanaged-*")
    assert (kept / "m_int8.onnx").read_bytes() == b"made by hand"
    operations.prune(target.store, 0, check_mode=False)
    assert kept.exists()


@pytest.mark.parametrize("damage", ["missing", "changed", "link"])
def test_no_way_back_no_way_forward(target, damage):
    listed = target.arrive("A")
    target.stage(listed)
    data = target.root / "m.onnx.data"
    content = data.read_bytes()
    data.unlink()
    if damage == "changed":
        data.write_bytes(content[:-1] + b"X")
    if damage == "link":
        data.symlink_to("elsewhere")
    before = models.tree(target.home)
    with pytest.raises(ModelOpsError, match="way back"):
        target.activate(listed["release_id"])
    assert models.tree(target.home) == before


@pytest.mark.parametrize("place", ["live", "releases"])
def test_a_planted_link_is_refused(target, place, tmp_path):
    listed = target.arrive("A")
    target.stage(listed)
    if place == "live":
        target.store.live[1].symlink_to(tmp_path / "victim")
    else:
        target.store.releases.rename(tmp_path / "moved")
        target.store.releases.symlink_to(tmp_path / "moved")
    with pytest.raises(ModelOpsError, match="symbolic link"):
        target.activate(listed["release_id"])
    assert target.in_service() == "fp32"


def test_configuration_changed_by_hand_meanwhile(target):
    listed = target.arrive("A")
    target.stage(listed)
    config, owner = target.plan()
    target.config.write_text(CONFIG + "# by hand\n")
    with pytest.raises(ModelOpsError, match="changed while"):
        activation.activate(
            target.store, listed["release_id"], config, previous=owner, confirm_s=1, by=""
        )
    assert target.in_service() == "fp32"


def test_revert_without_a_controller_after_a_hand_edit(target):
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    target.config.write_text(target.config.read_text().replace("other: 1", "other: 2"))
    target.revert(with_plan=False)
    assert target.in_service() == "fp32"
    assert "other: 2" in target.config.read_text()


def test_mismatches_come_all_at_once(target):
    listed = target.arrive("A")
    incoming = target.store.incoming / listed["release_id"]
    (incoming / "m_int8.onnx").unlink()
    (incoming / "m_int8.onnx.data").write_bytes(b"short")
    with pytest.raises(ModelOpsError) as caught:
        target.stage(listed)
    assert caught.value.facts["mismatched"] == ["m_int8.onnx", "m_int8.onnx.data"]
    assert target.store.staged() == []


def test_prune_keeps_what_is_needed(target):
    a, b, c = (target.release(word) for word in "ABC")
    operations.prune(target.store, 1, check_mode=False)
    assert set(target.store.staged()) == {b, c}
    operations.prune(target.store, 0, check_mode=True)
    assert set(target.store.staged()) == {b, c}
    operations.prune(target.store, 0, check_mode=False)
    assert target.store.staged() == [c] and a != c


def test_mode_of_the_configuration_is_kept(target):
    target.config.chmod(0o640)
    target.release("A")
    assert target.config.stat().st_mode & 0o777 == 0o640
    assert target.store.texts.joinpath("before").stat().st_mode & 0o777 == 0o600


def interrupted_by_a_dead_run(target) -> tuple[str, str]:
    """A is good; B was activated and nobody validated it."""
    a = target.release("A")
    listed = target.arrive("B")
    target.stage(listed)
    target.activate(listed["release_id"])
    return a, listed["release_id"]


def test_what_nobody_validated_is_never_gone_back_to(target):
    a, _ = interrupted_by_a_dead_run(target)
    listed = target.arrive("C")
    target.stage(listed)
    target.activate(listed["release_id"])
    target.revert()
    assert target.in_service() == a


def test_every_change_undoes_an_interrupted_move_first(target, monkeypatch):
    target.release("A")
    b, c = target.arrive("B"), target.arrive("C")
    target.stage(b)
    calls = []

    def cut(source, dest):
        calls.append(dest)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rename(source, dest)

    from modelops.target import change

    rename = change.rename_durable
    monkeypatch.setattr(change, "rename_durable", cut)
    with pytest.raises(KeyboardInterrupt):
        target.activate(b["release_id"])
    monkeypatch.setattr(change, "rename_durable", rename)
    assert target.in_service() == "fp32"
    target.stage(c)
    assert target.store.load()["pending"] is None
    assert target.in_service() != "fp32"


def test_no_revert_to_fp32_that_is_gone(target):
    _, b = interrupted_by_a_dead_run(target)
    for name in FP32_FILES:
        (target.root / name).unlink()
    with pytest.raises(ModelOpsError, match="way back"):
        target.revert()
    assert "m_int8" in target.named()
    assert target.store.load()["history"][-1]["event"] == "revert failed"
    assert target.store.load()["active"] == b


@pytest.mark.parametrize("field", ["history", "pending", "before", "void"])
def test_a_state_edited_by_hand_does_not_stop_the_way_back(target, field):
    target.release("A")
    state = target.store.load()
    state[field] = "x"
    target.store.save(state)
    config = target.plan_without_state()
    rollback.roll_back(target.store, "fp32", config, by="", reason="", void=False)
    assert target.in_service() == "fp32"
    assert list(target.store.releases.glob("state.json.broken-*"))


def test_a_hand_edit_after_the_activation_survives_the_timer(target):
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    text = target.config.read_text().replace("# SARAi", "# SARAi, m_int8.onnx since today")
    target.config.write_text(text)
    target.revert(with_plan=False)
    assert target.config.read_text() == CONFIG.replace(
        "# SARAi", "# SARAi, m_int8.onnx since today"
    )


def test_no_commit_of_a_pair_that_is_not_whole(target):
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    target.store.live[1].unlink()
    with pytest.raises(ModelOpsError, match="not whole"):
        target.commit(listed["release_id"])


def test_a_foreign_manifest_is_not_staged(target):
    a, b = target.arrive("A"), target.arrive("B")
    incoming = target.store.incoming / a["release_id"]
    with pytest.raises(ModelOpsError, match="manifest is that of release"):
        operations.stage(target.store, a["release_id"], b, incoming, check_mode=False)


def test_the_owners_own_backup_is_not_written_over(target):
    own = target.config.with_name("sarai.yaml.bak")
    own.write_text("mine")
    target.release("A")
    assert own.read_text() == "mine"
