"""What goes to somebody far away: bounded, without secrets, safe to unpack."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from modelops.base.errors import ModelOpsError
from modelops.diagnosis import archive, texts

CONFIG = "models:\n  api_token: hf_abcdefghijklmnop\n  audio_omni:\n    model_path: m.onnx\n"


def collected(tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "sarai.yaml"
    config.write_text(CONFIG)
    release = tmp_path / ".releases" / "m" / "0123456789abcdef"
    release.mkdir(parents=True)
    (release / "manifest.json").write_text("{}")
    return texts.collect(tmp_path, "m", "sarai", "none", config)


def test_a_target_tells_what_is_there_and_hides_secrets(tmp_path):
    found = collected(tmp_path)
    assert "model_path: m.onnx" in found["configuration.txt"]
    assert "hf_abcdefghijklmnop" not in "".join(found.values())
    assert found["manifest-0123456789abcdef.json"] == "{}"
    assert "not read" in found["state.json"]
    assert "MemTotal" in found["host.txt"] and "0123456789abcdef" in found["files.txt"]


def test_each_text_is_bounded(tmp_path):
    (tmp_path / "sarai.yaml").symlink_to(tmp_path / "big")
    (tmp_path / "big").write_text("a: 1\n" * 500_000)
    found = texts.collect(tmp_path, "m", "sarai", "none", tmp_path / "sarai.yaml")
    assert max(map(len, found.values())) == texts.LONGEST


def test_the_archive_holds_every_host_and_is_its_owners_alone(tmp_path):
    dest = tmp_path / "sarai-support.tar.gz"
    told = {"h1": {"a.txt": "uno"}, "../h2": {"b.txt": "password: dos"}}
    archive.write(dest, told)
    assert dest.stat().st_mode & 0o777 == 0o600
    with tarfile.open(dest) as opened:
        names = opened.getnames()
        hidden = opened.extractfile(names[0]).read()
    assert names == ["sarai-support/_._h2/b.txt", "sarai-support/h1/a.txt"]
    assert b"dos" not in hidden


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".ssh", "a\nb"])
def test_a_name_that_a_host_sent_leads_nowhere(tmp_path, name):
    with pytest.raises(ModelOpsError):
        archive.write(tmp_path / "s.tar.gz", {"h1": {name: "x"}})
    assert list(tmp_path.iterdir()) == []


def test_texts_are_taken_of_those_who_told():
    hosts = [
        {"inventory_hostname": "h1", "__diagnose_host": {"texts": {"a": "b"}}},
        {"inventory_hostname": "h2", "__diagnose_host": {"unreachable": True}},
        {"inventory_hostname": "win"},
    ]
    assert archive.texts(hosts) == {"h1": {"a": "b"}}
