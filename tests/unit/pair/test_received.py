"""What a host sends is refused or made plain before a path, a key line or a page is made of it."""

from __future__ import annotations

import base64
import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest, received

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
MODEL = "m"


def entry(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "size": 7, "sha256": "0a" * 32, **changes}


def listed(*artifacts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A manifest whose id follows from what it lists, as a forger would make it."""
    files = list(artifacts) or [entry("m_int8.onnx"), entry("m_int8.onnx.data")]
    nodes = [{"node": "n", "op": "MatMul", "form": "fp32", "reason": "small"}]
    source = [entry("m.onnx"), entry("m.onnx.data")]
    made = {
        "schema": manifest.SCHEMA, "artifacts": files, "source": source, "recipe": {},
        "nodes": nodes, "versions": {}, "golden": entry("m.golden.npz"),
    }  # fmt: skip
    return made | {"release_id": manifest.release_id(files)} | changes


def quantized(**changes: Any) -> dict[str, Any]:
    sent = listed()
    return {"changed": True, "manifest": sent, "release_id": sent["release_id"], **changes}


def checked(module: str, result: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    return received.checked(module, arguments or {"dest": "/x/m_int8.onnx"}, result)


def test_what_the_quantizer_sends_passes():
    sent = quantized(notes=["a"], golden=entry("m.golden.npz"), comparison={"cosine_min": 0.99})
    assert checked("onnx_quantize", sent) == sent


@given(st.text(max_size=20) | st.from_regex(r"[0-9a-f]{16}\n?"))
def test_an_id_is_16_hex_digits_and_nothing_else(text):
    if re.match(r"[0-9a-f]{16}\Z", text):
        assert received.release_id(text) == text
        return
    for module, result in (
        ("onnx_quantize", quantized(release_id=text)),
        ("artifact_manifest", quantized(release_id=text)),
        ("onnx_quantize", quantized(manifest=listed(release_id=text))),
        ("model_release", {"whole": [text]}),
        ("model_release", {"lacking": [f"/{text}"]}),
    ):
        with pytest.raises(ModelOpsError):
            checked(module, result)
    with pytest.raises(ModelOpsError):
        received.release_id(text)


@pytest.mark.parametrize("value", ["../../victim", "0" * 16 + "\n", "A" * 16, 0, None, ["0" * 16]])
def test_an_id_that_could_lead_elsewhere_is_refused(value):
    with pytest.raises(ModelOpsError, match="not a release id"):
        received.release_id(value)


def test_an_id_is_that_of_the_manifest_beside_it():
    with pytest.raises(ModelOpsError, match="not that of the manifest"):
        checked("artifact_manifest", quantized(release_id="0" * 16))


NAMES = [
    "../m_int8.onnx", "/etc/passwd", "..", ".ssh", "-rf", "a\nb", "m_int8.onnx\n", "m\u202e.onnx",
    "a:b", "a\\b", "", "x" * 300, 1, None, "m.onnx", "other_int8.onnx", "authorized_keys",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("group", ["artifacts", "golden"])
def test_files_are_those_of_the_model(group, name):
    if group == "golden":
        sent = listed(golden=entry(name))
    else:
        sent = listed(entry("m_int8.onnx"), entry(name)) if isinstance(name, str) else listed()
        if not isinstance(name, str):
            sent["artifacts"][1]["name"] = name
    with pytest.raises(ModelOpsError, match="manifest"):
        checked("onnx_quantize", quantized(manifest=sent, release_id=sent["release_id"]))


@pytest.mark.parametrize("name", NAMES[:14])
def test_names_of_the_source_are_plain_file_names(name):
    with pytest.raises(ModelOpsError, match="source"):
        manifest.check(listed(source=[entry(name)]))


@pytest.mark.parametrize(
    "changes",
    [
        *({"size": size} for size in (True, False, "7", 7.0, -1, 1 << 41, None, [7])),
        *({"sha256": digest} for digest in ("0A" * 32, "0a" * 32 + "\n", "0a" * 31, int("1" * 64))),
    ],
)
@pytest.mark.parametrize("group", ["artifacts", "source", "golden"])
def test_sizes_are_integers_and_hashes_64_digits(group, changes):
    name = {"artifacts": "m_int8.onnx", "source": "m.onnx", "golden": "m.golden.npz"}[group]
    wrong = entry(name, **changes)
    sent = listed(wrong) if group == "artifacts" else listed(
        **{group: wrong if group == "golden" else [wrong]}
    )  # fmt: skip
    with pytest.raises(ModelOpsError, match="size or sha256"):
        checked("onnx_quantize", quantized(manifest=sent, release_id=sent["release_id"]))
    if group == "golden":
        with pytest.raises(ModelOpsError, match=r"golden is|64 bits"):
            checked("onnx_golden", {"golden": wrong})


@pytest.mark.parametrize("nodes", ["x", {}, [1], [{"form": ["fp32"]}], [{"reason": None}]])
def test_nodes_are_texts(nodes):
    with pytest.raises(ModelOpsError, match="nodes"):
        manifest.check(listed(nodes=nodes))


@given(st.text(max_size=100))
def test_no_line_is_made_of_what_is_no_key(text):
    for sent in (text, KEY + "\n" + text + "x", f"{KEY} {text}\n{KEY}", KEY[:-1] + text):
        try:
            said = received.public_key(sent)
        except ModelOpsError:
            continue
        assert re.match(r"ssh-ed25519 [A-Za-z0-9+/]{68}\Z", said)
        assert sent.startswith(said) and sent.split("\n")[1:] in ([], [""])


@pytest.mark.parametrize(
    "key",
    [
        f"{KEY}\n{KEY}", f"{KEY}\r{KEY}", f"{KEY} x\nssh-rsa AAAA", f'command="sh" {KEY}', "",
        "ssh-rsa " + KEY.split()[1], "ssh-ed25519 " + "A" * 68, KEY + "A", None, [KEY],
    ],
)  # fmt: skip
def test_a_key_is_one_line_of_one_ed25519_key(key):
    with pytest.raises(ModelOpsError, match="not one line of one ed25519"):
        received.public_key(key)
    if key:
        with pytest.raises(ModelOpsError):
            checked("artifact_push", {"public_key": key, "job": {}})


def test_the_comment_of_a_key_is_nobodys():
    sent = {"public_key": f"{KEY} from=\u202e", "job": {"id": "1"}}
    assert checked("artifact_push", sent)["public_key"] == KEY
    assert received.public_key(f"{KEY} root@host\n") == KEY


def test_what_ansible_acts_upon_goes():
    magic = {name: {"report_dir": "/x"} for name in received.MAGIC}
    own = {"_ansible_no_log": False, "_ansible_delegated_vars": {}, "_ansible_notify": ["x"]}
    assert checked("host_check", {"changed": False, **magic, **own}) == {"changed": False}


GOOD: dict[str, dict[str, Any]] = {
    "model_release": {
        "state": {"active": "fp32", "live": None, "last_good": "fp32", "confirmed": True,
                  "void": {}, "previous": {"k": "\u202e"}, "history": [{"release": "fp32"}]},
        "whole": ["0" * 16], "lacking": ["m_int8.onnx"], "hashed": {"/x": [1, "a"]},
        "problems": [], "free_bytes": 10**14, "moved": [], "notes": [], "written": True,
    },
    "config_read": {"content": "YTogMQ=="},
    "host_check": {
        "findings": [{"id": "", "check": "c", "level": "ok", "value": "v", "threshold": "t",
                      "remedy": ""}],
    },
    "onnx_compare": {
        "verdict": "pass", "measured": True, "candidate": {"load_s": 1.0, "finite": True},
        "judged": [{"name": "mse", "op": "<", "threshold": 1, "figure": "nan", "required": True,
                    "verdict": "fail", "note": "", "changed_threshold": False, "spread": None}],
    },
    "service_health": {
        "healthy": True, "unit": {"load": "loaded", "active": "active"}, "rss_bytes": 1,
        "served": {"model": "int8", "proof": "open", "text": "t", "seen": []},
    },
    "service_answer": {"compared": True, "cosine": 1.0, "equal": True, "problem": ""},
    "host_lock": {"held": {"path": "/x", "name": "m", "run": {"run": "t"}}},
    "python_venv": {"lacking": {"numpy": "2.0"}, "made": False},
    "artifact_copy": {"copied": ["m_int8.onnx"], "moved": []},
}  # fmt: skip


@pytest.mark.parametrize("module", GOOD)
def test_what_modules_send_passes_as_it_is(module):
    assert checked(module, GOOD[module]) == GOOD[module]


def test_the_way_back_does_not_hang_on_a_state_that_somebody_edited():
    state = {
        "active": "?\n", "live": "mine", "last_good": "", "confirmed": False, "void": {"x": 5},
        "previous": {}, "history": [{"release": 1, "event": None, "at": 2.5}],
    }  # fmt: skip
    assert checked("model_release", {"state": state})["state"] == state


def test_the_time_of_a_lock_is_a_whole_number():
    """The controller compares it with its clock."""
    lock = {"owner": "o", "process": "", "expires": 1 << 60}
    assert checked("model_release", {"lock": lock}) == {"lock": lock}
    for expires in ("soon", "nan", 1.5, True, -1):
        with pytest.raises(ModelOpsError, match="lock is"):
            checked("model_release", {"lock": lock | {"expires": expires}})


def wrong_values(value: Any) -> Any:
    """Return values of another kind than this one."""
    kinds = ["../x\n", 1 << 70, {"x": 1}, ["x"], True, 3.5]
    return [kind for kind in kinds if type(kind) is not type(value)]


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, sent in GOOD.items() for n in sent])
def test_a_value_of_another_kind_is_refused(module, name):
    refused = 0
    values = wrong_values(GOOD[module][name])
    for value in values:
        sent = copy.deepcopy(GOOD[module]) | {name: value}
        try:
            checked(module, sent)
        except ModelOpsError as error:
            refused += 1
            assert module in str(error) and "\n" not in str(error)
    # A text may stand for a text with one fault, an integer for a float.
    assert refused >= len(values) - 1


def test_every_wrong_value_is_told_at_once():
    with pytest.raises(ModelOpsError) as refused:
        checked("model_release", {"whole": ["x"], "free_bytes": True, "written": "yes"})
    assert all(name in str(refused.value) for name in ("whole", "free_bytes", "written"))


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers() | st.floats(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_no_answer_breaks_the_check(value):
    for module in (*GOOD, "onnx_quantize", "artifact_manifest", "artifact_push", "onnx_golden"):
        for name in ("manifest", "public_key", "msg", "golden", "state", "judged", "findings"):
            try:
                said = checked(module, {name: value})
            except ModelOpsError:
                continue
            assert set(said) <= {name}


def test_a_persons_own_pair_may_be_called_otherwise():
    """A release's files have the names of their model; whoever asks about another pair names it."""
    own = listed(entry("m.onnx"), entry("m.onnx.data"), golden=None)
    sent = {"manifest": own, "release_id": own["release_id"]}
    assert received.checked("artifact_manifest", {"manifest": own}, sent)["manifest"] == own
    other = listed(entry("m.onnx"), golden=None)
    sent = {"manifest": other, "release_id": other["release_id"]}
    with pytest.raises(ModelOpsError, match="not the one that was given"):
        received.checked("artifact_manifest", {"manifest": own}, sent)
