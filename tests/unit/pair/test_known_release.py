"""Releases that the controller knows, by the SHA-256 of their manifests."""

from __future__ import annotations

from modelops.pair import manifest
from modelops.pair.known_release import line, of
from target import entry


def test_each_manifest_of_a_release_is_known():
    artifacts, source = [entry("m_int8.onnx", b"a")], [entry("m.onnx", b"b")]
    first = manifest.build(artifacts, source, {}, [], {})
    later = manifest.build(artifacts, source, {"samples": 5}, [], {})
    text = f"{line(first)}\nnonsense\n{line(later)} \n{line(later)}\n"
    assert of(text) == {first["release_id"]: [manifest.digest(first), manifest.digest(later)]}
    assert of("") == {}
