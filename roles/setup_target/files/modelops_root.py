"""What the runs of this project do as root on a target, and nothing else.

    sudo modelops-root MODEL [check] VERB [ID [KEY]]

upload-open ID KEY   make the folder of a release, and let its key in for a while
upload-close ID      let that key in no more
upload-remove ID     remove the folder of a release
arm, disarm          start or stop the timer with which this target reverts by itself
accept ID            remember the serial of a signed release, so that no older one comes after it
restart              restart the service
journal              print the last lines that the service wrote

Which unit, account and folder that is stands in /etc/modelops/targets.d/MODEL.json, which root
alone writes (playbooks/setup_target.yml); no argument names one. `check` tells what would change.
Prints one line of JSON; the exit code is 0 for done, 1 for failed, 2 for an argument that is
refused. Standard library only, and one file, so that whoever gives root away can read what for.
"""

from __future__ import annotations

import base64
import fcntl
import ipaddress
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/modelops/targets.d")
KEYS = Path("/etc/modelops/keys")
SIGNERS = Path("/etc/modelops/allowed_signers")
REVOKED = Path("/etc/modelops/revoked_keys")
SERIALS = Path("/var/lib/modelops")
ROOT = 0  # who must own what is believed
LARGEST = 64 << 10  # bytes of settings, or of keys
LARGEST_MANIFEST = 16 << 20  # bytes
LARGEST_SERIAL = 1 << 60
CALL_LIMIT_S = 30.0
STOP_LIMIT_S = 90.0  # systemd's DefaultTimeoutStopSec
LINES, LONGEST_TOLD = 25, 16 << 10
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

MODEL = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
RELEASE = re.compile(r"[0-9a-f]{16}")
KEY = re.compile(r"ssh-ed25519 ([A-Za-z0-9+/]{68})")
KEY_BEGINS = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"  # RFC 8709, 4: the type, then 32 bytes
UNIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9@._-]{0,199}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
FOLDER = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._-]+)+")


class RefusedError(Exception):
    """What was asked for is not done; `code` is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def fits(pattern: re.Pattern[str], text: object, what: str, code: int = 1) -> str:
    """Return a text that a pattern allows, whole."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise RefusedError(f"{str(text)[:100]!r} cannot be {what}", code)
    return text


def key(text: str) -> str:
    """Return an ed25519 public key, as one line of two words."""
    found = KEY.fullmatch(text)
    if not found or base64.b64decode(found[1])[: len(KEY_BEGINS)] != KEY_BEGINS:
        raise RefusedError(f"{text[:100]!r} is not one ed25519 public key", 2)
    return text


def origin(text: object) -> str:
    """Return an address, or a network, that a key may be used from."""
    try:
        return str(ipaddress.ip_network(str(text)))
    except ValueError:
        raise RefusedError(f"{str(text)[:100]!r} is no address and no network") from None


# -- what root's file says


def believed(path: Path) -> os.stat_result:
    """Look at a path that nobody but root may change, on the whole way to it."""
    for part in (*reversed(path.parents), path):
        found = part.lstat()
        loose = found.st_mode & 0o022 and not (part != path and found.st_mode & stat.S_ISVTX)
        if stat.S_ISLNK(found.st_mode) or found.st_uid not in (0, ROOT) or loose:
            raise RefusedError(f"{part} is a link, or somebody but root may change it")
    return found


def read(path: Path) -> str:
    """Return the text of a file of root's."""
    believed(path)
    return brought(path, LARGEST).decode()


def brought(path: Path, limit: int) -> bytes:
    """Return the bytes of a file, which the deploy user may have made."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RefusedError(f"{path} is not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise RefusedError(f"{path} is larger than {limit} bytes")
    return content


class Target:
    """What root's file says of a model."""

    def __init__(self, model: str) -> None:
        self.model = fits(MODEL, model, "the name of a model", 2)
        try:
            self.said = json.loads(read(SETTINGS / f"{self.model}.json"))
        except FileNotFoundError:
            raise RefusedError(
                f"{SETTINGS} has nothing of {self.model}: run setup_target.yml"
            ) from None
        except ValueError as error:
            raise RefusedError(f"{SETTINGS / model}.json is not JSON ({error})") from None
        self.timer = f"modelops-revert@{self.model}.timer"

    @property
    def unit(self) -> str:
        """The unit of the service."""
        return fits(UNIT, self.said.get("unit"), "the name of a unit")

    def seconds(self, name: str) -> int:
        """Return a time that stands there."""
        value = self.said.get(name)
        if type(value) is not int or not 0 < value <= 7 * 86400:
            raise RefusedError(f"{value!r} cannot be {name}, seconds of a week at most")
        return value

    @property
    def account(self) -> str:
        """The account that gets what is pushed."""
        return fits(ACCOUNT, self.said.get("upload_user"), "the name of an account")

    @property
    def incoming(self) -> Path:
        """The folder with a folder for each release."""
        folder = fits(FOLDER, self.said.get("upload_dir"), "an absolute path")
        return Path(folder) / "incoming"

    def release(self, release: str) -> Path:
        """The folder of a release, as the deploy user has it: nothing there is believed."""
        models = fits(FOLDER, self.said.get("models"), "an absolute path")
        return Path(models) / ".releases" / self.model / release

    @property
    def limits(self) -> str:
        """The options of a line of authorized_keys."""
        until = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + self.seconds("upload_s")))
        origins = ",".join(origin(text) for text in self.said.get("upload_from", []))
        return f'restrict,expiry-time="{until}"' + (f',from="{origins}"' if origins else "")


# -- the verbs: whether something changes, or changed


def upload_open(target: Target, release: str, public: str, check: bool) -> dict[str, Any]:
    """Make the folder of a release, writable for the account, and let a key in."""
    line = f"{target.limits} {key(public)} {_mark(target, release)}\n"
    account = pwd.getpwnam(target.account)
    if check:
        return {"changed": True}
    with _keys(target) as (lines, write):
        _make(target.incoming, release, account)
        # A model has one push at a time: a key of an earlier one is not waited for.
        write([*(old for old in lines if f" modelops:{target.model}:" not in old), line])
    return {"changed": True}


def _make(incoming: Path, release: str, account: pwd.struct_passwd) -> None:
    """Make the folder of a release, or find it as an earlier push left it."""
    believed(incoming)
    folder = incoming / release
    with suppress(FileExistsError):
        os.mkdir(folder, 0o755)
    # Nobody but root can put something else into its place: the folder above is root's.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(handle, account.pw_uid, account.pw_gid)
        os.fchmod(handle, 0o755)
    finally:
        os.close(handle)


def upload_close(target: Target, release: str, check: bool) -> dict[str, Any]:
    """Let the key of a release in no more."""
    with _keys(target) as (lines, write):
        left = [line for line in lines if not line.endswith(f" {_mark(target, release)}\n")]
        if left != lines and not check:
            write(left)
    return {"changed": left != lines}


def upload_remove(target: Target, release: str, check: bool) -> dict[str, Any]:
    """Remove the folder of a release, with whatever the account made in it."""
    believed(target.incoming)
    folder = target.incoming / release
    there = os.path.lexists(folder)
    if there and not check:
        if folder.is_symlink() or not folder.is_dir():
            raise RefusedError(f"{folder} is no folder")
        shutil.rmtree(folder)  # by descriptors: no link leads it elsewhere
    return {"changed": there}


def arm(target: Target, check: bool) -> dict[str, Any]:
    """Start the timer anew, also after a power cut."""
    if not check:
        systemctl("daemon-reload")
        systemctl("enable", "--quiet", target.timer, must=True)
        systemctl("restart", target.timer, must=True)
    return {"changed": True}


def disarm(target: Target, check: bool) -> dict[str, Any]:
    """Stop the timer, if it is at work."""
    told = [systemctl(ask, "--quiet", target.timer) for ask in ("is-active", "is-enabled")]
    if 0 in told and not check:
        systemctl("disable", "--quiet", "--now", target.timer, must=True)
    return {"changed": 0 in told}


def accept(target: Target, release: str, check: bool) -> dict[str, Any]:
    """Remember the serial of a release, if a key that root lets sign has signed its manifest."""
    if check:
        return {"changed": True}
    folder = target.release(release)
    content = brought(folder / "manifest.json", LARGEST_MANIFEST)
    proof = brought(folder / "manifest.json.sig", LARGEST)
    verify(target.model, content, proof)
    said = json.loads(content)["signed"]
    serial = said["serial"]
    if said["model"] != target.model or type(serial) is not int or not 0 < serial < LARGEST_SERIAL:
        raise RefusedError(f"{folder} is not signed as a release of {target.model}")
    path = SERIALS / f"{target.model}.serial"
    SERIALS.mkdir(mode=0o755, exist_ok=True)
    if os.path.lexists(path) and int(read(path)) >= serial:
        return {"changed": False}
    replace(path, f"{serial}\n")
    return {"changed": True}


def verify(model: str, content: bytes, proof: bytes) -> None:
    """Let ssh-keygen judge a signature by root's own lists."""
    believed(SIGNERS)
    space = f"modelops-release@{model}"
    ask = ["/usr/bin/ssh-keygen", "-Y", "verify", "-f", str(SIGNERS), "-I", space, "-n", space]
    if os.path.lexists(REVOKED):
        believed(REVOKED)
        ask += ["-r", str(REVOKED)]
    with tempfile.TemporaryDirectory(prefix="modelops-") as folder:
        kept = Path(folder, "signature")
        kept.write_bytes(proof)
        done = subprocess.run(  # noqa: S603 - a path of this file
            [*ask, "-s", str(kept)], input=content, capture_output=True, timeout=CALL_LIMIT_S,
            check=False, env=CLEAN, cwd="/",
        )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[:500]
        raise RefusedError(f"the release is not signed as {SIGNERS} asks: {said}")


def restart(target: Target, check: bool) -> dict[str, Any]:
    """Restart the service; whether it came up is told by its state, which anybody may read."""
    if not check:
        systemctl("daemon-reload")
        systemctl("reset-failed", target.unit)
        systemctl("restart", target.unit, limit_s=target.seconds("start_s") + STOP_LIMIT_S)
    return {"changed": True}


def journal(target: Target, check: bool) -> dict[str, Any]:  # noqa: ARG001 - it changes nothing
    """Return the last lines that the service wrote, of its last start where it wrote any."""
    shown = ["/usr/bin/systemctl", "show", "--value", "--property", "InvocationID", target.unit]
    start = run(shown).stdout.strip()
    ask = ["/usr/bin/journalctl", "--quiet", "--no-pager", "--output", "short", f"--lines={LINES}"]
    text = run([*ask, f"_SYSTEMD_INVOCATION_ID={start}"]).stdout if start else ""
    text = text or run([*ask, f"--unit={target.unit}"]).stdout
    return {"changed": False, "journal": text.strip()[-LONGEST_TOLD:]}


# Each verb, and how many words come after it.
VERBS: dict[str, tuple[Callable[..., dict[str, Any]], int]] = {
    "upload-open": (upload_open, 2), "upload-close": (upload_close, 1),
    "upload-remove": (upload_remove, 1), "arm": (arm, 0), "disarm": (disarm, 0),
    "accept": (accept, 1), "restart": (restart, 0), "journal": (journal, 0),
}  # fmt: skip


def _mark(target: Target, release: str) -> str:
    return f"modelops:{target.model}:{release}"


def replace(path: Path, text: str) -> None:
    """Write a file of root's, whole or not at all."""
    believed(path.parent)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(part, flags, 0o644), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _keys(target: Target) -> Iterator[tuple[list[str], Callable[[list[str]], None]]]:
    """Give the lines of the account's keys and what replaces them; one call at a time."""
    path = KEYS / target.account
    believed(KEYS)
    lock = os.open(KEYS, os.O_RDONLY | os.O_DIRECTORY)

    def write(lines: list[str]) -> None:
        replace(path, "".join(lines))

    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield (read(path).splitlines(keepends=True) if os.path.lexists(path) else []), write
    finally:
        os.close(lock)


# -- programs


def run(command: Sequence[str], limit_s: float = CALL_LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of the caller's surroundings."""
    return subprocess.run(  # noqa: S603 - paths and options of this file, units of root's
        command, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False,
        env=CLEAN, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip


def systemctl(*words: str, must: bool = False, limit_s: float = CALL_LIMIT_S) -> int:
    """Run systemctl and return its exit code, which must be 0 where it `must`."""
    done = run(["/usr/bin/systemctl", *words], limit_s)
    if must and done.returncode:
        raise RefusedError(f"systemctl {' '.join(words)}: {done.stderr.strip()[:500]}")
    return done.returncode


def asked(arguments: Sequence[str]) -> dict[str, Any]:
    """Do what the command line asks for."""
    model, *words = arguments or [""]
    check = words[:1] == ["check"]
    verb, *rest = words[check:] or [""]
    act, count = VERBS.get(verb, (None, 0))
    if act is None or len(rest) != count:
        raise RefusedError(f"usage: modelops-root MODEL [check] {' | '.join(VERBS)} [ID [KEY]]", 2)
    if rest:
        fits(RELEASE, rest[0], "the id of a release", 2)
    if verb == "upload-open":
        key(rest[1])
    return act(Target(model), *rest, check=check)


def main(arguments: Sequence[str]) -> int:
    """Answer with one line of JSON."""
    os.umask(0o022)
    try:
        told, code = asked(arguments), 0
    except RefusedError as error:
        told, code = {"changed": False, "msg": str(error)}, error.code
    except (OSError, KeyError, TypeError, ValueError, subprocess.SubprocessError) as error:
        told, code = {"changed": False, "msg": str(error)}, 1
    print(json.dumps(told))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
