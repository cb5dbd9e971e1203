"""A target in a folder: FP32 pair, configuration, and releases to put on it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from modelops.config import values, yaml_edit
from modelops.pair import manifest
from modelops.target import activation, operations, rollback
from modelops.target.store import Store

CONFIG = """\
# SARAi
audio_omni:
  enabled: true
  model_path: 'models/onnx/m.onnx'   # the audio model
  max_memory_mb: 4400
other: 1
"""
_KNOWN: dict[Any, Any] = {}


def once(plan: Callable, *arguments: Any) -> Any:
    """What the controller plans of a text: reading YAML is slow, and the same few texts return."""
    key = plan, repr(arguments)
    if key not in _KNOWN:
        _KNOWN[key] = plan(*arguments)
    return copy.deepcopy(_KNOWN[key])


BLOCK = ("audio_omni",)
INT8 = {"model_path": "models/onnx/m_int8.onnx", "max_memory_mb": 1200}
FP32_FILES = {"m.onnx": b"fp32 graph", "m.onnx.data": b"fp32 weights"}


class Target:
    """The state of a target's disk, and short calls of the operations."""

    def __init__(
        self, folder: Path, model: str = "m", block: tuple = BLOCK, files: dict = FP32_FILES
    ) -> None:
        self.home, self.model, self.block, self.fp32 = folder, model, block, files
        self.int8 = INT8 | {"model_path": f"models/onnx/{model}_int8.onnx"}
        self.root = folder / "models" / "onnx"
        self.root.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config" / "sarai.yaml"
        self.config.parent.mkdir(exist_ok=True)
        if not self.config.exists():
            self.config.write_text(CONFIG)
        for name, content in files.items():
            (self.root / name).write_bytes(content)
        self.store = Store(self.root, model)
        self.pairs: dict[str, dict[str, bytes]] = {}

    def arrive(self, word: str, data: bool = True) -> dict:
        """Put a pair, or a graph alone, into the incoming folder; returns its manifest."""
        graph = f"{self.model}_int8.onnx"
        files = {graph: f"graph of {word}".encode()}
        if data:
            files[f"{graph}.data"] = f"weights of {word}".encode() * 50
        made = manifest.build(
            [entry(name, content) for name, content in files.items()],
            [entry(name, content) for name, content in self.fp32.items()],
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
        return operations.stage(self.store, release_id, listed, incoming, check_mode=check_mode)

    def plan(self) -> tuple[dict, dict]:
        """What the controller plans: the option config, and the owner's values."""
        content = self.config.read_bytes()
        current = once(yaml_edit.read, content, self.block, self.int8)
        named = current["model_path"]["value"]
        owner = current if named != self.int8["model_path"] else self.store.load()["previous"]
        fp32 = {"model_path": f"models/onnx/{self.model}.onnx"}
        back = values.restoring(owner) if owner else fp32
        config = {
            "path": str(self.config),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": None,
            "fp32": once(yaml_edit.plan, content, self.block, back),
            "int8": once(yaml_edit.plan, content, self.block, self.int8),
        }
        return config, owner

    def plan_without_state(self) -> dict:
        """What the controller plans when the owner's values are not known."""
        content = self.config.read_bytes()
        back = {"model_path": f"models/onnx/{self.model}.onnx", "max_memory_mb": 4400}
        return {
            "path": str(self.config),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": None,
            "fp32": once(yaml_edit.plan, content, self.block, back),
            "int8": [],
        }

    def activate(self, release_id: str, **options) -> dict:
        config, owner = self.plan()
        options = {"previous": owner, "confirm_s": 60, "by": "test"} | options
        return activation.activate(self.store, release_id, config, **options)

    def commit(self, release_id: str) -> dict:
        return activation.commit(
            self.store, release_id, by="test", verdict="pass", check_mode=False
        )

    def revert(self, void: bool = False, with_plan: bool = True) -> dict:
        config = self.plan()[0] if with_plan else None
        return activation.revert(self.store, config, by="test", reason="no good", void=void)

    def roll_back(self, to: str = "fp32", **options) -> dict:
        options = {"by": "test", "reason": "", "void": False} | options
        return rollback.roll_back(self.store, to, self.plan()[0], **options)

    def release(self, word: str) -> str:
        listed = self.arrive(word)
        self.stage(listed)
        self.activate(listed["release_id"])
        self.commit(listed["release_id"])
        return listed["release_id"]

    def named(self) -> str:
        """The model that the configuration names."""
        found = yaml.safe_load(self.config.read_text())
        for key in self.block:
            found = found[key]
        return found["model_path"]

    def in_service(self) -> str:
        """Which whole pair the configuration names: fp32, a release id, or an error.

        This is the invariant: at every instant it names one.
        """
        for name, content in self.fp32.items():
            assert (self.root / name).read_bytes() == content, "FP32 was touched"
        graph = self.home / self.named()
        data = graph.with_name(f"{graph.name}.data")
        found = {path.name: path.read_bytes() for path in (graph, data) if path.exists()}
        if graph.name in self.fp32:
            return "fp32"
        # A graph alone reads no data file, whatever lies beside it.
        return next(
            release_id
            for release_id, files in self.pairs.items()
            if files == {name: found.get(name) for name in files}
        )


def entry(name: str, content: bytes) -> dict:
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
