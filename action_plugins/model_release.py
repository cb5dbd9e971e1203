"""Runs model_release as Ansible does, and on a Windows host not at all."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.bridge import Bridge


class ActionModule(Bridge):
    """The module model_release."""

    posix_only = (
        "a release is for a Linux target, whose renames, locks and timers it relies on. Put"
        " this host into the group builder, not targets."
    )
