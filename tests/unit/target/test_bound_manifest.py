"""A release is what the controller knows: files and manifest forged together are found."""

from __future__ import annotations

import json
import os

import pytest
from modelops.base.errors import ModelOpsError
from modelops.model import declared
from modelops.pair import manifest
from modelops.target import hashed, operations
from modelops.target.store import Store
from target import Target, entry


@pytest.fixture
def target(tmp_path):
    return Target(tmp_path)


@pytest.fixture
def live(target):
    """A target with a release in service, and its manifest as the controller knows it."""
    listed = target.arrive("A")
    target.stage(listed)
    target.activate(listed["release_id"])
    target.commit(listed["release_id"])
    return target, listed


def forge(target: Target, listed: dict, **fields) -> dict:
    """Ruin the live pair, and let the manifest here say that it is right."""
    for path in target.store.live:
        path.write_bytes(b"forged" + path.read_bytes()[6:])
    artifacts = [entry(path.name, path.read_bytes()) for path in target.store.live]
    forged = listed | {"artifacts": artifacts, "release_id": manifest.release_id(artifacts)}
    write(target, listed["release_id"], forged | fields)
    return forged


def write(target: Target, release: str, listed: dict) -> None:
    (target.store.folder(release) / manifest.MANIFEST).write_bytes(manifest.dump(listed))


def known(target: Target, listed: dict) -> Store:
    return Store(target.root, "m", listed)


def test_an_id_is_that_of_its_folder(live):
    target, listed = live
    a = listed["release_id"]
    forged = forge(target, listed)
    found = operations.query(target.store, True)
    assert found["whole"] == []
    assert f"that of release {forged['release_id']}" in "".join(found["problems"])
    with pytest.raises(ModelOpsError, match="the folder of"):
        target.commit(a)
    target.roll_back()
    with pytest.raises(ModelOpsError, match="no such complete release"):
        target.roll_back("last_good")
    assert target.in_service() == "fp32"


@pytest.mark.parametrize("lied", ["golden", "source", "recipe", "nodes"])
def test_what_the_id_does_not_cover_is_bound_to_what_the_controller_knows(live, lied):
    target, listed = live
    a, right = listed["release_id"], listed.get(lied)
    lies = {
        "golden": entry("m.golden.npz", b"forged"),
        "source": [listed["source"][0] | {"sha256": "0" * 64}, *listed["source"][1:]],
        "recipe": {"quality": {}},
        "nodes": [{"node": "n", "form": "fp32"}],
    }
    write(target, a, listed | {lied: lies[lied]})
    store = known(target, listed)
    found = operations.query(store, True)
    assert found["whole"] == [] and found["lacking"] == []
    assert manifest.digest(listed) in "".join(found["problems"])
    target.store = store
    with pytest.raises(ModelOpsError, match="SHA-256"):
        target.commit(a)
    assert target.stage(listed)["changed"]
    assert operations.query(store, True)["whole"] == [a]
    assert store.manifest(a).get(lied) == right
    assert not target.stage(listed)["changed"] and not target.commit(a)["changed"]


def test_what_was_forged_together_is_sent_again(live):
    target, listed = live
    a = listed["release_id"]
    forge(target, listed, release_id=a)  # an id that does not follow from what it lists
    store = target.store = known(target, listed)
    found = operations.query(store, True)
    assert found["lacking"] == ["m_int8.onnx", "m_int8.onnx.data"] and a not in found["whole"]
    with pytest.raises(ModelOpsError, match=r"not complete.*Run quantize.yml again"):
        target.activate(a)
    with pytest.raises(ModelOpsError, match="missing"):
        target.stage(listed)
    assert target.stage(target.arrive("A"))["changed"]
    assert target.activate(a)["changed"] and target.in_service() == a
    assert not target.activate(a)["state"]["confirmed"] and target.commit(a)["changed"]


@pytest.mark.parametrize("fields", [{"live": None}, {"live": "0" * 16}])
def test_a_commit_wants_that_very_release_live(live, fields):
    target, listed = live
    target.store.save(target.store.load() | fields)
    with pytest.raises(ModelOpsError, match="the live release is"):
        target.commit(listed["release_id"])


@pytest.mark.parametrize("way", ["commit", "roll_back", "revert"])
def test_bytes_are_compared_where_sizes_are_right(live, way):
    target, listed = live
    a = listed["release_id"]
    if way != "commit":
        second = target.arrive("B")
        target.stage(second)
        target.activate(second["release_id"])
    data = (target.root if way == "commit" else target.store.folder(a)) / "m_int8.onnx.data"
    data.write_bytes(b"X" + data.read_bytes()[1:])
    if way == "revert":
        target.revert()
        assert target.in_service() == "fp32"
    else:
        with pytest.raises(ModelOpsError, match=r"SHA-256|not whole"):
            target.commit(a) if way == "commit" else target.roll_back(a)


def test_another_source_is_refused(target):
    listed = target.arrive("A")
    listed["source"] = [entry("other.onnx", b"fp32 graph")]
    with pytest.raises(ModelOpsError, match=r"made from other\.onnx, and FP32 is m\.onnx here"):
        target.stage(listed)
    with pytest.raises(ModelOpsError, match=r"other\.onnx"):
        known(target, listed)


def test_a_source_lists_what_the_graph_reads(target, monkeypatch):
    """One that leaves the weights out would have their SHA-256 compared with nothing."""
    listed = target.arrive("A")
    listed["source"] = listed["source"][:1]
    target.stage(listed)
    read = declared.Declared(8, {}, {}, files={"m.onnx.data": 1})
    monkeypatch.setattr(declared, "read", lambda path: read)
    with pytest.raises(
        ModelOpsError, match=r"from m\.onnx, and FP32 is m\.onnx, m\.onnx\.data here"
    ):
        target.activate(listed["release_id"])


def test_a_run_hashes_a_file_once(live, monkeypatch):
    target, listed = live
    a = listed["release_id"]
    monkeypatch.setattr(hashed, "SETTLED_NS", -(10**12))  # of the past, however new
    told = json.loads(json.dumps(operations.query(known(target, listed), True)["hashed"]))
    assert set(told) == {str(path) for path in target.store.live}
    read = []
    real = manifest.verify

    def verify(folder, entries):
        rows = list(entries)
        read.extend(row["name"] for row in rows if folder == target.root)
        return real(folder, rows)

    monkeypatch.setattr(manifest, "verify", verify)
    target.store = Store(target.root, "m", listed, told)
    assert not target.commit(a)["changed"] and read == []
    data = target.store.live[1]
    status, content = data.stat(), data.read_bytes()
    data.write_bytes(b"X" + content[1:])
    os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ModelOpsError, match="SHA-256"):
        target.commit(a)
    assert read == ["m_int8.onnx.data"]


def test_what_changed_a_moment_ago_is_hashed_again(live, monkeypatch):
    """A write within one tick of the kernel's clock leaves ctime as it is."""
    target, _ = live
    monkeypatch.setattr(hashed, "SETTLED_NS", 10**18)
    assert operations.query(target.store, True)["hashed"] == {}


def test_a_rollback_holds_a_release_against_what_the_controller_recorded(live):
    """It has no manifest of its own; the id does not cover where a release comes from."""
    target, listed = live
    release, other = listed["release_id"], target.release("B")
    right = {release: ["0" * 64, manifest.digest(listed)]}

    def back_to(release: str, **recorded: list[str]) -> str:
        target.store = Store(target.root, target.model, recorded=recorded)
        target.roll_back(release)
        return target.in_service()

    assert back_to(release, **right) == release and back_to(other, **right) == other
    path = target.store.folder(release) / manifest.MANIFEST
    path.write_bytes(manifest.dump(listed | {"source": [entry("m.onnx", b"another")]}))
    with pytest.raises(ModelOpsError, match="the one that was made has"):
        back_to(release, **right)
    assert target.in_service() == other
    assert back_to(release) == release, "a controller that has no record of it"
    assert back_to("fp32", **right) == "fp32"
