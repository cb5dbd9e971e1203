"""The action of the module of this name: see plugin_utils/actions.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugin_utils.bridge import Bridge as ActionModule  # noqa: F401 - Ansible looks for this name
