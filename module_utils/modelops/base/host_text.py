"""Text that a host sent, made fit for a terminal, a page and a log. Standard library only.

Escape sequences move the cursor and recolour, and characters that order text from right to left
(U+202E) show another text than there is: whoever reads an outcome must read what was sent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# ECMA-48, 5.4 (CSI) and 8.3.89 (OSC): dropped whole, or their parameters would stay as text.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*")
# What CommonMark takes for HTML, for code, for the target of a link or an image, and where a line
# begins for a heading, a quotation or a fence.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|[`\\]|(?<=\])(?=[(\[:])|^[#>~=]")
DEEPEST = 40  # lists and dictionaries within each other
LARGEST = 1 << 63  # JSON has no limit for integers, and nothing measured is larger


def plain(text: str) -> str:
    """Return a text without what only acts and is not seen; lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(filter(None, map(_seen, _ESCAPES.sub("", text))))


def _seen(char: str) -> str:
    if char.isprintable() or char in "\n\t":
        return char
    return " " if unicodedata.category(char) == "Zs" else ""


def line(text: object) -> str:
    """Return a text in one line, for a cell or a row."""
    return " ".join(plain(str(text)).split())


def markdown(text: object) -> str:
    """Return a text in one line that Markdown shows as it is: no HTML, no link, no code.

    A `|` is left to whoever writes tables.
    """
    return _MARKUP.sub(lambda found: f"\\{found.group()}", line(text))


def code(text: object) -> str:
    """Return a text in one line as code of Markdown, where no backslash protects a backtick."""
    return "`" + line(text).replace("`", "'") + "`"


def plain_values(value: Any, exact: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    """Return a copy of what came as JSON in which every text is plain.

    Args:
        exact: keys whose values stay as they are.

    Raises:
        ValueError: it is nested too deeply, or an integer is beyond 64 bits.
    """
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise ValueError("an integer is beyond 64 bits")
    if isinstance(value, Mapping):
        return {
            plain(str(key)): item if key in exact else plain_values(item, exact, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain_values(item, exact, depth + 1) for item in value]
    return value
