"""config_file: the owner's file keeps its rights, and is never lost, whatever stands in it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from modelops.base.errors import ModelOpsError
from modelops.config import replace
from modelops.target import activation, rollback
from target import CONFIG, Target

ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"


def acl(group: int, mask: int) -> bytes:
    """An ACL: the owner may read and write, user 1234 may read, others nothing.

    The bytes are those of linux/posix_acl_xattr.h: version 2, then tag, permissions and id of each.
    """
    no_id = 0xFFFFFFFF
    entries = [
        (1, 6, no_id),
        (2, 4, 1234),
        (4, group, no_id),
        (0x10, mask, no_id),
        (0x20, 0, no_id),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def rights(path: Path) -> tuple[int, int, int, dict[str, bytes]]:
    found = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return found.st_mode & 0o7777, found.st_uid, found.st_gid, attributes


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path / "home")


@pytest.fixture
def guarded(target: Target) -> Target:
    """A target whose configuration one more user may read, by an ACL, and the group may not."""
    target.config.chmod(0o600)
    os.setxattr(target.config, ACL, acl(group=0, mask=4))
    os.setxattr(target.config, "user.note", b"\x00mine\xff")
    assert target.config.stat().st_mode & 0o777 == 0o640  # the group's bits are those of the mask
    return target


def test_acl_and_attributes_are_kept_there_and_back(guarded: Target) -> None:
    before = rights(guarded.config)
    guarded.release("A")
    assert guarded.in_service() != "fp32"
    assert rights(guarded.config) == before
    backup = guarded.config.with_name("sarai.yaml.before-m_int8")
    assert rights(backup) == before
    assert backup.read_text() == CONFIG
    guarded.roll_back()
    assert rights(guarded.config) == before
    assert guarded.config.read_text() == CONFIG


def test_an_acl_of_the_folder_opens_nothing(target: Target) -> None:
    target.config.chmod(0o600)
    before = rights(target.config)
    os.setxattr(target.config.parent, DEFAULT_ACL, acl(group=6, mask=6))
    target.release("A")
    assert rights(target.config) == before
    assert rights(target.config.with_name("sarai.yaml.before-m_int8")) == before


def test_owner_and_special_bits_are_kept(target: Target) -> None:
    target.config.chmod(0o2640)
    if os.geteuid() == 0:
        os.chown(target.config, 1234, 4321)
        target.config.chmod(0o2640)
    before = rights(target.config)
    target.release("A")
    assert rights(target.config) == before


def test_an_attribute_that_cannot_be_kept_is_known_before_anything_moves(
    guarded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = guarded.arrive("A")
    guarded.stage(listed)
    before = {p: p.read_bytes() for p in guarded.home.rglob("*") if p.is_file()}

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(ModelOpsError, match=r"its attribute \S+ \(Operation not permitted\)"):
        guarded.activate(listed["release_id"])
    assert {p: p.read_bytes() for p in guarded.home.rglob("*") if p.is_file()} == before


def test_a_file_system_without_attributes(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", none)
    target.release("A")
    assert target.in_service() != "fp32"


# ------------------------------------------------------------------ nothing to plan on


def unreadable(target: Target) -> dict:
    return {"path": str(target.config), "sha256": "", "content": None, "unreadable": "line 3: ["}


def in_service_and_half_edited(target: Target) -> bytes:
    target.config.chmod(0o640)
    target.release("A")
    half = target.config.read_bytes() + b"new: [\n"
    target.config.write_bytes(half)
    return half


def the_one_aside(target: Target) -> Path:
    (aside,) = target.config.parent.glob("sarai.yaml.aside-*")
    return aside


def test_rollback_takes_the_stored_text_and_keeps_what_was_there(target: Target) -> None:
    half = in_service_and_half_edited(target)
    who = {"by": "test", "reason": "", "void": False}
    told = rollback.roll_back(target.store, "fp32", unreadable(target), check_mode=True, **who)
    assert target.config.read_bytes() == half
    done = rollback.roll_back(target.store, "fp32", unreadable(target), **who)
    assert len(told["moved"]) == len(done["moved"])
    assert target.in_service() == "fp32" and target.config.read_text() == CONFIG
    aside = the_one_aside(target)
    assert aside.read_bytes() == half and rights(aside) == rights(target.config)
    (note,) = done["notes"]
    assert "line 3: [" in note and str(aside) in note
    assert done["written"]
    # Now that FP32 is named there is nothing to go back from: the owner's file stays his.
    target.config.write_bytes(half)
    with pytest.raises(ModelOpsError, match=r"line 3: \["):
        rollback.roll_back(target.store, "fp32", unreadable(target), **who)
    assert target.config.read_bytes() == half


def test_revert_takes_the_stored_text_too(target: Target) -> None:
    first = target.release("A")
    listed = target.arrive("B")
    target.stage(listed)
    target.activate(listed["release_id"])
    half = target.config.read_bytes() + b"new: [\n"
    target.config.write_bytes(half)
    activation.revert(target.store, unreadable(target), by="test", reason="bad", void=True)
    assert target.in_service() == first
    assert the_one_aside(target).read_bytes() == half


def test_a_configuration_that_is_gone_comes_back_whole(target: Target) -> None:
    target.release("A")
    target.config.unlink()
    made = "audio_omni:\n  model_path: models/onnx/m.onnx\n"
    plan = {"path": str(target.config), "sha256": "", "content": made, "fp32": [], "int8": None}
    rollback.roll_back(target.store, "fp32", plan, by="test", reason="", void=False)
    assert target.config.read_text() == CONFIG


def test_a_plan_that_must_not_name_int8_names_only_fp32(target: Target) -> None:
    first = target.release("A")
    target.roll_back()
    plan = {**target.plan()[0], "int8": None}
    with pytest.raises(ModelOpsError, match="cannot be made to name the release"):
        rollback.roll_back(target.store, first, plan, by="test", reason="", void=False)
    assert target.in_service() == "fp32"


# ------------------------------------------------------------------ without a controller


@pytest.mark.parametrize(
    "line",
    [
        "model_path: models/onnx/m_int8.onnx",
        "model_path: ./models//onnx/m_int8.onnx  # not m_int8.onnx.data",
        "model_path: '/srv/models/onnx/m_int8.onnx'",
        'MODEL="${HOME}/models/onnx/m_int8.onnx"',
    ],
)
def test_the_name_is_replaced_in_every_spelling(line: str) -> None:
    text = f"# m_int8.onnx is small\n; m_int8.onnx\nx: am_int8.onnx\n{line}\ny: m_int8.onnx.bak\n"
    right = line.replace("onnx/m_int8.onnx", "onnx/m.onnx")
    found = replace.without_int8(text.encode(), "m", Path("f"))
    assert found.decode() == text.replace(line, right)


def test_two_places_are_for_a_person() -> None:
    text = b"a: m_int8.onnx\n# m_int8.onnx\nb: m_int8.onnx\n"
    with pytest.raises(ModelOpsError, match=r"several places \(lines 1, 3\)"):
        replace.without_int8(text, "m", Path("f"))
