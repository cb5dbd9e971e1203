"""A target in a folder: FP32 pair, configuration, and releases to put on it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml
from modelops import config_values, manifest, release, yaml_edit
from modelops.store import Store

CONFIG = """\
# SARAi
audio_omni:
  enabled: true
  model_path: 'models/onnx/m.onnx'   # the audio model
  max_memory_mb: 4400
other: 1
"""
BLOCK = ("audio_omni",)
INT8 = {"model_path": "models/onnx/m_int8.onnx", "max_memory_mb": 1200}
FP32_FILES = {"m.onnx": b"fp32 graph", "m.onnx.data": b"fp32 weights"}


class Target:
    """The state of a target's disk, and short calls of the operations."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.root = folder / "models" / "onnx"
        self.root.mkdir(parents=True)
        self.config = folder / "config" / "sarai.yaml"
        self.config.parent.mkdir()
        self.config.write_text(CONFIG)
        for name, content in FP32_FILES.items():
            (self.root / name).write_bytes(content)
        self.store = Store(self.root, "m")
        self.pairs: dict[str, dict[str, bytes]] = {}

    def arrive(self, word: str) -> dict:
        """Put a pair into the incoming folder; returns its manifest."""
        files = {
            "m_int8.onnx": f"graph of {word}".encode(),
            "m_int8.onnx.data": f"weights of {word}".encode() * 50,
        }
        made = manifest.build(
            [entry(name, content) for name, content in files.items()],
            [entry(name, content) for name, content in FP32_FILES.items()],
            {}, [], {},
        )  # fmt: skip
        incoming = self.store.incoming / made["release_id"]
        incoming.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (incoming / name).write_bytes(content)
        self.pairs[made["release_id"]] = files
        return made

    def stage(self, listed: dict, check_mode: bool = False) -> dict:
        release_id = listed["release_id"]
        incoming = self.store.incoming / release_id
        return release.stage(self.store, release_id, listed, incoming, check_mode)

    def plan(self) -> tuple[dict, dict]:
        """What the controller plans: the option config, and the owner's values."""
        content = self.config.read_bytes()
        current = yaml_edit.read(content, BLOCK, INT8)
        named = current["model_path"]["value"]
        owner = current if named != INT8["model_path"] else self.store.load()["previous"]
        back = config_values.restoring(owner) if owner else {"model_path": "models/onnx/m.onnx"}
        config = {
            "path": str(self.config),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": None,
            "fp32": yaml_edit.plan(content, BLOCK, back),
            "int8": yaml_edit.plan(content, BLOCK, INT8),
        }
        return config, owner

    def plan_without_state(self) -> dict:
        """What the controller plans when the owner's values are not known."""
        content = self.config.read_bytes()
        back = {"model_path": "models/onnx/m.onnx", "max_memory_mb": 4400}
        return {
            "path": str(self.config),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": None,
            "fp32": yaml_edit.plan(content, BLOCK, back),
            "int8": [],
        }

    def activate(self, release_id: str, **options) -> dict:
        config, owner = self.plan()
        options = {"previous": owner, "confirm_s": 60, "by": "test"} | options
        return release.activate(self.store, release_id, config, **options)

    def commit(self, release_id: str) -> dict:
        return release.commit(self.store, release_id, "test", "pass", False)

    def revert(self, void: bool = False, with_plan: bool = True) -> dict:
        config = self.plan()[0] if with_plan else None
        return release.revert(self.store, config, by="test", reason="no good", void=void)

    def roll_back(self, to: str = "fp32", **options) -> dict:
        options = {"by": "test", "reason": "", "void": False} | options
        return release.roll_back(self.store, to, self.plan()[0], **options)

    def release(self, word: str) -> str:
        listed = self.arrive(word)
        self.stage(listed)
        self.activate(listed["release_id"])
        self.commit(listed["release_id"])
        return listed["release_id"]

    def named(self) -> str:
        """The model that the configuration names."""
        return yaml.safe_load(self.config.read_text())["audio_omni"]["model_path"]

    def in_service(self) -> str:
        """Which whole pair the configuration names: fp32, a release id, or an error.

        This is the invariant: at every instant it names one.
        """
        for name, content in FP32_FILES.items():
            assert (self.root / name).read_bytes() == content, "FP32 was touched"
        graph = self.home / self.named()
        found = {p.name: p.read_bytes() for p in (graph, graph.with_name(f"{graph.name}.data"))}
        if found == FP32_FILES:
            return "fp32"
        return next(release_id for release_id, files in self.pairs.items() if files == found)


def entry(name: str, content: bytes) -> dict:
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
