"""What every test shares."""

import os
from collections.abc import Iterator

import pytest
from examples import profile
from hypothesis import settings

# Before anything imports onnxruntime: its Linux wheels send telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Tests judge tasks by Ansible's own output; tests/playbooks/test_screen.py is about the project's.
os.environ.setdefault("ANSIBLE_STDOUT_CALLBACK", "default")
settings.load_profile(profile())


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Give the next test the umask of this one: a program's main() sets its own."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
