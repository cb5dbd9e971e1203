"""WinRM's faults are told by their number, whatever language Windows speaks."""

from __future__ import annotations

import pytest
from modelops.preflight import unreachable, wsman_fault
from winrm.exceptions import WinRMTransportError, WSManFaultError

SHELLS = "No más de 30 shells"


def fault(code: int | None, reason: str, subcode: str | None = None) -> str:
    """Return the text of the error that pywinrm makes of a fault."""
    message = "Bad HTTP response returned from server. Code 500"
    return str(WSManFaultError(500, message, "", reason, "s:Sender", subcode, code))


@pytest.mark.parametrize(
    ("code", "english", "spanish", "what"),
    [
        (5, "Access is denied. ", "Acceso denegado. ", "does not let him use WinRM"),
        (2147942405, "Access is denied. ", "Acceso denegado. ", "does not let him use WinRM"),
        (170, "The requested resource is in use.", "El recurso está en uso.", "still busy"),
        (1460, "The timeout period expired.", "El tiempo expiró.", "ready in its own time"),
        (
            2150858843,
            "The request contained invalid selectors for the resource.",
            "Selectores no válidos para el recurso.",
            "the shell is gone",
        ),
        (2150859173, "maximum number of 30 concurrent shells", SHELLS, "open no more shells"),
        (2150859174, "maximum number of concurrent operations", "x", "no more operations"),
        (1816, "Not enough quota is available", "No hay suficiente cuota", "no more processes"),
    ],
)
def test_each_number_has_its_cause_and_its_remedy(code, english, spanish, what):
    told = set()
    for reason in (english, spanish):
        psrp = f"Received a WSManFault message. (Code: {code}, Machine: pc, Reason: {reason})"
        quoted = fault(code, reason).replace(f": {code}", f": '{code}'")
        for said in (fault(code, reason), quoted, psrp, f"ntlm: {fault(code, reason)}"):
            text = unreachable.explain(f"WSManFaultError: {said}", "pc")
            cause, _, rest = text.partition(". ")
            assert what in cause and said.split()[0] in rest
            told.add(text.partition(" It was said: ")[0])
    assert len(told) == 1 and len(told.pop()) > 60


@pytest.mark.parametrize("negative", [-2147024891])
def test_a_number_may_come_with_a_sign(negative):
    assert wsman_fault.find(fault(negative, "?")) is wsman_fault.FAULTS[5]


@pytest.mark.parametrize(
    ("subcode", "code"), [("w:AccessDenied", 5), ("w:InvalidSelectors", 2150858843)]
)
def test_without_a_number_the_name_of_the_fault_tells(subcode, code):
    assert wsman_fault.find(fault(None, "¿?", subcode)) is wsman_fault.FAULTS[code]
    assert wsman_fault.find(fault(99, "¿?", subcode)) is wsman_fault.FAULTS[code]


@pytest.mark.parametrize(
    ("status", "passes"), [(503, True), (425, True), (429, True), (400, False)]
)
def test_http_without_a_fault(status, passes):
    for said in (
        f"ntlm: {WinRMTransportError('http', status, '')}",
        f"Bad HTTP response returned from the server. Code: {status}, Content: ''",
    ):
        assert wsman_fault.passes(said) is wsman_fault.is_refused(said) is passes
        assert f"(HTTP {status})" in unreachable.explain(said)


@pytest.mark.parametrize(
    "said",
    [
        "ntlm: the specified credentials were rejected by the server",
        fault(None, "¿?"),
        fault(87, "El parámetro no es correcto."),
        f"ntlm: {WinRMTransportError('http', 500, '')}",
        "port=5986, Code 503 pieces",
    ],
)
def test_what_is_none_of_them_is_left_to_others(said):
    assert wsman_fault.find(said) is None and not wsman_fault.passes(said)


def test_what_may_be_asked_again():
    assert wsman_fault.is_busy(fault(170, "")) and not wsman_fault.is_busy(fault(1460, ""))
    assert wsman_fault.passes(fault(1460, "")) and not wsman_fault.is_refused(fault(1460, ""))
    for code in (5, 2150858843, 1816):
        assert not wsman_fault.passes(fault(code, "")), code
