#!/usr/bin/python
"""Check what only a builder must have (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: builder_check
short_description: Check what only a builder must have
description:
  - Looks at the GPU, at what onnxruntime really uses in a session, at the targets' SSH servers and
    at the source of the packages. On Windows also at its version, its memory, the limits of a
    WinRM shell, long paths and the antivirus.
  - Nothing of the project listens on a builder, and what it opens are connections to the targets'
    SSH servers, so no other port is looked at.
  - It returns a row for each, as M(host_check) does. It never fails for what it finds and never
    changes anything. Each call to the outside has a limit.
version_added: "0.1.0"
options:
  environment:
    description: The Python that has the packages. It need not be there yet.
    type: path
    required: true
  folder:
    description: The folder of the models.
    type: path
    required: true
  model:
    description: The graph file of the FP32 model, whose IR version and opsets a session must run.
    type: path
  ssh:
    description:
      - The targets, each with C(name), C(host) and C(port) as this host reaches it, and C(needed),
        which makes one that does not answer a problem.
    type: list
    elements: dict
    default: []
  packages:
    description:
      - V(kept) when nobody installs packages here, V(whole) when all are there, V(lacking) when
        some must be installed, which makes a source that cannot be reached a problem.
    type: str
    choices: [kept, whole, lacking]
    default: kept
  index_url:
    description: The package index; without it the one that the host's own pip is configured for.
    type: str
  wheelhouse:
    description: A folder of wheels on this host, instead of an index. It need not be there yet.
    type: path
  wheels:
    description: How many wheels the controller has for O(wheelhouse).
    type: int
    default: 0
  gpu_required:
    description: Whether FP32 must run on a GPU. Otherwise what is wrong with it is advice.
    type: bool
    default: false
  gpu_memory:
    description: Bytes of memory that the GPU needs for FP32.
    type: int
    default: 6500000000
  memory:
    description: Bytes of memory that must be available to quantize, on Windows.
    type: int
    default: 500000000
  memory_installed:
    description: Bytes of memory with which comparing with FP32 is comfortable, on Windows.
    type: int
    default: 24000000000
  windows_build:
    description: The oldest build of Windows.
    type: int
    default: 17763
  windows_over:
    description:
      - Over what Ansible reaches a Windows host. The limits of a WinRM shell are looked at with
        V(winrm) alone.
    type: str
    choices: [winrm, ssh]
    default: winrm
  winrm_memory_mb:
    description: The least MaxMemoryPerShellMB.
    type: int
    default: 512
  winrm_processes:
    description: The least MaxProcessesPerShell.
    type: int
    default: 10
  winrm_shells:
    description: The least MaxShellsPerUser.
    type: int
    default: 5
  call_limit_s:
    description: Seconds that each program may take that is asked.
    type: float
    default: 60.0
  connect_limit_s:
    description: Seconds within which a target or the index must answer.
    type: float
    default: 5.0
attributes:
  check_mode:
    description: It only looks.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Look at the builder
  builder_check:
    environment: C:\SARAi_v2\venv\Scripts\python.exe
    folder: C:\SARAi_v2\models\onnx
    ssh:
      - {name: agi1, host: agi1.home.arpa, port: 22, needed: true}
"""

RETURN = r"""
findings:
  description: A row a check, with check, level (ok, advice or problem), value, threshold, remedy.
  returned: success
  type: list
  elements: dict
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.preflight.builder import check_builder

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "environment": {"type": "path", "required": True},
        "folder": {"type": "path", "required": True},
        "model": {"type": "path"},
        "ssh": {"type": "list", "elements": "dict", "default": []},
        "packages": {"type": "str", "choices": ["kept", "whole", "lacking"], "default": "kept"},
        "index_url": {"type": "str"},
        "wheelhouse": {"type": "path"},
        "wheels": {"type": "int", "default": 0},
        "gpu_required": {"type": "bool", "default": False},
        "gpu_memory": {"type": "int", "default": 6500000000},
        "memory": {"type": "int", "default": 500000000},
        "memory_installed": {"type": "int", "default": 24000000000},
        "windows_build": {"type": "int", "default": 17763},
        "windows_over": {"type": "str", "choices": ["winrm", "ssh"], "default": "winrm"},
        "winrm_memory_mb": {"type": "int", "default": 512},
        "winrm_processes": {"type": "int", "default": 10},
        "winrm_shells": {"type": "int", "default": 5},
        "call_limit_s": {"type": "float", "default": 60.0},
        "connect_limit_s": {"type": "float", "default": 5.0},
    },
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:  # noqa: ARG001
    """Look at the builder; check mode is no different."""
    return {"changed": False, "findings": check_builder(params)}


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
