"""Answers of a Windows that does not do what it is asked, as real hosts were seen to give them.

Windows writes the reason in its own language. The English texts are those of recorded faults; the
Spanish ones are translations of ours, since nothing may hang on them.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from xml.sax.saxutils import escape

WSMAN = "The WS-Management service cannot process the request"
WSMAN_ES = "El servicio WS-Management no puede procesar la solicitud"
NO_SHELL, MANY_SHELLS, MANY_OPERATIONS = 2150858843, 2150859173, 2150859174


class Text(NamedTuple):
    """What a fault is called by WS-Management, and its reason in English and in Spanish."""

    kind: str
    english: str
    spanish: str


TEXTS = {
    5: Text("w:AccessDenied", "Access is denied. ", "Acceso denegado. "),
    2147942405: Text("w:AccessDenied", "Access is denied. ", "Acceso denegado. "),
    170: Text(
        "w:InternalError",
        "The requested resource is in use. ",
        "El recurso solicitado está en uso. ",
    ),
    1460: Text(
        "w:InternalError",
        "This operation returned because the timeout period expired. ",
        "Se devolvió esta operación porque el tiempo de espera expiró. ",
    ),
    NO_SHELL: Text(
        "w:InvalidSelectors",
        f"{WSMAN} because the request contained invalid selectors for the resource. ",
        f"{WSMAN_ES} porque contiene selectores no válidos para el recurso. ",
    ),
    MANY_SHELLS: Text(
        "w:QuotaLimit",
        f"{WSMAN}. This user is allowed a maximum number of 30 concurrent shells, which has been"
        " exceeded. Close existing shells or raise the quota for this user. ",
        f"{WSMAN_ES}. Este usuario puede tener 30 shells simultáneos como máximo. ",
    ),
}
UNEXPECTED = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/UnexpectedSelectors"


def lost_shell(shell: str) -> tuple[str, str]:
    """Return what stands beside the reason when a shell is gone: a detail, and a message."""
    message = (
        f"The request for the Windows Remote Shell with ShellId {shell} failed because the shell"
        " was not found on the server. Possible causes are: the specified ShellId is incorrect or"
        " the shell no longer exists on the server. Provide the correct ShellId or create a new"
        " shell and retry the operation. "
    )
    return f"<w:FaultDetail>{escape(UNEXPECTED)}</w:FaultDetail>", message


class Plan:
    """The refusals that a test has planned: how often each was given already."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def next(self, planned: list[dict[str, Any]], action: str) -> dict[str, Any] | None:
        """Return the refusal for an action (Create, Command, Send, Receive, Delete), if one is due.

        Args:
            planned: `id`, the action `on` which it comes, `times`, and `code` or `http`; `spanish`.
        """
        for refusal in planned:
            if refusal["on"] == action and self._given.get(refusal["id"], 0) < refusal["times"]:
                self._given[refusal["id"]] = self._given.get(refusal["id"], 0) + 1
                return refusal
        return None
