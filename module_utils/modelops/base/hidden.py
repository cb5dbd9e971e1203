"""Hide what looks like a secret in texts of others: a journal, lines of a configuration.

A second line of defence: such texts are shown as little as possible. Standard library only.
"""

from __future__ import annotations

import re

MARK = "[hidden]"
_NAMES = (
    r"[\w.-]{0,40}(?:token|passw(?:or)?d|passphrase|secret|credential|(?:api|access|private|auth)[_-]?key)"
    r"[\w.-]{0,40}"
)
_VALUE = r"\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s,;&}\]]+"
_PATTERNS = [
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S), MARK),
    (re.compile(r"(?i)(authorization\b[\"']?\s*[:=]\s*).*"), rf"\1{MARK}"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+"), rf"\1{MARK}"),
    (re.compile(rf"(?i)({_NAMES}[\"']?\s*[:=]\s*)(?:{_VALUE})"), rf"\1{MARK}"),
    (re.compile(r"(?i)(--?[\w-]{0,40}(?:token|passw(?:or)?d|secret|key)\s+)\S+"), rf"\1{MARK}"),
    (re.compile(r"(://[^\s/:@]{0,99}:)[^\s/@]+(?=@)"), rf"\1{MARK}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), MARK),
    (re.compile(r"\b(?:gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abp]-|AKIA)[\w-]{10,}"), MARK),
]


def masked(text: str) -> str:
    """Return a text in which what follows the name of a secret, or is shaped as one, is hidden."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
