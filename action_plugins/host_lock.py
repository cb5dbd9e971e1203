"""Runs host_lock as Ansible does, and on a Windows host over the bridge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.bridge import Bridge

from modelops.execution import controller  # isort: skip - the bridge makes it importable


class ActionModule(Bridge):
    """The module host_lock; of a run of this controller it knows whether it is dead."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module, once more where the run that holds the lock is dead."""
        result = super().run(tmp, task_vars)
        holder = str((result.get("lock") or {}).get("process", ""))
        if not result.get("failed") or not controller.is_dead(holder):
            return result
        self._task.args = {**self._task.args, "dead": holder}
        return super().run(tmp, task_vars)
