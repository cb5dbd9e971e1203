"""Runs service_health as Ansible does, and on a Windows host not at all."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.bridge import Bridge


class ActionModule(Bridge):
    """The module service_health."""

    posix_only = "it reads /proc."
