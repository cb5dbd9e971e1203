"""Shows on the controller how far onnx_quantize is, while it runs in the host's background."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.background import Background


class ActionModule(Background):
    """The module onnx_quantize, with progress."""

    _supports_async = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module; see its documentation for progress_s, limit_s and progress_file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        try:
            every_s, limit_s = float(args.get("progress_s", 5)), int(args.get("limit_s", 21600))
        except (TypeError, ValueError):
            every_s = limit_s = 0  # the module says what is wrong with it
        if self._task.check_mode or self._task.async_val or every_s <= 0 or "dest" not in args:
            asynchronous = bool(self._task.async_val)
            return result | self._execute_module(task_vars=task_vars, wrap_async=asynchronous)
        if not args.get("progress_file"):
            folder, _, name = self._remote_expand_user(str(args["dest"])).rpartition("/")
            args["progress_file"] = f"{folder or '.'}/.{name}.progress"
        job = self._start(args, limit_s, task_vars)
        if "ansible_job_id" not in job:
            return result | job
        label = f"[{(task_vars or {}).get('inventory_hostname', '')}] {Path(args['dest']).name}"
        files = job["results_file"], args["progress_file"]
        problem = self._watch(label, *files, every_s, limit_s)
        if problem:
            return result | {"failed": True, "msg": problem}
        return result | self._fetch(job, task_vars)
