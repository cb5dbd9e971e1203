"""One host is builder and target: inventory/single, run over SSH on a host of the bed."""

from __future__ import annotations

import io
import shutil
import tarfile

import pytest
import yaml
from fleet import CONFIG, MODELS, Fleet
from rootfs import HOME, ROOT, builder_site

HOST = "h2"
BUILDER = f"{HOME}/builder"
OWN = {
    "ansible_connection": "ssh",
    "sarai_builder_python": f"{BUILDER}/venv/bin/python",
    "sarai_python": "/opt/sarai/venv/bin/python",
    "sarai_expected_outputs": {"mel_features": [1, 2048, 128]},
}


@pytest.fixture
def single(hosts, monkeypatch, tmp_path) -> Fleet:
    """A host with FP32, its service and a Python that can quantize; the controller has no model."""
    fleet = Fleet(hosts)
    hosts.heal(HOST)
    if not hosts.alive(HOST):
        hosts.boot(HOST)
    fleet.provision(HOST)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(builder_site(), "site")
    hosts.ssh(
        HOST,
        f"rm -rf {BUILDER} && mkdir {BUILDER} && tar -x -C {BUILDER}"
        f" && python3 -m venv --without-pip {BUILDER}/venv"
        f" && printf '/opt/sarai/site\\n{BUILDER}/site\\n'"
        f" > {BUILDER}/venv/lib/python3.11/site-packages/site.pth",
        input=packed.getvalue(),
        text=False,
        stdin=None,
    )
    folder = tmp_path / "single"
    shutil.copytree(ROOT / "inventory/single", folder)
    of_bed = hosts._inventory()["all"]["children"]["targets"]
    given = of_bed["vars"] | of_bed["hosts"][HOST] | OWN
    groups = {"builder": {"hosts": {HOST: given}}, "targets": {"hosts": {HOST: {}}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    monkeypatch.setattr(hosts, "inventory", folder)
    return fleet


def test_one_host_quantizes_and_serves(single):
    done = single.run("playbooks/preflight.yml", preflight_json=str(single.bed.state / "told.json"))
    assert done.returncode == 0, done.stdout
    done = single.run("quantize.yml")
    assert done.returncode == 0, done.stdout
    assert f"{HOST}: in service" in done.stdout
    assert (single.named(HOST), single.served(HOST)) == ("int8", "int8")
    again = single.run("quantize.yml")
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    back = single.run("rollback.yml")
    assert back.returncode == 0, back.stdout
    assert (single.config(HOST), single.served(HOST)) == (CONFIG, "fp32")
    left = single.bed.ssh(HOST, f"find {MODELS} -name '*.modelops.lock'").stdout
    assert left == "", "no lock is left"
