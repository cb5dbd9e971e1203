"""The way of a release on real hosts: three at once, again, back, and what the owner sees."""

from __future__ import annotations

from bed import HOSTS
from fleet import CONFIG, MODELS


def changed(output: str) -> dict[str, int]:
    lines = [line for line in output.splitlines() if "changed=" in line and "ok=" in line]
    return {line.split()[0]: int(line.split("changed=")[1].split()[0]) for line in lines}


def test_out_again_and_back(fleet):
    told = fleet.run("quantize.yml", "--check", "--diff", transfer_strategy="adopt")
    assert told.returncode == 0, told.stdout
    assert '+    model_path: "models/onnx/agi_audio_core_int8.onnx"   # 4.3 GB' in told.stdout
    assert {fleet.served(host) for host in HOSTS} == {"fp32"}
    done = fleet.run("quantize.yml", transfer_strategy="adopt")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("The service itself held ") == 3
    for host in HOSTS:
        assert (fleet.served(host), fleet.named(host)) == ("int8", "int8")
        assert fleet.state(host)["confirmed"] and fleet.state(host)["deadline"] is None
        timer = fleet.bed.ssh(
            host, "systemctl is-active modelops-revert@agi_audio_core.timer", check=False
        )
        assert timer.stdout.strip() == "inactive"
        # What onnx.load and the owner's tools want: regular files with one link each.
        links = fleet.bed.ssh(host, f"stat -c '%F %h' {MODELS}/agi_audio_core_int8.onnx*").stdout
        assert links == "regular file 1\n" * 2
    started = {h: fleet.bed.ssh(h, "systemctl show -p InvocationID sarai").stdout for h in HOSTS}
    again = fleet.run("quantize.yml", transfer_strategy="adopt")
    assert again.returncode == 0, again.stdout
    assert set(changed(again.stdout).values()) == {0}, again.stdout
    for host in HOSTS:
        own = fleet.bed.ssh(host, "systemctl show -p InvocationID sarai").stdout
        assert own == started[host]
    status = fleet.run("playbooks/status.yml")
    assert status.stdout.count("INT8") == 3 and status.stdout.count("  healthy  ") == 3, (
        status.stdout
    )
    back = fleet.run("rollback.yml")
    assert back.returncode == 0, back.stdout
    for host in HOSTS:
        assert (fleet.served(host), fleet.config(host)) == ("fp32", CONFIG)


def test_a_canary_that_refuses_keeps_the_others_out(fleet):
    fleet.bed.put("h1", "refuse-int8\n", "SARAi_v2/fault")
    done = fleet.run("quantize.yml", transfer_strategy="adopt")
    assert done.returncode != 0
    assert "cannot start on an INT8 model" in done.stdout  # the unit's own journal
    for host in HOSTS:
        assert (fleet.served(host), fleet.named(host)) == ("fp32", "fp32"), host
        assert fleet.config(host) == CONFIG
    assert fleet.bed.ssh("h2", f"ls {MODELS}").stdout.split() == [
        "agi_audio_core.onnx", "agi_audio_core.onnx.data",
    ]  # fmt: skip


def test_a_host_that_is_down_is_left_for_the_next_run(fleet):
    fleet.bed.poweroff("h2")
    done = fleet.run("quantize.yml", transfer_strategy="adopt")
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "h2 (" in said and "Nothing was changed there. Run again" in said
    assert [fleet.served(host) for host in ("h1", "h3")] == ["int8", "int8"], done.stdout
    fleet.bed.boot("h2")
    assert fleet.named("h2") == "fp32"
    done = fleet.run("quantize.yml", transfer_strategy="adopt")
    assert done.returncode == 0, done.stdout
    assert {fleet.served(host) for host in HOSTS} == {"int8"}
