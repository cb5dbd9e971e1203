"""Measures ONNX models, each in a fresh child process of its own.

A child is a new interpreter that runs session_program.py, so its memory figures are the model's and
not this process's, and its death (out of memory, a crash in a kernel) is an error and not ours.

Times are wall-clock seconds, sizes are bytes. Percentiles are linearly interpolated between the
closest ranks (Hyndman and Fan's type 7, numpy's default); of few runs, P95 and P99 say little.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.processor import cpu
from . import row_by_row
from .child import Child
from .index_ranges import meaningful
from .outputs import Output, open_in, opened
from .outputs import compare as outputs_alike
from .session import Model, Setup
from .similarity import worst

__all__ = ["Setup", "benchmark", "compare", "figures", "versions"]

CONFIDENCE = 0.95


def percentile(values: Sequence[float], share: float) -> float:
    """Return the percentile (`share` of 1) of values by linear interpolation (type 7).

    With n sorted values x[0..n-1] and h = (n - 1) * share: x[floor(h)] plus the fraction of h times
    the step to the next value.
    """
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval that holds the median with 95 % confidence.

    The sign test's interval between order statistics, which assumes nothing of the noise: the
    k-th smallest to the k-th largest value, k the largest with 2 P(Binomial(n, 1/2) < k) <= 5 %.
    Of two to five values it is the smallest to the largest, which hold it with 50 to 94 %. One
    value tells nothing of the noise: zero to infinity (values are ratios of times).
    """
    if len(values) < 2:
        return 0.0, math.inf
    ordered = sorted(values)
    n, k, tail = len(ordered), 0, 0.0
    while 2 * (tail + math.comb(n, k) / 2**n) <= 1 - CONFIDENCE:
        tail += math.comb(n, k) / 2**n
        k += 1
    k = max(1, k)
    return ordered[k - 1], ordered[n - k]


def versions(setup: Setup) -> dict[str, str]:
    """Return the versions of onnxruntime and numpy that a child would use.

    Raises:
        ModelOpsError: they cannot be imported.
    """
    with setup.work_folder() as work, Child("onnxruntime", work, setup.timeout_s) as child:
        return dict(child.ask("start")["versions"])


def benchmark(
    path: Path, runs: int = 5, warmup: int = 1, setup: Setup | None = None
) -> dict[str, Any]:
    """Measure one model in a fresh process, always on the same inputs.

    Args:
        runs: timed runs, 1 or more.
        warmup: runs before that do not count, 0 or more.

    Returns:
        `load_s`; `first_s`, of the very first run; `p50_s`, `p95_s`, `p99_s` and the `samples` of
        the timed runs; `peak_rss_bytes` of the whole process, its `memory_over_time`
        (see session_memory), and `rss_model_bytes`, what it grew
        by since onnxruntime was imported (weights, inputs, outputs, scratch); `output_bytes`;
        `rss_without_output_bytes`, the peak less those, as the real model's are 2 GB; the
        `providers` that the session really uses and the `providers_unused` of those asked for;
        `finite` (all outputs); `repeatable` (the first and the last run gave the same bytes);
        `versions` {onnxruntime, numpy}; `cpu` (processor.cpu).

    Raises:
        ModelOpsError: the model cannot be loaded or run, or a limit was passed.
    """
    _require_count("runs", runs, 1)
    _require_count("warmup", warmup, 0)
    setup = meaningful(setup or Setup(), path)
    with setup.work_folder() as work, Model(path, setup, work) as model:
        total = warmup + runs
        for number in range(total):
            model.run(timed=number >= warmup, inspect=number in (0, total - 1))
        if total == 1:
            model.run(inspect=True)
        return _figures(model)


def compare(
    reference: Path,
    candidate: Path,
    *,
    samples: int = 2,
    runs: int = 5,
    setup: Setup | None = None,
    interleave: bool = True,
    more_rounds: int = 0,
    settled: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    reference_setup: Setup | None = None,
) -> dict[str, Any]:
    """Measure two models against each other.

    Outputs are compared on the inputs of `samples` seeds; then come timed runs in the order
    A B, B A, A B, ... so that noise hits both alike. While `settled` says no, as many pairs
    as there are already are added, at most `more_rounds` times. Models that take batches are
    compared on those at last (row_by_row).

    Args:
        samples: with `setup.inputs` there are those of the file, whatever this says.
        runs: pairs of timed runs of the first round.
        interleave: both models are in memory at once; else one after the other.
        settled: is given the comparison as it is so far.
        reference_setup: of the reference, where it is measured in another way than the candidate.

    Returns:
        `similarity` (see similarity.worst), `similarity_rows` (one an output and sample),
        `reference` and `candidate` (see `benchmark`), `speedup` {value, low, high}: the
        reference's P50 by the candidate's, between the ends of the 95 % interval of the median of
        the pairs' ratios; `rss_ratio` and `load_ratio`: the candidate's by the reference's.

    Raises:
        ModelOpsError: as `benchmark`, or the models' inputs or outputs differ.
    """
    _require_count("samples", samples, 1)
    _require_count("runs", runs, 1)
    setup = meaningful(setup or Setup(), reference)
    if reference_setup:
        reference_setup = replace(reference_setup, ranges=setup.ranges)
    samples = setup.sample_count(samples)
    with setup.work_folder() as work:

        def models() -> tuple[Model, Model]:
            return Model(reference, reference_setup or setup, work), Model(candidate, setup, work)

        with contextlib.ExitStack() as loaded:
            pair = _Pair(*models(), loaded, interleave)
            pair.first_round(samples, runs)
            result = pair.result()
            for _ in range(more_rounds):
                if settled(result):
                    break
                pair.time(len(pair.reference.seconds))
                result = pair.result()
        # Later and in processes of their own: neither the peak nor the times are those of batches.
        if row_by_row.kinds(pair.reference):
            rows = [*result["similarity_rows"], *row_by_row.between(*models(), samples)]
            result |= {"similarity": worst(rows), "similarity_rows": rows}
        return result


def figures(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return what gates can judge in a comparison.

    Those are the figures of `similarity`, `speedup`, `rss_ratio`, `load_ratio`, and each number or
    truth value of a benchmark as `reference_NAME` and `candidate_NAME`.
    """
    flat = dict(comparison["similarity"])
    ratios = ("speedup", "rss_ratio", "load_ratio")
    flat |= {name: comparison[name] for name in ratios if name in comparison}
    for side in ("reference", "candidate"):
        measured = comparison.get(side, {})
        numbers = {k: v for k, v in measured.items() if isinstance(v, int | float)}
        flat |= {f"{side}_{name}": value for name, value in numbers.items()}
    return flat


class _Pair:
    """Two models that are compared, and the rows of their similarity."""

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        stack: contextlib.ExitStack,
        interleave: bool,
    ) -> None:
        self.reference, self.candidate = reference, candidate
        self._stack, self._interleave = stack, interleave
        self._rows: list[dict[str, Any]] = []

    def first_round(self, samples: int, runs: int) -> None:
        """Compare the outputs of each sample, and time so many pairs of runs."""
        if self._interleave:
            self._first_round_interleaved(samples, runs)
        else:
            self._first_round_in_turn(samples, runs)

    def time(self, runs: int) -> None:
        """Time so many pairs of runs more."""
        if self._interleave:
            self._time_interleaved(runs)
        else:
            self._time_in_turn(runs)

    def _first_round_interleaved(self, samples: int, runs: int) -> None:
        for model in (self.reference, self.candidate):
            self._stack.enter_context(model)
        self._require_alike()
        for sample in range(samples):
            with opened(self.reference.run(sample, inspect=True, share=True)) as outputs:
                self._run_candidate(sample, outputs)
        self._time_interleaved(runs)

    def _time_interleaved(self, runs: int) -> None:
        for number in range(runs):
            both = (self.reference, self.candidate)
            for model in both if number % 2 == 0 else reversed(both):
                model.run(timed=True, inspect=number == runs - 1)

    def _first_round_in_turn(self, samples: int, runs: int) -> None:
        """Never have both models in memory; the reference's outputs stay there meanwhile."""
        kept = []
        with self.reference:
            self.reference.run(inspect=True)
            _time(self.reference, runs)
            for sample in range(samples):  # the last runs: each leaves its outputs as they are
                reply = self.reference.run(sample, inspect=True, share=True, fresh=sample > 0)
                kept.append(open_in(self._stack, reply))
        with self.candidate:
            self._require_alike()
            for sample, outputs in enumerate(kept):
                self._run_candidate(sample, outputs)
            _time(self.candidate, runs)

    def _time_in_turn(self, runs: int) -> None:
        for model in (self.reference, self.candidate):
            with model:
                model.run()
                _time(model, runs)

    def result(self) -> dict[str, Any]:
        reference, candidate = _figures(self.reference), _figures(self.candidate)
        pairs = zip(self.reference.seconds, self.candidate.seconds, strict=True)
        value = reference["p50_s"] / candidate["p50_s"]
        low, high = median_interval([r / c for r, c in pairs])
        return {
            "similarity": worst(self._rows),
            "similarity_rows": self._rows,
            "reference": reference,
            "candidate": candidate,
            "speedup": {"value": value, "low": min(low, value), "high": max(high, value)},
            "rss_ratio": candidate["peak_rss_bytes"] / reference["peak_rss_bytes"],
            "load_ratio": candidate["load_s"] / reference["load_s"],
        }

    def _run_candidate(self, sample: int, reference: Sequence[Output]) -> None:
        """Run the candidate and add the rows of its similarity."""
        with opened(self.candidate.run(sample, inspect=True, share=True)) as outputs:
            self._rows += outputs_alike(reference, outputs, sample, self.candidate.path)

    def _require_alike(self) -> None:
        """Refuse models that do not take the same inputs and give the same outputs."""
        for kind, fields in (("inputs", ("name", "dtype")), ("outputs", ("name",))):
            wanted, found = (
                sorted([row[field] for field in fields] for row in model.loaded[kind])
                for model in (self.reference, self.candidate)
            )
            if wanted != found:
                raise ModelOpsError(
                    f"its {kind} are {found}, those of {self.reference.path} are {wanted}",
                    where=self.candidate.path,
                    remedy="Compare a model with one made from it.",
                )


def _time(model: Model, runs: int) -> None:
    for number in range(runs):
        model.run(timed=True, inspect=number == runs - 1)


def _figures(model: Model) -> dict[str, Any]:
    """Return the figures of a model's runs so far, see `benchmark`."""
    used = model.loaded["providers"]
    return {
        "path": str(model.path),
        "load_s": model.loaded["load_s"],
        "first_s": model.first_s,
        "p50_s": percentile(model.seconds, 0.50),
        "p95_s": percentile(model.seconds, 0.95),
        "p99_s": percentile(model.seconds, 0.99),
        "samples": list(model.seconds),
        "peak_rss_bytes": model.peak_rss_bytes,
        "rss_model_bytes": model.peak_rss_bytes - model.started["rss_before_bytes"],
        "memory_over_time": model.memory_over_time,
        "output_bytes": model.output_bytes,
        "rss_without_output_bytes": model.peak_rss_bytes - model.output_bytes,
        "providers": used,
        "providers_unused": [name for name in model.setup.providers if name not in used],
        "finite": model.finite,
        "repeatable": model.repeatable,
        "versions": model.started["versions"],
        "cpu": cpu(),
    }


def _require_count(name: str, value: int, least: int) -> None:
    if value < least:
        raise ModelOpsError(f"{name} is {value}", remedy=f"Use {least} or more.")
