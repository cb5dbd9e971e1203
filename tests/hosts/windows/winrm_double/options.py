"""The options of the modules that are played, as their upstream sources declare them.

An option of a module that is not here is not played and is refused, whatever upstream would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .programs import UnsupportedError

_PATH = {"type": "path"}
_RUN = {
    "chdir": _PATH, "creates": _PATH, "removes": _PATH, "stdin": {"type": "str"},
    "output_encoding_override": {"type": "str"},
}  # fmt: skip
_THING = {"type": "path", "required": True, "aliases": ["dest", "name"]}
_MODES = ["query", "remote", "single"]
_HASHES = ["md5", "sha1", "sha256", "sha384", "sha512"]

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "win_ping": {"data": {"type": "str", "default": "pong"}},
    "win_stat": {
        "path": _THING,
        "get_checksum": {"type": "bool", "default": True},
        "get_size": {"type": "bool", "default": True},
        "checksum_algorithm": {"type": "str", "default": "sha1", "choices": _HASHES},
        "follow": {"type": "bool", "default": False},
    },
    "win_file": {
        "path": _THING,
        "state": {"type": "str", "choices": ["absent", "directory", "file", "touch"]},
    },
    "win_copy": {
        "src": _PATH,
        "dest": {"type": "path", "required": True},
        "backup": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": True},
        "remote_src": {"type": "bool", "default": False},
        "local_follow": {"type": "bool", "default": True},
        "decrypt": {"type": "bool", "default": True},
        "content": {"type": "str"},
        # What the action plugin of this name adds.
        "_copy_mode": {
            "type": "str",
            "default": "single",
            "choices": ["query", "remote", "single"],
        },
        "_original_basename": {"type": "str"},
        "files": {"type": "list"},
        "directories": {"type": "list"},
        "symlinks": {"type": "list"},
    },
    "win_command": {
        "_raw_params": {"type": "str"},
        "cmd": {"type": "str"},
        "argv": {"type": "list", "elements": "str"},
        **_RUN,
    },
    "win_shell": {
        "_raw_params": {"type": "str", "required": True},
        "executable": _PATH,
        "no_profile": {"type": "bool", "default": False},
        **_RUN,
    },
    "win_tempfile": {
        "path": {"type": "path", "default": "%TEMP%", "aliases": ["dest"]},
        "prefix": {"type": "str", "default": "ansible."},
        "state": {"type": "str", "default": "file", "choices": ["directory", "file"]},
        "suffix": {"type": "str"},
    },
    "slurp": {"src": {"type": "path", "required": True, "aliases": ["path"]}},
    "async_status": {
        "jid": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "status", "choices": ["status", "cleanup"]},
        "_async_dir": {"type": "path", "required": True},
    },
    "setup": {
        "gather_subset": {"type": "list", "elements": "str", "default": "all"},
        "gather_timeout": {"type": "int", "default": 10},
    },
}
ONE_OF = {"win_command": [["_raw_params", "argv", "cmd"]]}
# These take their arguments with Ansible.ModuleUtils.Legacy, which has words of its own.
LEGACY = {"win_file", "win_copy", "win_shell", "slurp", "async_status"}


def validate(module: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's options with their defaults.

    Raises:
        UnsupportedError: one is not played.
        ValueError: they are wrong, in the words of upstream.
    """
    given = {k: v for k, v in arguments.items() if not k.startswith("_ansible") and v is not None}
    spec = OPTIONS[module]
    known = {name for option in spec.values() for name in option.get("aliases", [])} | set(spec)
    if set(given) - known:
        raise UnsupportedError(f"the options {', '.join(sorted(set(given) - known))} of {module}")
    # A path means what the host makes of it, which is not for this system to say.
    plain = {
        name: {**option, "type": "str"} if option["type"] == "path" else option
        for name, option in spec.items()
    }
    rules = ONE_OF.get(module)
    validator = ArgumentSpecValidator(plain, mutually_exclusive=rules, required_one_of=rules)
    checked = validator.validate(given)
    if not checked.error_messages:
        return dict(checked.validated_parameters)
    if module in LEGACY:
        _refuse_legacy(spec, given)
    raise ValueError(checked.errors.msg)


def _refuse_legacy(spec: dict[str, dict[str, Any]], given: dict[str, Any]) -> None:
    for name, option in spec.items():
        value = next((given[n] for n in (name, *option.get("aliases", [])) if n in given), None)
        if option.get("required") and value is None:
            raise ValueError(f"Get-AnsibleParam: Missing required argument: {name}")
        choices = option.get("choices")
        if choices and value is not None and value not in choices:
            raise ValueError(
                f"Get-AnsibleParam: Argument {name} needs to be one of {','.join(choices)} but was"
                f" {value}."
            )
