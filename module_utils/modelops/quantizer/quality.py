"""Keep a similarity: move the nodes that cost most of it to more exact forms until the gate holds.

The nodes are ranked by what each of them adds: a probe model holds every node in FP32 and in INT8
on the same FP32 input, and one run gives the relative error of each node's own output. Then the
fewest nodes are searched that pass when they are moved to 8-bit blocks, which help where weights
have outliers; when all nodes in blocks do not pass, to INT8 weights that are multiplied in FP32,
which help where activations have; and at last to FP32. Every step is measured on the whole model.
In the recipe int4 those that need FP32 are stored in FP16 where that does. In fp16 nodes move to
FP32 alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..judging.gates import AGREEMENT, OPERATORS, QUALITY
from ..measuring import row_by_row as batch
from ..measuring.golden import Answers
from ..measuring.index_ranges import meaningful
from ..measuring.outputs import Output, compare, open_in, opened
from ..measuring.session import Model, Setup
from ..measuring.similarity import worst
from .recipes import (
    BLOCKWISE,
    FP16,
    FP32,
    HALF,
    IN_BLOCKS,
    INT4,
    INT8,
    UNPACKED,
    WEIGHT_ONLY,
)

# The forms that nodes move to by recipe, the next one where all nodes in one do not pass.
STEPS: Mapping[str, Sequence[str]] = {
    INT8: (BLOCKWISE, WEIGHT_ONLY, FP32),
    INT4: (BLOCKWISE, WEIGHT_ONLY, HALF, FP32),
    FP16: (FP32,),
}
# So many mixes are measured for the fewest nodes; then the fewest so far are taken.
MOST_ATTEMPTS = 16
# A mix that saves less than this share of what the rule's forms save is none: FP16 is simpler then.
LEAST_SAVED = 0.5

Forms = Mapping[str, str]


def check(quality: Mapping[str, Any]) -> dict[str, float]:
    """Return the thresholds as numbers.

    Raises:
        ModelOpsError: a name is unknown or a threshold is no number.
    """
    try:
        thresholds = {name: float(value) for name, value in quality.items()}
    except (TypeError, ValueError):
        thresholds = {}
    if set(thresholds) != set(quality) or set(quality) - set(QUALITY):
        raise ModelOpsError(
            f"quality {dict(quality)!r} is not understood",
            remedy=f"Give numbers for some of: {', '.join(QUALITY)}.",
        )
    return thresholds


def passes(figures: Mapping[str, float], thresholds: Mapping[str, float]) -> bool:
    """Tell whether every threshold holds; a figure that is NaN does not.

    Outputs that are not floats must agree as gates.AGREEMENT says, unless a threshold does.
    """
    wanted = {"agreement": float(AGREEMENT["threshold"]), **thresholds}
    for name, threshold in wanted.items():
        figure, op = QUALITY[name]
        value = figures.get(figure)  # None where the model has no output of that kind
        if value is not None and not OPERATORS[op](value, threshold):
            return False
    return True


class Judge:
    """Measures candidates against the outputs of the source, which is run once a sample.

    Attributes:
        answers: with `positions`, what golden data keep of the source's outputs.
        unused: the providers that were asked for and that the source's session did not use.
    """

    def __init__(
        self,
        source: Path,
        setup: Setup,
        samples: int,
        work: Path,
        stack: ExitStack,
        positions: int,
        providers: Sequence[str],
    ) -> None:
        self._source, self._setup, self._work, self._stack = source, setup, work, stack
        self._samples = setup.sample_count(samples)
        self._positions, self._providers = positions, providers
        self._reference: list[list[Output]] = []
        self._batches: dict[str, batch.Rows] = {}
        self.answers: Answers | None = None
        self.unused: list[str] = []

    def run_source(self) -> None:
        """Keep the outputs of the source.

        Raises:
            ModelOpsError: it does not load or run here with these inputs, or, with `positions`,
                gives values that are not finite.
        """
        providers = self._providers or self._setup.providers
        setup = replace(self._setup, providers=providers, pack=False)
        with Model(self._source, setup, self._work) as model:
            used = model.loaded["providers"]
            self.unused = [name for name in setup.providers if name not in used]
            answers = Answers(model, setup, self._positions) if self._positions else None
            for sample in range(self._samples):
                reply = model.run(sample, share=True, fresh=True, inspect=answers is not None)
                self._reference.append(open_in(self._stack, reply))
                if answers:
                    answers.add(sample, self._reference[-1])
            self._batches = batch.kept(model, self._stack)
        self.answers = answers

    def measure(
        self, candidate: Path, forms: Collection[str], thresholds: Mapping[str, float] | None = None
    ) -> list[dict[str, Any]]:
        """Return a row a sample and output, see outputs.compare, and those of a batch's rows.

        Args:
            forms: the candidate's.
            thresholds: go on only as long as they hold: the worst sample counts.
        """
        rows: list[dict[str, Any]] = []
        with Model(candidate, quickly(self._setup, forms), self._work) as model:
            for sample, wanted in enumerate(self._reference):
                with opened(model.run(sample, share=True)) as found:
                    # Another shape is not like: as of a NonZero that finds more.
                    rows += compare(wanted, found, sample, candidate, strict=False)
                if thresholds is not None and not passes(worst(rows), thresholds):
                    return rows
            return rows + batch.alike(self._batches, model, len(self._reference))


def quickly(setup: Setup, forms: Collection[str]) -> Setup:
    """Return the setup in which a model with these forms is soonest loaded and run a few times.

    onnxruntime unpacks INT8 weights at load on one core, and holds both. Blocks that are not packed
    it multiplies in another way, at twice the time.
    """
    return replace(setup, fold=not UNPACKED & {*forms}, pack=bool(IN_BLOCKS & {*forms}))


@contextmanager
def judging(
    source: Path,
    setup: Setup,
    samples: int,
    positions: int = 0,
    providers: Sequence[str] = (),
) -> Iterator[Judge]:
    """Give a Judge, which keeps the source's outputs in memory (2 GB each of the real model).

    Where the source takes batches, those of batches are kept too, if memory has room (row_by_row).

    Args:
        positions: values of each of them to keep for golden data; 0 keeps none.
        providers: of onnxruntime for the source; empty are those of the candidates.
    """
    setup = meaningful(setup, source)
    with setup.work_folder() as work, ExitStack() as stack:
        yield Judge(source, setup, samples, work, stack, positions, providers)


def require_saving(path: Sequence[Mapping[str, Any]], source_bytes: int) -> None:
    """Refuse a mix that keeps the quality only because hardly anything is INT8 any more.

    Args:
        path: a search's, the rule's forms first and the mix last, each with its `bytes`.

    Raises:
        ModelOpsError: it saves less than LEAST_SAVED of what the rule's forms save.
    """
    rule, mix = (source_bytes - int(path[row]["bytes"]) for row in (0, -1))
    if mix < LEAST_SAVED * rule:
        raise ModelOpsError(
            f"the forms that keep the quality save {mix:,} bytes, where the default ones save"
            f" {rule:,}",
            remedy="Lower the threshold. If this model cannot do with less, FP16 takes half of"
            " FP32's size.",
            path=list(path[1:]),
        )


def rank(probe: Path, pairs: Sequence[tuple[str, str, str]], setup: Setup) -> list[str]:
    """Return the nodes, the one with the largest relative error of its own output first.

    Args:
        probe: the model that Plan makes with `probe`.
        pairs: node, and the probe's outputs with the squared error and the squared reference;
            nodes of subgraphs have none and come last, where they move only when need be.
    """
    if not any(error for _, error, _ in pairs):
        return sorted(node for node, _, _ in pairs)
    with (
        setup.work_folder() as work,
        Model(probe, replace(setup, pack=False), work) as model,
        opened(model.run(share=True)) as outputs,
    ):
        sums = {output.name: float(output.values()[0]) for output in outputs}
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
    exacter: Forms,
    steps: Sequence[str] = STEPS[INT8],
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Find the fewest of the ranked nodes to move so that the thresholds hold.

    Args:
        attempt: quantizes with these forms and measures; returns at least `figures`.
        exacter: the nodes that are multiplied in INT8 or can be, with the form that is the next
            one to be exact: blocks for a matrix. The others can only go to FP16 or FP32.
        steps: a recipe's of STEPS.

    Returns:
        The forms, and the path: what each attempt returned, with `moved`, the number of nodes, and
        `forms`, how many of them in which. The last row is that of the forms.

    Raises:
        ModelOpsError: no mix reaches the thresholds; it carries the `path`.
    """
    path: list[dict[str, Any]] = []
    rows: dict[frozenset[tuple[str, str]], dict[str, Any]] = {}
    exact = {name: exacter[name] for name in ranked if name in exacter}

    def mix(names: Sequence[str], form: str) -> dict[str, str]:
        if form in (HALF, FP32):
            return {**exact, **dict.fromkeys(names, form)}
        return {n: exact[n] if form == BLOCKWISE else form for n in names if n in exact}

    def holds(names: Sequence[str], form: str) -> bool:
        forms = mix(names, form)
        path.append({"moved": len(forms), "forms": Counter(forms.values()), **attempt(forms)})
        rows[frozenset(forms.items())] = path[-1]
        return passes(path[-1]["figures"], thresholds)

    for form in steps:
        # The source keeps its own quality: all in FP32 is measured only when no fewer nodes do.
        if form != FP32 and not holds(ranked, form):
            continue
        found = _fewest(ranked, partial(holds, form=form))
        if form == FP32 and len(found) == len(ranked) and not holds(ranked, form):
            break
        forms = mix(found, form)
        row = rows[frozenset(forms.items())]
        return forms, path if path[-1] is row else [*path, row]
    best = path[-1]["figures"] if path else {}
    wanted = ", ".join(f"{name} {value}" for name, value in thresholds.items())
    reached = ", ".join(f"{QUALITY[name][0]} {best.get(QUALITY[name][0])}" for name in thresholds)
    raise ModelOpsError(
        f"no mix of forms keeps the quality ({wanted}); with every node in FP32 it is {reached}",
        remedy="Lower the threshold, or give inputs that are typical for the model.",
        path=path,
    )


def _fewest(ranked: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> list[str]:
    """Return few names with which `holds` is true, as it is with all of them and is not with none.

    The last name of the shortest prefix that passes is needed. With it, a shorter prefix of what
    stands before it may do, whose last name is needed too: a node that comes late in the ranking
    does not bring all before it along. A few names are enough as a rule: short prefixes come first.
    """
    needed: list[str] = []
    rest, left = list(ranked), MOST_ATTEMPTS
    low, last = 0, len(rest)  # with the first `low` it does not pass, with `last` it does
    while rest:
        while last - low > 1:
            if not left:
                return [*rest[:last], *needed]
            left -= 1
            middle = min((low + last) // 2, max(2 * low + 1, 0))
            low, last = (low, middle) if holds([*rest[:middle], *needed]) else (middle, last)
        if last == 0:
            break
        needed.insert(0, rest[last - 1])
        rest = rest[: last - 1]
        low, last = -1, len(rest)
    return needed
