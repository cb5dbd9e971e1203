#!/usr/bin/python
"""Make a virtual environment with exactly the pinned packages (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: python_venv
short_description: Make a virtual environment with exactly the pinned packages
description:
  - Makes the environment with the Python that runs this module, and installs what is pinned, each
    package verified by its SHA-256. Every installed file is compared with the package's own record;
    a package that lacks one, or has another one, is installed anew, and what is not pinned goes.
    An environment that is of another Python, or that pip cannot mend, is made anew; one that is
    right is left as it is.
  - It runs on Linux and, through the action plugin of the same name, on Windows.
version_added: "0.1.0"
options:
  python:
    description:
      - The environment's Python, for example V(C:\\SARAi_v2\\venv\\Scripts\\python.exe).
    type: path
    required: true
  requirements:
    description: The text of a requirements file of which each line has one version and its hashes.
    type: str
    required: true
  requirements_gpu:
    description: The same for a host with a GPU.
    type: str
  accelerator:
    description:
      - V(gpu) takes O(requirements_gpu), V(cpu) takes O(requirements), V(auto) the former where
        NVIDIA's driver lists a GPU.
    type: str
    choices: [auto, cpu, gpu]
    default: auto
  wheelhouse:
    description:
      - A folder of wheels on this host. With it no package index is asked. What it lacks is told
        in check mode, and refused otherwise before anything is touched.
    type: path
  index_url:
    description:
      - The package index, without a password in it; when it is not set, the one that the host's
        own pip is configured for.
    type: str
  limit_s:
    description: Seconds that all of it may take.
    type: int
    default: 1800
attributes:
  check_mode:
    description: It says what it would install and remove.
    support: full
  diff_mode:
    description: The packages that are installed and removed.
    support: full
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Make the builder's environment
  python_venv:
    python: C:\SARAi_v2\venv\Scripts\python.exe
    requirements: "{{ lookup('ansible.builtin.file', 'requirements/builder.txt') }}"
  vars:
    ansible_python_interpreter: C:\Program Files\Python312\python.exe
"""

RETURN = r"""
made:
  description: Whether the environment itself was made anew.
  returned: success
  type: bool
installed:
  description: The packages that were installed, with their versions.
  returned: success
  type: dict
removed:
  description: The packages that were removed, with their versions.
  returned: success
  type: dict
packages:
  description: All packages that are pinned for this host, with their versions.
  returned: success
  type: dict
lacking:
  description: Packages to be installed of which O(wheelhouse) has no wheel that is the pinned one.
  returned: success
  type: dict
gpu:
  description: Whether the packages for a GPU were taken.
  returned: success
  type: bool
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base.errors import ModelOpsError
from ansible.module_utils.modelops.environment.venv import Venv, wants_gpu
from ansible.module_utils.modelops.execution.module_result import conclude

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "python": {"type": "path", "required": True},
        "requirements": {"type": "str", "required": True},
        "requirements_gpu": {"type": "str"},
        "accelerator": {"type": "str", "choices": ["auto", "cpu", "gpu"], "default": "auto"},
        "wheelhouse": {"type": "path"},
        "index_url": {"type": "str"},
        "limit_s": {"type": "int", "default": 1800},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make the environment right."""
    gpu = bool(params["requirements_gpu"]) and wants_gpu(params["accelerator"])
    pins = params["requirements_gpu"] if gpu else params["requirements"]
    wheelhouse = Path(params["wheelhouse"]) if params["wheelhouse"] else None
    index_url = params["index_url"] or ""
    if re.match(r"\w+://[^/]*@", index_url):
        raise ModelOpsError(
            "the index's address has a password in it, which would be written down on the way",
            where="index_url",
            remedy="Put it into the host's own pip configuration, and leave index_url empty.",
        )
    venv = Venv(Path(params["python"]), pins, wheelhouse, index_url, params["limit_s"])
    done = venv.ensure(check_mode)
    lines = {sign: _lines(done[name]) for sign, name in (("+", "installed"), ("-", "removed"))}
    return {**done, "gpu": gpu, "diff": {"before": lines["-"], "after": lines["+"]}}


def _lines(packages: Mapping[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
