"""A PowerShell script as a tree: its commands, their parameters, its functions and tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import tree_sitter_powershell
from tree_sitter import Language, Node, Parser


def parse(source: str) -> Node:
    return Parser(Language(tree_sitter_powershell.language())).parse(source.encode()).root_node


def text(node: Node | None) -> str:
    return node.text.decode() if node is not None and node.text else ""


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def of(node: Node, *kinds: str) -> list[Node]:
    return [found for found in walk(node) if found.type in kinds]


def entries(literal: Node) -> dict[str, Node]:
    """Return what stands in a hash literal, by key."""
    body = [child for child in literal.children if child.type == "hash_literal_body"]
    found = [entry for part in body for entry in part.children if entry.type == "hash_entry"]
    return {text(entry.children[0]): entry.children[2] for entry in found}


def assigned(root: Node) -> dict[str, Node]:
    """Return the value of each variable, the first one where there are several."""
    found = [(text(n.children[0]), n.children[-1]) for n in of(root, "assignment_expression")]
    return dict(reversed(found))


def functions(root: Node) -> dict[str, Node]:
    """Return each function of the script, by its name."""
    found = of(root, "function_statement")
    return {text(of(n, "function_name")[0]): n for n in found}


def name_of(command: Node) -> str:
    """Return what a command calls: a name, `&`, or an empty text where it is computed."""
    if command.children[0].type.startswith("command_inv"):
        return "&"
    return text(command.child_by_field_name("command_name") or command.children[0])


def commands(root: Node) -> list[tuple[str, Node]]:
    """Return all commands below a node that have a name."""
    found = [(name_of(command), command) for command in of(root, "command")]
    return [(name, command) for name, command in found if name != "&"]


def parameters(command: Node, root: Node) -> dict[str, str]:
    """Return a command's parameters and the argument of each, those of a splatted table too.

    A parameter without an argument has an empty text.
    """
    found: dict[str, str] = {}
    [elements] = of(command, "command_elements")[:1] or [None]
    parts = [n for n in elements.children if n.type != "command_argument_sep"] if elements else []
    for part, after in itertools.zip_longest(parts, parts[1:]):
        if part.type == "command_parameter":
            takes = after is not None and after.type != "command_parameter"
            found[text(part)[1:]] = text(after) if takes else ""
        elif text(part).startswith("@") and text(part)[1:].isidentifier():
            table = assigned_near(part, root, f"${text(part)[1:]}")
            found |= {key: text(value) for key, value in entries(table).items()}
    return found


def assigned_near(part: Node, root: Node, variable: str) -> Node:
    """Return the table that a variable has where it is splatted: the last one written before."""
    before = [
        n for n in of(root, "assignment_expression")
        if text(n.children[0]) == variable and n.start_byte < part.start_byte
    ]  # fmt: skip
    return of(before[-1], "hash_literal_expression")[0]
