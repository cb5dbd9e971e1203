"""The options of every module whose action plugin shows how far it is."""


class ModuleDocFragment:
    """Their specs: modelops.execution.options.PROGRESS."""

    DOCUMENTATION = r"""
options:
  progress_s:
    description:
      - How often the terminal shows how far the work is, in seconds; 0 never.
      - Where it does, the work goes on in the background of the host, and outlasts a connection
        that breaks or a playbook that is stopped. In check mode and under C(async) it does not.
    type: float
    default: 5
  limit_s:
    description: The limit of all the work in the background, in seconds.
    type: int
    default: 21600
  progress_file:
    description: A file to keep with how far the work is, as JSON; removed at its end. The action
      plugin names one.
    type: path
"""
