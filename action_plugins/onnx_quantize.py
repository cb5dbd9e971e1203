"""Runs onnx_quantize in the host's background, and shows how far it is."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.bridge import Bridge


class ActionModule(Bridge):
    """The module onnx_quantize."""

    background = True
    shown = "dest"
