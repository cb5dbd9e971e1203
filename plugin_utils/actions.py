"""How the module of each action plugin is run: what they differ in, in one place.

Ansible finds an action by a file of the module's name, outside of collections by nothing else. So
there is a file for each, with the same lines but where an action has steps of its own.
"""

from __future__ import annotations

from typing import NamedTuple


class How(NamedTuple):
    """How a module is run.

    Attributes:
        background: on Windows as a job, which no memory quota and no lost connection of WinRM ends.
        shown: the option that names the file it is about: with it, its progress is shown on Linux,
            too.
        posix_only: why it cannot run on Windows at all.
        hidden: the options that may hold an owner's secret, as what he starts his service with or
            asks it. `no_log` is not for them: it blots each value, a 1 too, out of what is said.
    """

    background: bool = False
    shown: str = ""
    posix_only: str = ""
    hidden: tuple[str, ...] = ()


HOW = {
    "acceptance_evaluation": How(
        posix_only="the service is a Linux target's.", hidden=("question",)
    ),
    "acceptance_figures": How(posix_only="samples are a Linux target's."),
    "acceptance_report": How(posix_only="the page is the controller's."),
    "artifact_copy": How(background=True),
    "artifact_manifest": How(background=True),
    "artifact_push": How(),  # in two steps of its own
    "builder_check": How(background=True),
    "config_read": How(posix_only="a configuration is a Linux target's."),
    "host_check": How(),
    "host_diagnosis": How(posix_only="it reads /proc and the journal."),
    "host_lock": How(),
    "model_release": How(
        posix_only="a release is for a Linux target, whose renames, locks and timers it relies on."
        " Put this host into the group builder, not targets.",
        hidden=("config", "previous", "watch"),
    ),
    "onnx_advise": How(background=True),
    "onnx_benchmark": How(background=True),
    "onnx_compare": How(background=True, shown="candidate"),
    "onnx_golden": How(background=True, shown="dest"),
    "onnx_quantize": How(background=True, shown="dest"),
    "python_venv": How(background=True),
    "release_key": How(posix_only="keys are the controller's."),
    "release_report": How(posix_only="the report is the controller's."),
    "release_sign": How(posix_only="the controller signs."),
    "release_trust": How(posix_only="a release is for a Linux target."),
    "root_helper": How(posix_only="it asks for what root does on a Linux target."),
    "sample_model": How(background=True),
    "service_answer": How(posix_only="it asks systemd.", hidden=("body",)),
    "service_health": How(posix_only="it reads /proc.", hidden=("commands", "question")),
    "support_archive": How(posix_only="the archive is the controller's."),
}
