"""Runs artifact_push in the builder's background, in two steps: its key first, then the push."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.background import PATIENCE_S, PosixJob
from plugin_utils.bridge import Bridge, shown_s
from plugin_utils.windows_job import WindowsJob

# plugin_utils makes it importable
from modelops.execution import without_ansible  # isort: skip

KEY_LIMIT_S = 60  # background_key_limit_s: until the push has made its key


class ActionModule(Bridge):
    """The module artifact_push: state started returns its public key, finished its result."""

    def run_posix(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run one of the two steps on a Linux builder."""
        args = dict(self._task.args)
        if self._task.check_mode or args.get("state") not in ("started", "finished"):
            return super().run_posix(task_vars)
        every_s, limit_s = shown_s(args, without_ansible.load(self.module).MODULE["argument_spec"])
        patience_s = self.limit("background_patience_s", PATIENCE_S, task_vars)
        if args["state"] == "finished":
            job = PosixJob(self, args["job"], args["job"]["progress_file"], patience_s)
            label = f"[{(task_vars or {}).get('inventory_hostname', '')}]"
            problem = self.watch(label, job.look, every_s, limit_s, patience_s)
            return {"failed": True, "msg": problem} if problem else job.result(task_vars)
        # The builder pushes to several targets at once: files of each one's own.
        place = f"{args.get('src')}/.push-{args.get('host')}-{args.get('port', 22)}"
        args |= {"public_key_file": f"{place}.pub", "progress_file": f"{place}.progress"}
        self._low_level_execute_command(f"rm -f {shlex.quote(args['public_key_file'])}")
        started = self.start_job(limit_s, task_vars, module_args=args)
        if "ansible_job_id" not in started:
            return started
        job = PosixJob(self, started, args["progress_file"], patience_s)
        key_limit_s = self.limit("background_key_limit_s", KEY_LIMIT_S, task_vars)
        key = job.await_key(args["public_key_file"], key_limit_s)
        if key is None:
            return job.result(task_vars)
        return _begun(key, key_limit_s, {**started, "progress_file": args["progress_file"]})

    def run_windows(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run one of the two steps on a Windows builder."""
        if self._task.check_mode:
            return super().run_windows(params, task_vars)
        if params["state"] == "finished":
            return WindowsJob(self, params, task_vars, params["job"]["id"]).finish()
        job = WindowsJob.begin(self, params, task_vars)
        if not isinstance(job, WindowsJob):
            return job
        limit_s = self.limit("background_key_limit_s", KEY_LIMIT_S, task_vars)
        key = job.await_key(limit_s)
        if key is None:
            return job.finish()
        return _begun(key, limit_s, {"id": job.id})


def _begun(key: str, limit_s: float, job: dict[str, Any]) -> dict[str, Any]:
    if not key:
        return {"failed": True, "msg": f"the push made no key within {limit_s:g} s"}
    return {"changed": True, "public_key": key, "job": job}
