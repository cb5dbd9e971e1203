"""Modules that Ansible has packed for one run of the tests are there for the next.

Ansible packs a module with all that it imports when it is first called, once a run. Its own cache
lies in a folder of the run; this makes it one for all runs of a session of tests, the folder that
MODELOPS_BUILT_MODULES names. Only what is packed is kept: each call runs as ever.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Links the cache before the first task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "built_modules"

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Begin a run."""
        cache = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
        cache.symlink_to(os.environ["MODELOPS_BUILT_MODULES"])
