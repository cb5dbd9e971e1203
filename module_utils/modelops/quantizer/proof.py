"""How a pair is proven before it gets its final names, and the forms that keep its quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.json_values import json_safe
from ..measuring import golden
from ..measuring import row_by_row as batch
from ..measuring.index_ranges import meaningful
from ..measuring.session import Setup
from ..measuring.similarity import worst
from ..pair import manifest
from .attempts import Attempts
from .plan import Plan
from .quality import STEPS, Judge, check, judging, passes, rank, require_saving, search
from .recipe import Recipe
from .recipes import BLOCKWISE, DYNAMIC, WEIGHT_ONLY
from .source import Source
from .writer import Writer


@dataclass(frozen=True)
class Proof:
    """How a result is proven before it gets its final names.

    Attributes:
        verify: check, load and run it in child processes (see verify.verify).
        quality: thresholds by name (see gates.QUALITY) that the result must keep; nodes move to
            more exact forms until it does. Empty leaves the forms to the rule. A source that does
            not run here with these inputs has none to keep, which is a note.
        required: fail when no mix of forms keeps the quality; else the rule's forms stay, and a
            note says so.
        setup: inputs and limits of the runs.
        samples: seeded inputs that the quality is measured on.
        golden: where to keep what FP32 answers, when the quality is measured; see golden.Answers.
        positions: values of each output and sample that it keeps.
        source_providers: of onnxruntime for the source; empty are those of `setup`.
    """

    verify: bool = False
    quality: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    setup: Setup = field(default_factory=Setup)
    samples: int = 2
    golden: Path | None = None
    positions: int = 1_000_000
    source_providers: Sequence[str] = ()


class Keeper:
    """Measures the quality of a pair, and finds forms that keep it where the rule's do not.

    Args:
        writer: plans and writes the pair.
        recipe: the caller's; the nodes whose form it names keep that form.
        proof: the thresholds, and how to measure.
        setup: inputs and limits of the runs, with their work folder.
        notes: where to say what the caller should know.

    Attributes:
        recipe: with the forms that an earlier search or this one found.
        thresholds: by name; empty where there is nothing to keep.
        path: the steps of the search, see quality.search; empty before something was measured.
        golden: the entry of golden data, {} where a run would make them, None where there are none.
    """

    def __init__(
        self, writer: Writer, recipe: Recipe, proof: Proof, setup: Setup, notes: list[str]
    ) -> None:
        self._writer, self._proof, self._setup, self._notes = writer, proof, setup, notes
        self.recipe, self.given_forms = recipe, dict(recipe.forms)
        self.thresholds = check(proof.quality)
        self.path: list[dict[str, Any]] = []
        self.golden: dict[str, Any] | None = None
        self._answers: golden.Answers | None = None
        self._unused: list[str] = []

    @property
    def has_answers(self) -> bool:
        """Tell whether the source ran, so that there is something to keep."""
        return self._answers is not None

    def asked(self) -> dict[str, Any]:
        """Return the recipe for the manifest; forms that a search found are not those given."""
        asked = {**self.recipe.as_dict(), "quality": dict(self.thresholds)}
        return {**asked, "given_forms": self.given_forms} if self.thresholds else asked

    def told(self) -> list[str]:
        """Return what people should know of how the quality was measured."""
        note = batch.told(self.path[-1]["rows"]) if self.path else ""
        return [note] if note else []

    def comparison(self) -> dict[str, Any]:
        """Return how alike the pair and the source are, where that was measured."""
        if not self.path:
            return {}
        last = self.path[-1]
        safe: dict[str, Any] = json_safe(
            {
                "similarity": last["figures"],
                "similarity_rows": last["rows"],
                "reference": {"providers_unused": self._unused},
            }
        )
        return safe

    def keep_answers(self, source: list[dict[str, Any]]) -> bool:
        """Write golden data, where the source ran for the quality; else foretell them.

        Args:
            source: the entries of the source's files, with their hashes.

        Returns:
            Whether other data lay there, or none.
        """
        dest, proof = self._proof.golden, self._proof
        if dest is None:
            return False
        setup = meaningful(self._setup, self._writer.src)
        meta = golden.wanted(source, proof.samples, proof.positions, setup)
        if self._answers is None:
            self.golden = manifest.describe(dest) if golden.fits(dest, meta) else {}
            return False
        written = self._answers.write(dest, meta)
        self.golden = manifest.describe(dest)
        return written

    def keep(
        self, plan: Plan, hashes: dict[Path, str], work: Path, source: Source
    ) -> tuple[Plan, dict[Path, str]]:
        """Measure the pair in `work`; where the quality does not hold, write one that keeps it."""
        proof, writer = self._proof, self._writer
        positions = proof.positions if proof.golden else 0
        with judging(
            writer.src, self._setup, proof.samples, positions, proof.source_providers
        ) as judge:
            writer.tell("measuring the similarity")
            try:
                judge.run_source()
            except ModelOpsError as error:
                self.thresholds = {}
                self._notes.append(
                    f"The quality was not measured, for the source does not run here: {error.what}"
                )
                return plan, hashes
            self._answers, self._unused = judge.answers, judge.unused
            step = _step(judge.measure(work / writer.dest.name, plan.forms), plan)
            self.path = [{"moved": 0, "forms": {}, **step}]
            if passes(step["figures"], self.thresholds):
                return plan, hashes
            first = work / writer.data.name
            with Attempts(
                work / "attempts", writer.src, plan.layout, first, writer.threads
            ) as attempts:
                forms = self._found(attempts, judge, work, source)
                self.recipe = replace(self.recipe, forms={**forms, **self.given_forms})
                plan = writer.plan(
                    self.recipe, work, layout=lambda: attempts.pair(writer.data.name)
                )
                phase = f"writing the pair, {len(forms)} nodes moved"
                return plan, writer.write(plan, work, phase)

    def _found(
        self, attempts: Attempts, judge: Judge, work: Path, source: Source
    ) -> dict[str, str]:
        """Return the forms of a search that may end without any."""
        try:
            return self._search(attempts, judge, work, source)
        except ModelOpsError as error:
            if self._proof.required or "path" not in error.facts:
                raise
            self.path += [*error.facts["path"], self.path[0]]
            self._notes.append(f"The default forms stay: {error}")
            return {}

    def _search(
        self, attempts: Attempts, judge: Judge, work: Path, source: Source
    ) -> dict[str, str]:
        """Find the forms of nodes that keep the quality."""
        writer, given = self._writer, self.given_forms
        recipe = replace(self.recipe, forms=given)
        writer.tell("ranking the nodes by their error")
        probe = writer.plan(recipe, work, probe=True, layout=attempts.layout)
        ranked = rank(attempts.write(probe), probe.probes, self._setup)
        ranked = [node for node in ranked if node not in given]
        steps = STEPS[recipe.name]
        exacter = {d.node: WEIGHT_ONLY for d in probe.decisions if d.form == DYNAMIC}
        exacter |= {d.node: BLOCKWISE for d in probe.decisions if d.elements}
        exacter = exacter if BLOCKWISE in steps else {}

        def attempt(forms: Mapping[str, str]) -> dict[str, Any]:
            writer.tell(f"measuring the similarity with {len(forms)} nodes moved")
            mix = replace(recipe, forms={**forms, **given})
            moved = writer.plan(mix, work, layout=attempts.layout)
            rows = judge.measure(attempts.write(moved), moved.forms, self.thresholds)
            return _step(rows, moved)

        forms, path = search(ranked, attempt, self.thresholds, exacter, steps)
        require_saving([self.path[0], *path], source.bytes)
        self.path += path
        return forms


def _step(rows: list[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    return {
        "figures": worst(rows),
        "rows": rows,
        "bytes": plan.bytes,
        "predicted_cost": plan.predicted_cost,
    }
