"""Programs of the project in a process of their own: through Ansible, and a quantizer's growth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def through_ansible(module: str, options: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """Run a module of library/ by `ansible localhost`, and return its result."""
    command = [
        *(sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", module),
        *("-a", json.dumps(options), *arguments),
        *("-e", f"ansible_python_interpreter={sys.executable}"),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_LIBRARY": str(ROOT / "library"),
        "ANSIBLE_MODULE_UTILS": str(ROOT / "module_utils"),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "json",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    play = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]
    result: dict[str, Any] = play["tasks"][0]["hosts"]["localhost"]
    return result


def growth(src: Path, dest: Path) -> int:
    """Quantize in a process of its own, and return the bytes by which its peak memory grows."""
    program = (
        "import sys; from pathlib import Path; import modelops.quantizer.quantize as q;"
        "from modelops.base.memory import peak_rss_bytes as rss; b = rss();"
        "q.quantize(Path(sys.argv[1]), Path(sys.argv[2]), q.Recipe()); print(rss() - b)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(src), str(dest)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "module_utils")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)
