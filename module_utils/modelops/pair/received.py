"""What a host sends back, checked on the controller before anything is made of it.

Nobody is believed: a builder or a target may be in other hands, and a release id becomes a folder,
a key a line of authorized_keys, a name a path. Every action plugin passes the result of its module
through `checked`, so no role sees a value that was not looked at.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..base.errors import ModelOpsError
from ..base.host_text import line, plain, plain_values
from . import manifest, names, signed

Check = Callable[[Any], bool]

# What Ansible itself acts upon in a result: facts beat an inventory's variables, hosts and groups
# join the inventory, and the others stand for a task that did not run. None is a module's of ours.
MAGIC = (
    "ansible_facts", "ansible_stats", "add_host", "add_group", "results", "skipped", "unreachable",
    "ansible_included_var_files", "include", "include_args", "include_variables",
)  # fmt: skip
# The owner's own bytes, which go back into his files, and names of nodes, which the next run looks
# for. Each is checked, or made plain where it is shown.
EXACT = frozenset({"manifest", "previous"})
SHOWN = 120  # characters of a refused value
_KEY = re.compile(r"ssh-ed25519 ([A-Za-z0-9+/]{68})(?: [^\n\r]{0,200})?\n?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_KEY_BEGINS = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"  # RFC 8709, 4: the type, then 32 bytes
_LEVELS = ("ok", "advice", "problem")
_VERDICTS = ("pass", "fail", "inconclusive", "not_applicable")


def public_key(text: Any) -> str:
    """Return an ed25519 public key as `TYPE BASE64`, without its comment.

    Raises:
        ModelOpsError: it is anything else than one line of one such key.
    """
    found = _KEY.fullmatch(text) if isinstance(text, str) else None
    if found and base64.b64decode(found[1])[: len(_KEY_BEGINS)] == _KEY_BEGINS:
        return f"ssh-ed25519 {found[1]}"
    raise ModelOpsError(
        f"not one line of one ed25519 public key: {_short(text)}",
        remedy="No line was written, since a key is a login. See who controls this host.",
    )


def release_id(value: Any) -> str:
    """Return a release's id.

    Raises:
        ModelOpsError: it is something else, so a path of it could be any.
    """
    if _is_release(value):
        return str(value)
    raise ModelOpsError(
        f"not a release id (16 hex digits): {_short(value)}",
        remedy="playbooks/status.yml lists the releases.",
    )


def checked(module: str, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's result without what Ansible acts upon, plain and of the right shapes.

    Args:
        arguments: the module's own, for the model that the result must be about.

    Raises:
        ModelOpsError: every value that is none that the module sends.
    """
    sent = without_magic(result)
    wrong = [
        f"{name} is {_short(sent[name])}"
        for name, fits in {**_EVERY, **_MODULES.get(module, {})}.items()
        if sent.get(name) is not None and not fits(sent[name])
    ]
    wrong += _manifest_problems(sent, arguments)
    if not wrong:
        try:
            fine: dict[str, Any] = plain_values(sent, EXACT)
            return fine | {key: public_key(sent[key]) for key in ("public_key",) if sent.get(key)}
        except (ValueError, ModelOpsError) as error:
            wrong.append(str(error))
    raise ModelOpsError(
        f"the host answered what {module} never sends: {'; '.join(wrong)}",
        where=module,
        remedy="It was not used. See who controls this host, and look at its Python.",
    )


def _manifest_problems(sent: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the manifest that a module sent, if it sent one."""
    if (listed := sent.get("manifest")) is None:
        return []
    try:
        manifest.check(listed, "manifest", model_of(arguments))
    except ModelOpsError as error:
        return [f"{error.where}: {error.what}"]
    told, given = sent.get("release_id"), arguments.get("manifest") or {}
    if told not in (None, "", listed["release_id"]):
        return ["release_id is not that of the manifest"]
    if given.get("release_id", listed["release_id"]) != listed["release_id"]:
        return ["the manifest is not the one that was given"]
    return []


def without_magic(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result without the keys that Ansible acts upon."""
    return {
        key: value
        for key, value in result.items()
        if key not in MAGIC and not key.startswith("_ansible_")
    }


def model_of(arguments: Mapping[str, Any]) -> str:
    """Return the model that a module is called for, as its arguments tell; empty where none do."""
    if arguments.get("name"):
        return str(arguments["name"])
    if isinstance(listed := arguments.get("manifest"), Mapping):
        # A person may call his artifacts as he likes; only a release's have the name of its model.
        model = names.model_of(listed.get("artifacts", []))
        own = any(each["name"] == names.of(model).int8 for each in listed.get("artifacts", []))
        return model if own else ""
    dest = re.split(r"[\\/]", str(arguments.get("dest", "")))[-1]
    end = f"{names.INT8}{names.GRAPH}"
    return dest.removesuffix(end) if dest.endswith(end) else ""


def _short(value: Any) -> str:
    text = line(repr(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


# ------------------------------------------------------------------ shapes


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_said(value: Any) -> bool:
    """Tell of a bool, or of 1 and 0, which Ansible's own async_wrapper says."""
    return isinstance(value, int) and value in (0, 1)


def _is_any(value: Any) -> bool:  # noqa: ARG001 - a check like the others
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 4096 and value == plain(value).replace("\n", "")


def _is_base64(value: Any) -> bool:
    return isinstance(value, str) and bool(_BASE64.fullmatch(value)) and len(value) % 4 == 0


def _is_bytes(value: Any) -> bool:
    """Tell of a count of bytes: of a disk it may be more than any file has."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    """Tell of a number; one that is not finite comes as a word (see json_values)."""
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    return fine or value in ("nan", "inf", "-inf")


def _is_amount(value: Any) -> bool:
    """Tell of a number that is not negative, and finite."""
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    return fine and 0 <= value < 1 << 63


def _is_share(value: Any) -> bool:
    return _is_amount(value) and value <= 1


def _is_release(value: Any) -> bool:
    return isinstance(value, str) and bool(manifest.RELEASE_ID.fullmatch(value))


def _one_of(*values: str) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _or_none(fits: Check) -> Check:
    return lambda value: value is None or fits(value)


def _list_of(fits: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _dict_of(fits: Check, named: Check = _is_line) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(named(key) and fits(item) for key, item in value.items())
    )


def _fields(must: Mapping[str, Check], may: Mapping[str, Check] | None = None) -> Check:
    """Return a check of a dictionary: the fields that it must have, and may have beside others."""

    def fits(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and all(name in value and field(value[name]) for name, field in must.items())
            and all(field(value[name]) for name, field in (may or {}).items() if name in value)
        )

    return fits


def _is_entry(value: Any) -> bool:
    """Tell of a file's entry; an empty one stands for a file that check mode would make."""
    return value == {} or manifest.is_entry(value)


_FINDING = _fields(
    {"check": _is_text, "level": _one_of(*_LEVELS), "value": _is_text,
     "threshold": _is_text, "remedy": _is_text},
    {"id": _is_line},
)  # fmt: skip
_JUDGED = _fields(
    {"name": _is_line, "op": _one_of("<", "<=", ">", ">="), "threshold": _is_number,
     "figure": _or_none(_is_number), "required": _is_bool, "verdict": _one_of(*_VERDICTS),
     "note": _is_text, "changed_threshold": _is_bool},
    {"promised_threshold": _or_none(_is_number)},
)  # fmt: skip
_FIGURES = _fields(
    {},
    {"memory_over_time": _list_of(_list_of(_is_number)), "samples": _list_of(_is_number),
     "cpu": _fields({"model": _is_text, "cores": _is_bytes}, {"features": _list_of(_is_line)}),
     "providers": _list_of(_is_line), "versions": _dict_of(_is_line),
     "load_s": _is_number, "p50_s": _is_number, "finite": _is_bool, "repeatable": _is_bool,
     "peak_rss_bytes": _is_number, "rss_without_output_bytes": _is_number},
)  # fmt: skip
# Somebody may have edited the state, and the way back must not hang on that (see store.load): what
# stands there is compared and shown, and no path is made of it here.
_STATE = _fields(
    {"active": _is_text, "live": _or_none(_is_text), "last_good": _is_text,
     "confirmed": _is_bool, "previous": _dict_of(_is_any, _is_any),
     "void": _dict_of(_is_any, _is_any), "history": _list_of(_dict_of(_is_any, _is_any))},
)  # fmt: skip
_SERVED = _fields(
    {"model": _one_of("int8", "fp32", "unknown"), "proof": _is_line, "text": _is_text,
     "seen": _list_of(_is_text)},
)  # fmt: skip
# Its time is compared with the clock: a whole number, as a count is.
_LOCK = _fields({}, {"owner": _is_text, "process": _is_line, "expires": _is_bytes})

_SEEN: dict[str, Check] = {"count": _is_bytes, "share": _is_share}
_MAYBE = _or_none(_is_amount)
# See modelops.acceptance.figures.
_WATCHED = _fields({
    "probe": _fields({**_SEEN, "p50_s": _MAYBE, "moves": _is_bool, "asked": _is_bytes,
                      "fresh": _is_bool}),
    "requests": _fields({
        **_SEEN, "p50_s": lambda value: value == "inf" or _MAYBE(value), "moves": _is_bool}),
    "memory": _fields({**_SEEN, "p99_bytes": _MAYBE, "moves": _is_bool}),
    "cache": _fields({
        **_SEEN, "rate": _MAYBE, "low": _MAYBE, "high": _MAYBE, "asked": _MAYBE,
        "moves": _is_bool}),
    "journal": _fields({
        **_SEEN, "deaths": _dict_of(_is_bytes), "out_of_memory": _is_bytes,
        "restarts": _is_bytes}),
    "trend": _list_of(lambda row: _list_of(_MAYBE)(row) and len(row) == 3 and row[0] is not None),
})  # fmt: skip

# What every module may send, and what each one does.
_EVERY: dict[str, Check] = {
    "changed": _is_said, "failed": _is_said, "msg": _is_text, "reason": _is_line,
    "problems": _list_of(_is_text), "notes": _list_of(_is_text), "lock": _LOCK,
}  # fmt: skip
_MODULES: dict[str, dict[str, Check]] = {
    "acceptance_evaluation": {
        "answers": _list_of(_fields(
            {"file": _is_line, "text": _is_line, "emotion": _is_line, "problem": _is_line})),
    },
    "acceptance_figures": {
        "release": lambda value: value in ("", "fp32") or _is_release(value),
        "windows": _dict_of(_WATCHED), "damaged": _is_bytes,
    },
    "acceptance_report": {"text": _is_text},
    "artifact_copy": {
        "copied": _list_of(manifest.is_file_name), "moved": _list_of(manifest.is_file_name),
    },
    "artifact_manifest": {
        "release_id": _is_release, "folder": _is_line, "signature": signed.is_signature,
    },
    "artifact_push": {
        "public_key": _is_text, "sent": _list_of(manifest.is_file_name), "sent_bytes": _is_bytes,
        "job": _fields({}, dict.fromkeys(
            ("ansible_job_id", "results_file", "progress_file", "id"), _is_line)),
    },
    "builder_check": {"findings": _list_of(_FINDING)},
    "config_read": {"content": _or_none(_is_base64)},
    "host_check": {"findings": _list_of(_FINDING)},
    "host_diagnosis": {"findings": _list_of(_FINDING), "moved": _list_of(_is_text)},
    "host_lock": {"held": _fields({"path": _is_line, "name": _is_line, "run": _dict_of(_is_line)})},
    "model_release": {
        "kind": _one_of("", manifest.OTHER, *manifest.KINDS.values()), "state": _STATE,
        "whole": _list_of(_is_release), "lacking": _list_of(manifest.is_file_name),
        "hashed": _dict_of(_list_of(_is_any)),
        "moved": _list_of(_is_text), "free_bytes": _is_bytes, "written": _is_bool,
        "mismatched": _list_of(manifest.is_file_name), "serial": _is_bytes,
    },
    "onnx_compare": {
        "verdict": _one_of(*_VERDICTS), "measured": _is_bool, "judged": _list_of(_JUDGED),
        "reference": _FIGURES, "candidate": _FIGURES,
        "similarity_rows": _list_of(_fields({"output": _is_text, "sample": _is_bytes})),
    },
    "onnx_golden": {"golden": _is_entry},
    "onnx_quantize": {
        "release_id": _is_release, "golden": _is_entry, "folder": _is_line,
        "comparison": _dict_of(_is_any),
    },
    "python_venv": {
        "made": _is_bool,
        **dict.fromkeys(("installed", "removed", "packages", "lacking"), _dict_of(_is_line)),
    },
    "release_key": {
        "made": _is_bool, "signers": _is_text, "revoked": _is_text, "fingerprint": _is_line,
    },
    "release_report": {"text": _is_text},
    "release_sign": {"signature": signed.is_signature, "serial": signed.is_serial},
    "release_trust": {"serial": _is_bytes},
    "root_helper": {"findings": _list_of(_FINDING)},
    "service_answer": {
        "compared": _is_bool, "cosine": _is_number, "equal": _is_bool, "repeats": _is_bool,
        "problem": _is_text,
    },
    "service_health": {
        "healthy": _is_bool, "problem": _is_text, "rss_bytes": _is_bytes, "served": _SERVED,
        "host_memory": _fields({}, {"used": _is_bytes, "total": _is_bytes}),
        "unit": _fields({"load": _is_line, "active": _is_line}), "journal": _is_text,
    },
}  # fmt: skip
