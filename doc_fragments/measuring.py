"""The options of every module that runs models. Their specs: modelops.execution.options."""


class ModuleDocFragment:
    """MEASURING and what some of these modules have beside it, SESSION and SAMPLES."""

    DOCUMENTATION = r"""
options:
  seed:
    description: The seed of the inputs, 0 or more. Sample number N has the seed plus N.
    type: int
    default: 0
  ranges:
    description:
      - By name of an input, the list [low, high] that its values are drawn from evenly, both
        included.
      - Without a range, integers that choose rows of a table (Gather) are drawn from all of its
        rows, other integers from [0, 1]; booleans are fair and floats standard normal.
    type: dict
    default: {}
  shapes:
    description: By name of an input, its shape. Otherwise symbolic dimensions are 1.
    type: dict
    default: {}
  inputs:
    description: An C(.npz) file with an array for each input by its name, instead of seeded ones.
      For several samples they are called C(input/0/NAME), C(input/1/NAME) and so on, as in golden
      data. What takes one sample takes the first.
    type: path
  session_options:
    description:
      - Further options of the session. Names with a dot are config entries, others are attributes
        of C(SessionOptions), for instance C(graph_optimization_level) C(ORT_DISABLE_ALL).
      - With none, and all threads left to onnxruntime, the session is the default one, as the real
        service makes it.
    type: dict
    default: {}
  timeout_s:
    description: The limit of each single step (start, load, one run), in seconds.
    type: float
    default: 600
  work_dir:
    description: An existing folder for temporary files, the system's own by default.
    type: path
"""

    SESSION = r"""
options:
  providers:
    description: The execution providers of onnxruntime, in order of preference.
    type: list
    elements: str
    default: [CPUExecutionProvider]
  threads:
    description: Threads within an operator. 0 leaves it to onnxruntime.
    type: int
    default: 0"""

    SAMPLES = r"""
options:
  samples:
    description: How many inputs the outputs are compared on. With O(inputs) it is what they hold.
    type: int
    default: 2
"""
