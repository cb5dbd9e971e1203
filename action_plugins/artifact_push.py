"""Runs artifact_push in the builder's background, in two steps: its key first, then the push."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.background import POLL_S, Background, has_ended

KEY_LIMIT_S = 60


class ActionModule(Background):
    """The module artifact_push: state started returns its public key, finished its result."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run one of the two steps; see the module's documentation."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if self._task.check_mode or args.get("state") not in ("started", "finished"):
            return result | self._execute_module(task_vars=task_vars)
        if args["state"] == "finished":
            return result | self._finish(args, task_vars)
        # The builder pushes to several targets at once: files of each one's own.
        place = f"{args.get('src')}/.push-{args.get('host')}-{args.get('port', 22)}"
        args |= {"public_key_file": f"{place}.pub", "progress_file": f"{place}.progress"}
        self._shell(f"rm -f {shlex.quote(args['public_key_file'])}")
        job = self._start(args, int(args.get("limit_s", 14400)), task_vars)
        if "ansible_job_id" not in job:
            return result | job
        look = f"cat {shlex.quote(job['results_file'])}; echo; cat {place}.pub 2>/dev/null"
        deadline = time.monotonic() + KEY_LIMIT_S
        while time.monotonic() < deadline:
            ended, key = (self._shell(look) + "\n\n").split("\n")[:2]
            if key.startswith("ssh-"):
                job["progress_file"] = args["progress_file"]
                return result | {"changed": True, "public_key": key.strip(), "job": job}
            if has_ended(ended):
                return result | self._fetch(job, task_vars)
            time.sleep(POLL_S)
        return result | {"failed": True, "msg": f"the push made no key within {KEY_LIMIT_S} s"}

    def _finish(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        job = args["job"]
        label = f"[{(task_vars or {}).get('inventory_hostname', '')}]"
        every_s, limit_s = float(args.get("progress_s", 5)), int(args.get("limit_s", 14400))
        files = job["results_file"], job["progress_file"]
        problem = self._watch(label, *files, every_s, limit_s)
        return {"failed": True, "msg": problem} if problem else self._fetch(job, task_vars)
