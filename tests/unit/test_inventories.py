"""Staging and production are one set-up in two places: only the names of the hosts differ.

Ansible reads group_vars beside the inventory that is named, and no file of a folder above. A link
does not survive git on Windows, and whoever copies the folder would edit the other one through it.
So what is equal everywhere is the default of a role, and the rest is held equal here.
"""

from __future__ import annotations

from pathlib import Path

INVENTORY = Path(__file__).resolve().parents[2] / "inventory"


def texts(name: str) -> dict[str, str]:
    folder = INVENTORY / name
    paths = [folder / "hosts.yml", *folder.glob("group_vars/*/main.yml")]
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in paths}


def test_staging_and_production_differ_in_the_names_of_the_hosts_alone():
    staging, production = texts("staging"), texts("production")
    assert len(staging) == 4
    assert production["hosts.yml"] != staging["hosts.yml"]
    assert production == {
        path: text.replace("staging", "production") for path, text in staging.items()
    }
