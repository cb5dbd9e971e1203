"""Keep a similarity: move the nodes that cost most of it to more exact forms until the gate holds.

The nodes are ranked by what each of them adds: a probe model holds every node in FP32 and in INT8
on the same FP32 input, and one run gives the relative error of each node's own output. Then the
fewest nodes are searched that pass when they are moved to 8-bit blocks, which help where weights
have outliers; when all nodes in blocks do not pass, to INT8 weights that are multiplied in FP32,
which help where activations have; and at last to FP32. Every step is measured on the whole model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .child import Model, Setup
from .errors import ModelOpsError
from .files import remove_tree
from .forms import BLOCKWISE, FP32, WEIGHT_ONLY
from .similarity import Similarity, compare_files, worst

# Option `quality` -> figure of similarity.worst, and whether it is a lower bound.
GATES = {"cosine": ("cosine_min", True), "mse": ("mse", False), "mae": ("mae", False),
         "sqnr_db": ("sqnr_db", True)}  # fmt: skip

# So many mixes are measured for the fewest nodes; then the fewest so far are taken.
MOST_ATTEMPTS = 16

Forms = Mapping[str, str]
Figures = dict[str, float]


def check(quality: Mapping[str, Any]) -> dict[str, float]:
    """Return the thresholds as numbers.

    Raises:
        ModelOpsError: a name is unknown or a threshold is no number.
    """
    try:
        thresholds = {name: float(value) for name, value in quality.items()}
    except (TypeError, ValueError):
        thresholds = {}
    if set(thresholds) != set(quality) or set(quality) - set(GATES):
        raise ModelOpsError(
            f"quality {dict(quality)!r} is not understood",
            remedy=f"Give numbers for some of: {', '.join(GATES)}.",
        )
    return thresholds


def passes(figures: Mapping[str, float], thresholds: Mapping[str, float]) -> bool:
    """Tell whether every threshold holds; a figure that is NaN does not."""
    for name, threshold in thresholds.items():
        figure, lower = GATES[name]
        value = figures[figure]
        if math.isnan(value) or (value <= threshold if lower else value >= threshold):
            return False
    return True


class Judge:
    """Measures candidates against the outputs of the source, which is run once a sample."""

    def __init__(self, source: Path, setup: Setup, samples: int, work: Path) -> None:
        self._source, self._setup, self._work = source, setup, work
        self._samples = 1 if setup.inputs else samples
        self._rows: list[list[dict[str, Any]]] = []

    def measure(self, candidate: Path) -> Figures:
        """Return the worst similarity over samples and outputs, see similarity.worst."""
        if not self._rows:
            self._rows = [outputs for _, outputs in self._run(self._source, "reference")]
        rows: list[dict[str, Any]] = []
        for sample, outputs in self._run(candidate, "candidate"):
            found = {output["name"]: (n, output) for n, output in enumerate(outputs)}
            for number, wanted in enumerate(self._rows[sample]):
                own_number, own = found[wanted["name"]]
                if own["shape"] != wanted["shape"]:  # as of a NonZero that finds more
                    rows.append(Similarity.none())
                    continue
                rows.append(
                    compare_files(
                        self._work / f"reference-{sample}" / f"{number}.bin",
                        self._work / f"candidate-{sample}" / f"{own_number}.bin",
                        wanted["dtype"],
                        own["dtype"],
                    ).figures()
                )
            remove_tree(self._work / f"candidate-{sample}")
        return worst(rows)

    def _run(self, path: Path, kind: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        with Model(path, self._setup, self._work) as model:
            for sample in range(self._samples):
                folder = self._work / f"{kind}-{sample}"
                folder.mkdir()
                yield sample, model.run(sample, output=folder)["outputs"]


@contextmanager
def judging(source: Path, setup: Setup, samples: int) -> Iterator[Judge]:
    """Give a Judge with a temporary folder for outputs (2 GB an output of the real model)."""
    with setup.work_folder() as work:
        yield Judge(source, setup, samples, work)


def rank(probe: Path, pairs: Sequence[tuple[str, str, str]], setup: Setup) -> list[str]:
    """Return the nodes, the one with the largest relative error of its own output first.

    Args:
        probe: the model that Plan makes with `probe`.
        pairs: node, and the probe's outputs with the squared error and the squared reference;
            nodes of subgraphs have none and come last, where they move only when need be.
    """
    if not any(error for _, error, _ in pairs):
        return sorted(node for node, _, _ in pairs)
    with setup.work_folder() as work, Model(probe, setup, work) as model:
        folder = work / "sums"
        folder.mkdir()
        outputs = model.run(output=folder)["outputs"]
        sums = {
            output["name"]: float(np.fromfile(folder / f"{n}.bin", output["dtype"])[0])
            for n, output in enumerate(outputs)
        }
    errors = [
        (-_ratio(sums[error], sums[whole]) if error else 0.0, node) for node, error, whole in pairs
    ]
    return [node for _, node in sorted(errors)]


def _ratio(error: float, whole: float) -> float:
    if not math.isfinite(error):
        return math.inf
    return error / whole if whole > 0 else 0.0


def search(
    ranked: Sequence[str],
    attempt: Callable[[Forms], dict[str, Any]],
    thresholds: Mapping[str, float],
    matrices: Collection[str],
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Find the fewest of the ranked nodes to move so that the thresholds hold.

    Args:
        attempt: quantizes with these forms and measures; returns at least `figures`.
        matrices: the nodes that multiply with a matrix; the others can only go to FP32.

    Returns:
        The forms, and the path: what each attempt returned, with `moved`, the number of nodes, and
        `forms`, how many of them in which.

    Raises:
        ModelOpsError: no mix reaches the thresholds; it carries the `path`.
    """
    path: list[dict[str, Any]] = []
    in_blocks = dict.fromkeys((name for name in ranked if name in matrices), BLOCKWISE)

    def mix(names: Sequence[str], form: str) -> dict[str, str]:
        if form == FP32:
            return {**in_blocks, **dict.fromkeys(names, FP32)}
        return {name: form for name in names if name in matrices}

    def holds(names: Sequence[str], form: str) -> bool:
        forms = mix(names, form)
        path.append({"moved": len(forms), "forms": Counter(forms.values()), **attempt(forms)})
        return passes(path[-1]["figures"], thresholds)

    for form in (BLOCKWISE, WEIGHT_ONLY, FP32):
        if holds(ranked, form):
            return mix(_fewest(ranked, partial(holds, form=form)), form), path
    best = path[-1]["figures"] if path else {}
    wanted = ", ".join(f"{name} {value}" for name, value in thresholds.items())
    reached = ", ".join(f"{GATES[name][0]} {best.get(GATES[name][0])}" for name in thresholds)
    raise ModelOpsError(
        f"no mix of forms keeps the quality ({wanted}); with every node in FP32 it is {reached}",
        remedy="Lower the threshold, or give inputs that are typical for the model.",
        path=path,
    )


def _fewest(ranked: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return few names with which `holds` is true, as it is with all of them.

    The last name of the shortest prefix that passes is needed. With it, a shorter prefix of what
    stands before it may do, whose last name is needed too: a node that comes late in the ranking
    does not bring all before it along.
    """
    needed: list[str] = []
    rest, left = list(ranked), MOST_ATTEMPTS
    while rest:
        low, last = -1, len(rest)  # with the first `low` it does not pass, with `last` it does
        while last - low > 1:
            if not left:
                return [*rest[:last], *needed]
            left -= 1
            middle = (low + last) // 2
            low, last = (low, middle) if holds([*rest[:middle], *needed]) else (middle, last)
        if last == 0:
            break
        needed.insert(0, rest[last - 1])
        rest = rest[: last - 1]
    return needed
