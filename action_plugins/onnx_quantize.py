"""Shows on the controller how far onnx_quantize is, while it runs in the host's background."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.background import PATIENCE_S, PosixJob
from plugin_utils.bridge import Bridge


class ActionModule(Bridge):
    """The module onnx_quantize, with progress."""

    background = True

    def run_posix(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module; see its documentation for progress_s, limit_s and progress_file."""
        args = dict(self._task.args)
        try:
            every_s, limit_s = float(args.get("progress_s", 5)), int(args.get("limit_s", 21600))
        except (TypeError, ValueError):
            every_s = limit_s = 0  # the module says what is wrong with it
        if self._task.check_mode or self._task.async_val or every_s <= 0 or "dest" not in args:
            return super().run_posix(task_vars)
        if not args.get("progress_file"):
            folder, _, name = self._remote_expand_user(str(args["dest"])).rpartition("/")
            args["progress_file"] = f"{folder or '.'}/.{name}.progress"
        started = self.start_job(limit_s, task_vars, module_args=args)
        if "ansible_job_id" not in started:
            return started
        patience_s = self.limit("background_patience_s", PATIENCE_S, task_vars)
        job = PosixJob(self, started, args["progress_file"], patience_s)
        label = f"[{(task_vars or {}).get('inventory_hostname', '')}] {Path(args['dest']).name}"
        problem = self.watch(label, job.look, every_s, limit_s, patience_s)
        return {"failed": True, "msg": problem} if problem else job.result(task_vars)
