"""What the hosts of a preflight told: rows, lines, a table, and what it asks of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from modelops.preflight import host, rows


def test_rows_of_hosts_that_could_not_be_looked_at():
    hosts = [
        {"inventory_hostname": "up",
         "__preflight_builder_host": {"findings": [host.check_python("3.11")]},
         "__preflight_builder": {"failed": True, "msg": "boom"}},
        {"inventory_hostname": "down",
         "__preflight_builder_host": {"unreachable": True, "msg": "refused"}},
        {"inventory_hostname": "odd",
         "__preflight_target_host": {"failed": True, "msg": "no Python"}},
        {"inventory_hostname": "never"},
        {"inventory_hostname": "t", "__preflight_target_host": {"findings": []},
         "__sarai_service_look": {"msg": "sudo: a password is required"},
         "__sarai_config_read": {"failed": True, "msg": "not readable"}},
    ]  # fmt: skip
    found = rows.findings(hosts)
    lines = rows.lines(found, "problem")
    assert [line.split(" (wanted")[0] for line in lines] == [
        "up: the modules: boom",
        "down: connection: refused",
        "odd: the modules: no Python",
        "never: the modules: its tasks did not run",
        "t: the service, with become: sudo: a password is required",
        "t: configuration: not readable",
    ]
    text = rows.text(found)
    assert all(f"\n- {line}" in text for line in lines)
    assert "ok       Python" in text


def test_a_host_that_is_builder_and_target_has_the_rows_of_both_once():
    python, folder = host.check_python("3.11"), host.check_folder(Path("/nowhere"), 0)
    both = {
        "inventory_hostname": "box",
        "__preflight_builder_host": {"findings": [python]},
        "__preflight_builder": {"findings": folder},
        "__preflight_target_host": {"findings": [python]},
    }
    assert rows.findings([both]) == {"box": [python, *folder]}


@pytest.mark.sftp
def test_targets_as_the_builder_reaches_them():
    hosts = [
        {"inventory_hostname": "a", "transfer_strategy": "sftp", "ansible_host": "10.0.0.1"},
        {"inventory_hostname": "b", "transfer_strategy": "adopt", "transfer_host": "b.lan",
         "transfer_port": 2222, "ansible_host": "10.0.0.2"},
        {"inventory_hostname": "c", "ansible_host": "10.0.0.3"},
    ]  # fmt: skip
    assert rows.ssh(hosts) == [
        {"name": "a", "host": "10.0.0.1", "port": 22, "needed": True},
        {"name": "b", "host": "b.lan", "port": 2222, "needed": False},
    ]


def service(manager, **found):
    told = {"inventory_hostname": "t", "__preflight_target_host": {"findings": []}}
    told |= {"__sarai_service_look": found, "sarai_service_manager": manager}
    return rows.findings([told])["t"]


@pytest.mark.parametrize(
    ("manager", "remedy"),
    [("systemd", "sudo"), ("systemd_user", "enable-linger"), ("command", "sarai_service_commands")],
)
def test_a_service_that_cannot_be_looked_at(manager, remedy):
    (row,) = service(manager, msg="refused")
    assert (row["level"], row["value"]) == ("problem", "refused") and remedy in row["remedy"]


def test_a_service_that_systemd_does_not_know():
    (row,) = service("systemd", unit={"load": "not-found"})
    assert (row["level"], row["value"]) == ("problem", "not-found")


def test_a_way_back_that_does_not_survive_a_boot_is_advice():
    loaded, way_back = service("command", unit={"load": "loaded"})
    assert (loaded["level"], way_back["level"]) == ("ok", "advice")


def test_a_configuration_that_was_read_brings_its_own_rows():
    row = host.check_python("3.11")
    told = {"inventory_hostname": "t", "__preflight_target_host": {"findings": []}}
    read = {"__sarai_config_read": {"content": ""}, "__sarai_config_findings": [row]}
    assert rows.findings([told | read]) == {"t": [row]}


def test_a_long_cell_of_the_table_keeps_both_ends_in_one_line():
    row = {**host.check_python("3.11"), "value": "begin\n" + "x" * 99 + " the_end"}
    line = next(line for line in rows.text({"t": [row]}).splitlines() if "begin" in line)
    assert "begin xxx" in line and "...xxx" in line and "the_end" in line


def test_a_file_of_real_inputs_is_described_for_the_hosts(tmp_path):
    assert rows.real_inputs("") == {}
    there, absent = tmp_path / "in.npz", tmp_path / "absent.npz"
    np.savez(there, **{"input/0/a": np.zeros(2, np.float32), "input/1/a": np.ones(2, np.float32)})
    told = rows.real_inputs(str(there))
    assert len(told["samples"]) == 2 and told["problem"] == ""
    told = rows.real_inputs(str(absent))
    assert told["samples"] == [] and told["problem"]
