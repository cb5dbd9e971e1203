"""Write each role's README.md, and docs/variables.md, from the roles' meta: `make role-docs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def render(role: str) -> str:
    """Return the text that the README.md of a role must have."""
    meta = ROOT / "roles" / role / "meta"
    spec = _read(meta / "argument_specs.yml")["argument_specs"]["main"]
    about = _read(meta / "main.yml")
    parts = [
        f"# {role}",
        "<!-- `make role-docs` makes this file from meta/argument_specs.yml and meta/main.yml. -->",
        f"{spec['short_description']}.",
        *spec["description"],
    ]
    if needed := about["dependencies"]:
        links = ", ".join(f"[{one['role']}](../{one['role']}/README.md)" for one in needed)
        parts.append(f"The variables of these roles are used too: {links}.")
    parts += ["## Variables", _table(spec.get("options", {})), _footer(about["galaxy_info"])]
    return "\n\n".join(parts) + "\n"


def variables() -> str:
    """Return the text that docs/variables.md must have."""
    found = [
        (name, role, option) for role in ROLES for name, option in options(role).items()
    ]  # fmt: skip
    rows = [
        f"| `{name}` | {_shown(option)} | [{role}](../roles/{role}/README.md) |"
        for name, role, option in sorted(found, key=lambda one: one[:2])
    ]
    parts = [
        "# Variables",
        "<!-- `make role-docs` makes this file from the roles' meta/argument_specs.yml. -->",
        "Put them into an inventory, or give them with `-e`. Each role's page says what they mean.",
        "\n".join(["| variable | default | role |", "| --- | --- | --- |", *rows]),
    ]
    return "\n\n".join(parts) + "\n"


def options(role: str) -> dict[str, Any]:
    """Return the variables of a role, by name, as its argument specs describe them."""
    spec = _read(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]
    return spec.get("options", {})


def _shown(option: dict[str, Any]) -> str:
    default = option["default"]
    shown = default if isinstance(default, str) and default else json.dumps(default)
    return f"`{shown}`".replace("|", r"\|")


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def _table(options: dict[str, Any]) -> str:
    if not options:
        return "None of its own."
    rows = ["| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        meaning = option["description"]
        if "choices" in option:
            meaning += f" One of: {', '.join(map(str, option['choices']))}."
        cells = (f"`{name}`", kind, _shown(option), meaning.replace("|", r"\|"))
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _footer(info: dict[str, Any]) -> str:
    systems = "; ".join(f"{one['name']} {', '.join(one['versions'])}" for one in info["platforms"])
    return f"Ansible {info['min_ansible_version']} or newer. {systems}. License: {info['license']}."


def main() -> None:
    for role in ROLES:
        (ROOT / "roles" / role / "README.md").write_text(render(role), "utf-8", newline="\n")
    (ROOT / "docs/variables.md").write_text(variables(), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
