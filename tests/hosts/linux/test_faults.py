"""What goes wrong on real hosts: a whole model is always there, and the next run converges."""

from __future__ import annotations

import shutil
import time

import pytest
from bed import HOSTS
from fleet import ADOPT, CONFIG, MODELS, ONE, PHASES, Fleet, run_until, until, went_back
from rootfs import HOME, ROOT

INT8 = f"{MODELS}/agi_audio_core_int8.onnx"
# A byte more or less is not what these small models' figures show.
NO_GATES = {"sarai_gate_mse_max": 1000, "sarai_gate_mae_max": 1000, "sarai_gate_cosine_min": -1}


def assert_whole(fleet: Fleet, host: str = "h1") -> None:
    """The configuration names a model whose graph and data belong together: the service starts."""
    fleet.bed.ssh(host, "sudo systemctl restart sarai")
    assert fleet.served(host) == fleet.named(host)


def assert_converges(fleet: Fleet) -> None:
    done = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert done.returncode == 0, done.stdout
    assert (fleet.served("h1"), fleet.named("h1")) == ("int8", "int8")
    assert fleet.state("h1")["confirmed"] and fleet.state("h1")["pending"] is None


@pytest.mark.parametrize("phase", PHASES)
def test_power_cut(fleet, phase):
    process = run_until(fleet, phase)
    fleet.bed.crash("h1")
    process.communicate(timeout=300)
    assert process.returncode != 0
    fleet.bed.boot("h1")
    until(lambda: fleet.served("h1") == fleet.named("h1"), 30, "no whole model after the boot")
    assert_converges(fleet)


@pytest.mark.parametrize("phase", PHASES)
def test_controller_gone_for_good(fleet, phase):
    confirm_s = 40 if phase == "commit" else 8
    process = run_until(fleet, phase, activate_confirm_s=confirm_s)
    process.kill()
    process.communicate()
    if phase in ("restart", "validation"):
        went_back(fleet)
    time.sleep(10)  # what was under way on the host ends by itself, or the timer ends it
    until(lambda: fleet.served("h1") == fleet.named("h1"), 60, "no whole model")
    assert fleet.named("h1") == "fp32" or phase == "commit"
    done = fleet.run("quantize.yml", *ONE, **ADOPT, run_lock_break=True)
    assert done.returncode == 0, done.stdout
    assert (fleet.served("h1"), fleet.named("h1")) == ("int8", "int8")


@pytest.mark.parametrize("phase", ["activation", "restart"])
def test_link_cut(fleet, phase):
    process = run_until(fleet, phase, activate_confirm_s=20)
    fleet.bed.cut("h1")
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and "UNREACHABLE" in output
    fleet.bed.heal("h1")
    fleet.bed.wait("h1")
    until(lambda: fleet.served("h1") == fleet.named("h1") == "fp32", 60, "it did not go back")
    assert_converges(fleet)


@pytest.fixture
def weakened(fleet, tmp_path):
    """Give a copy of the project in which a protecting step is taken out."""

    def take_out(file: str, step: str, instead: str) -> None:
        project = tmp_path / "project"
        leave = shutil.ignore_patterns(".*", "var", "reports", "tests")
        if not project.exists():
            shutil.copytree(ROOT, project, ignore=leave)
        text = (project / file).read_text()
        assert text.count(step) == 1
        (project / file).write_text(text.replace(step, instead))
        fleet.project = project

    yield take_out
    fleet.project = ROOT


def test_without_the_timer_nobody_goes_back(fleet, weakened):
    weakened("roles/activate/tasks/main.yml", "when: __activate_needed", "when: false")
    process = run_until(fleet, "validation", activate_confirm_s=8)
    process.kill()
    process.communicate()
    with pytest.raises(AssertionError, match="the timer did not bring FP32 back"):
        went_back(fleet)
    fleet.project = ROOT
    assert fleet.run("rollback.yml", "--limit", "h1,localhost").returncode == 0


def test_without_the_hash_checks_damage_goes_into_service(fleet, weakened):
    """What lies there is hashed, and so is the copy that is made of it."""
    step = 'if row["sha256"] != entry["sha256"]:'
    weakened("module_utils/modelops/pair/manifest.py", step, "if False:")
    step = 'if (found, size) != (entry["sha256"], entry["size"]):'
    weakened("module_utils/modelops/pair/copy.py", step, "if False:")
    damage_incoming(fleet)
    done = fleet.run("quantize.yml", *ONE, **ADOPT, **NO_GATES)
    assert done.returncode == 0 and fleet.served("h1") == "int8"


def test_without_the_health_check_a_service_that_dies_stays(fleet, weakened):
    step = "hold_s, limit_s)\n        if question"
    found = '{"unit": manager.look()._asdict(), "healthy": True}'
    call = f"found = wait_healthy(partial(see, manager, url, expect), manager, {step}"
    weakened(
        "module_utils/modelops/target/service.py", call, f"found = {found}\n        if question"
    )
    fleet.bed.put("h1", "refuse-int8", f"{HOME}/fault")
    done = fleet.run("quantize.yml", *ONE, **ADOPT, sarai_service_question={})
    assert done.returncode == 0 and fleet.served("h1") == "down"
    fleet.project = ROOT
    assert fleet.run("rollback.yml", "--limit", "h1,localhost").returncode == 0
    assert fleet.served("h1") == "fp32"


@pytest.mark.sftp
@pytest.mark.parametrize("days", [-400, 4000])
def test_a_host_whose_clock_is_wrong(fleet, days):
    """Every process that starts on the host from now on sees another date, sshd's included."""
    fleet.bed.set_clock("h1", days)
    try:
        fleet.bed.ssh("h1", f"rm -rf {MODELS}/.incoming")
        process = run_until(fleet, "validation", transfer_strategy="sftp", activate_confirm_s=8)
        process.kill()
        process.communicate()
        went_back(fleet)
        done = fleet.run("quantize.yml", *ONE, transfer_strategy="sftp", run_lock_break=True)
        assert done.returncode == 0, done.stdout
        assert fleet.served("h1") == "int8"
        told = fleet.state("h1")["history"][-1]["at"]
        assert abs(int(told[:4]) - time.gmtime().tm_year - days / 365) < 1.1, told
    finally:
        fleet.bed.set_clock("h1", 0)


@pytest.mark.parametrize(
    ("fault", "options", "message"),
    [
        ("die-after 2", {"sarai_service_min_healthy_s": 6}, "the INT8 kernel gave up"),
        ("hog", {"sarai_service_memory_max": "300M", "sarai_service_min_healthy_s": 20}, "died"),
    ],
)
def test_service_does_not_hold(fleet, fault, options, message):
    fleet.bed.put("h1", fault, f"{HOME}/fault")
    done = fleet.run("quantize.yml", *ONE, **ADOPT, **options)
    assert done.returncode != 0
    assert message in done.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
    if fault == "hog":
        log = fleet.bed.ssh("h1", "sudo journalctl -u sarai | tail -40").stdout
        assert "status=9/KILL" in log


def test_the_service_answers_something_else(fleet):
    """The model is right, its files are right, the service is healthy: only asking it tells."""
    fleet.bed.put("h1", "wrong", f"{HOME}/fault")
    done = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert done.returncode != 0 and "something else than on FP32" in done.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
    assert list(fleet.state("h1")["void"]) == [fleet.state("h1")["history"][-1]["release"]]


def test_a_service_that_does_not_read_our_key(fleet):
    """The edit is right and has no effect: the service loads its built-in default, FP32."""
    fleet.bed.put("h1", "ignore", f"{HOME}/fault")
    done = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "the service does not serve what" in said and "have FP32 mapped" in said, done.stdout
    assert "h1: reverted to fp32" in said, done.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
    assert fleet.state("h1")["void"] == {}, "it is no fault of the release's"


def damage_incoming(fleet: Fleet) -> None:
    damage = "printf X | dd of=$f bs=1 seek=5000 conv=notrunc status=none"
    fleet.bed.ssh("h1", f"f={MODELS}/.incoming/agi_audio_core_int8.onnx.data; {damage}")


def test_a_flipped_byte_on_its_way(fleet):
    damage_incoming(fleet)
    done = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert done.returncode != 0 and "SHA-256" in done.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
    fleet.deliver("h1")
    assert_converges(fleet)


def test_rollback_on_a_full_disk_with_int8_gone_and_the_service_down(fleet):
    assert_converges(fleet)
    fleet.bed.ssh("h1", f"dd if=/dev/zero of={MODELS}/fill bs=64k status=none", check=False)
    fleet.bed.ssh("h1", f"sudo systemctl kill -s KILL sarai; rm {INT8}; : > {INT8}.data")
    rest = f"for i in $(seq 4000); do head -c 1024 /dev/zero > {MODELS}/fill-$i || break; done"
    fleet.bed.ssh("h1", f"{rest}; sync; {rest}", check=False)
    assert fleet.bed.ssh("h1", f"df --output=avail {MODELS}").stdout.split()[-1] == "0"
    done = fleet.run("rollback.yml", "--limit", "h1,localhost")
    assert done.returncode == 0, done.stdout
    assert (fleet.served("h1"), fleet.config("h1")) == ("fp32", CONFIG)
    fleet.bed.ssh("h1", f"rm -f {MODELS}/fill*")
    fleet.deliver("h1")
    assert_converges(fleet)


def test_what_a_user_may_not_do(fleet):
    """No sudo on one host, a read-only disk on the next, a planted link on the third."""
    fleet.bed.ssh("h1", f"ln -s /etc/passwd {INT8}")
    planted = fleet.run("quantize.yml", "--limit", "h1,control,localhost", **ADOPT)
    assert planted.returncode != 0 and "link" in planted.stdout
    fleet.bed.ssh("h1", f"test -L {INT8} && rm {INT8} && head -c4 /etc/passwd | grep root")
    fleet.bed.ssh("h2", f"sudo mount -o remount,ro {HOME}/models")
    # The rule itself goes last: without it nothing can be put back but by the bed.
    fleet.bed.ssh("h3", "sudo mv /etc/sudoers.d/noel /root/noel")
    try:
        done = fleet.run("quantize.yml", **ADOPT)
    finally:
        fleet.bed.crash("h2")
        fleet.bed.crash("h3")
        overlay = fleet.bed.state / "h3.w" / "upper"
        (overlay / "etc/sudoers.d/noel").unlink(missing_ok=True)
        (overlay / "root/noel").rename(overlay / "etc/sudoers.d/noel")
        fleet.bed.boot("h2")
        fleet.bed.boot("h3")
    assert done.returncode != 0
    assert "h3: the service, with become" in done.stdout
    assert "h2: " in done.stdout and "not writable" in done.stdout
    until(lambda: {fleet.served(host) for host in HOSTS} == {"fp32"}, 20, "FP32 is not served")


def test_a_second_run_at_the_same_time(fleet):
    process = run_until(fleet, "validation")
    second = fleet.run("rollback.yml", "--limit", "h1,localhost")
    assert second.returncode != 0 and "another run is at work" in second.stdout
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert fleet.served("h1") == "int8"


def test_edited_by_hand_while_the_release_waits(fleet):
    """The owner's line stays, on the way out and on the way back."""
    process = run_until(fleet, "validation")
    fleet.bed.ssh("h1", f"echo 'volume: 7  # louder' >> {HOME}/config/sarai.yaml")
    process.communicate(timeout=120)
    assert fleet.config("h1").endswith("volume: 7  # louder\n")
    assert fleet.run("rollback.yml", "--limit", "h1,localhost").returncode == 0
    assert fleet.config("h1") == CONFIG + "volume: 7  # louder\n"
    assert_whole(fleet)
