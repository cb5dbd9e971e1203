"""The options that several modules share, as parts of an argument_spec.

What they mean stands in doc_fragments/, under the same names: Ansible reads documentation without
running the module, so that cannot be made of these. A test holds both equal.
"""

from __future__ import annotations

from typing import Any

Options = dict[str, dict[str, Any]]

# doc_fragments/measuring.py: of every module that runs models (measuring.session.Setup)
MEASURING: Options = {
    "seed": {"type": "int", "default": 0},
    "ranges": {"type": "dict", "default": {}},
    "shapes": {"type": "dict", "default": {}},
    "inputs": {"type": "path"},
    "session_options": {"type": "dict", "default": {}},
    "timeout_s": {"type": "float", "default": 600},
    "work_dir": {"type": "path"},
}
SESSION: Options = {
    "providers": {"type": "list", "elements": "str", "default": ["CPUExecutionProvider"]},
    "threads": {"type": "int", "default": 0},
}
SAMPLES: Options = {"samples": {"type": "int", "default": 2}}
# doc_fragments/progress.py: of every module whose action plugin shows how far it is
PROGRESS: Options = {
    "progress_s": {"type": "float", "default": 5},
    "limit_s": {"type": "int", "default": 21600},
    "progress_file": {"type": "path"},
}
# doc_fragments/trust.py: of every module that asks a target whether it lets a release in
TRUST: Options = {
    "signature": {"type": "str", "default": ""},
    "require_signature": {"type": "bool", "default": False},
    "replay": {"type": "str", "default": ""},
    "trust_dir": {"type": "path", "default": "/etc/modelops"},
    "serials_dir": {"type": "path", "default": "/var/lib/modelops"},
}
