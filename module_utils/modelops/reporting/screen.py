"""The lines of the terminal's output: a line a phase, with a tick, in English or Spanish.

Pure: the callback plugin (callback_plugins/phases.py) knows Ansible, and this the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..base import host_text
from ..base.units import seconds

Words = Mapping[str, str]

# The phase that a role is, or one of its files. Roles that are not here work within other phases.
PHASES: Mapping[str, str] = {
    "sample": "sample",
    "preflight": "preflight",
    "python_runtime": "runtime",
    "quantize": "quantize",
    "quantize/gate": "gate",
    "sign": "sign",
    "transfer": "transfer",
    "activate": "activate",
    "activate/commit": "commit",
    "activate/revert": "revert",
    "activate/refused": "revert",
    "validate": "validate",
    "report": "report",
    "rollback": "rollback",
    "status": "status",
    "diagnose": "diagnose",
    "acceptance": "acceptance",
    "setup_target": "set up",
}
# Where the phases of a release stand on the owner's checklist.
WHEN: Mapping[str, tuple[str, ...]] = {
    "before": ("sample", "preflight", "runtime"),
    "during": ("quantize", "gate", "sign", "transfer", "activate", "revert"),
    "after": ("validate", "commit", "report"),
}
SPANISH: Words = {
    "before": "antes", "during": "durante", "after": "después",
    "sample": "muestra", "preflight": "revisión previa", "runtime": "entorno",
    "quantize": "cuantización", "gate": "umbrales", "sign": "firma",
    "transfer": "transferencia", "activate": "activación", "validate": "validación",
    "commit": "confirmación", "revert": "reversión", "report": "informe",
    "rollback": "vuelta atrás", "status": "estado", "diagnose": "diagnóstico",
    "acceptance": "aceptación",
    "set up": "preparación",
    "host": "equipo", "hosts": "equipos", "changed": "con cambios", "failed": "con fallos",
    "would change": "cambiarían", "unreachable": "sin respuesta", "rescued": "con rescate",
    "done in": "hecho en", "stopped after": "detenido tras",
    "change": "cambio", "planned": "previsto", "ignored": "ignorado",
}  # fmt: skip
TICKS = {True: "✓", False: "✗"}


def words(language: str) -> Words:
    """Return the words of a language: Spanish for `es`; English words stand for themselves."""
    return SPANISH if language == "es" else {}


def phase(role: str, file: str) -> str:
    """Return the phase that a file of a role is, by their names; empty where it is none."""
    return PHASES.get(f"{role}/{file}", PHASES.get(role, ""))


@dataclass
class Phase:
    """A phase under way: who takes part, what came of it on whom, and when it began and ended.

    Times are seconds of a clock that only rises.
    """

    name: str
    began: float
    ended: float = 0
    hosts: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def line(self, number: int, say: Words, check_mode: bool) -> str:
        """Return its line when it has ended: `before  ✓ 1 preflight  2 hosts, 1 changed  3.2 s`."""
        when = next((when for when, names in WHEN.items() if self.name in names), "")
        counts = [_hosts(len(self.hosts), say)]
        if self.changed:
            counts.append(f"{len(self.changed)} {_changed(say, check_mode)}")
        if self.failed:
            counts.append(f"{len(self.failed)} {say.get('failed', 'failed')}")
        return (
            f"{say.get(when, when):8}{TICKS[not self.failed]} {number:2}"
            f" {say.get(self.name, self.name):16}{', '.join(counts):36}"
            f" {seconds(max(0.0, self.ended - self.began))}"
        )


def note(what: str, host: str, task: str, say: Words, detail: str = "") -> str:
    """Return the line of what came of one task on one host: `change: h1: Write it (item)`."""
    rest = f" ({host_text.line(detail)})" if detail else ""
    return f"{'':12}{say.get(what, what)}: {host_text.line(host)}: {host_text.line(task)}{rest}"


def told(text: str) -> str:
    """Return what a task says, plain, and with an empty line around what has several lines."""
    text = host_text.plain(text).rstrip().lstrip("\n")
    # Ansible's Display takes one of the last two.
    return f"\n{text}\n\n" if "\n" in text else text


def end(stats: Mapping[str, Mapping[str, int]], took: float, say: Words, check_mode: bool) -> str:
    """Return the last line: how many hosts, and what came of it on how many.

    Args:
        stats: by host, Ansible's counts `changed`, `failures`, `unreachable`, `rescued` and
            `ignored`.
        took: seconds.
    """
    count = {
        name: sum(bool(one[name]) for one in stats.values())
        for name in ("changed", "failures", "unreachable", "rescued", "ignored")
    }
    well = not count["failures"] and not count["unreachable"]
    parts = [
        _hosts(len(stats), say),
        f"{count['changed']} {_changed(say, check_mode)}",
        f"{count['failures']} {say.get('failed', 'failed')}",
        f"{count['unreachable']} {say.get('unreachable', 'unreachable')}",
    ]
    seldom = ("rescued", "ignored")
    parts += [f"{count[name]} {say.get(name, name)}" for name in seldom if count[name]]
    beginning = "done in" if well else "stopped after"
    return f"{TICKS[well]} {say.get(beginning, beginning)} {seconds(took)}: {', '.join(parts)}"


def _hosts(number: int, say: Words) -> str:
    word = "host" if number == 1 else "hosts"
    return f"{number} {say.get(word, word)}"


def _changed(say: Words, check_mode: bool) -> str:
    word = "would change" if check_mode else "changed"
    return say.get(word, word)
