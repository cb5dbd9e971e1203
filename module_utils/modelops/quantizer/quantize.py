"""FP32 model to INT8 pair: read, plan, stream; the final names get the whole pair or stay as is."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..base.errors import ModelOpsError
from ..base.file_lock import exclusive
from ..base.files import (
    DurableFile,
    check_destination,
    fsync_dir,
    remove,
    rename_durable,
    require_space,
    sha256_file,
)
from ..base.json_values import json_safe
from ..base.memory import peak_rss_bytes
from ..base.progress import Progress
from ..measuring import golden
from ..measuring.index_ranges import meaningful
from ..measuring.session import Setup
from ..measuring.similarity import worst
from ..model.learned import Learned, settled
from ..model.reader import read_model, unreadable, validate
from ..model.tensor_blocks import Files
from ..pair import manifest, names
from .attempts import Attempts, graph_beside
from .data_file import Layout
from .forms import BLOCKWISE, FP32
from .plan import Plan
from .quality import Judge, judging, passes, rank, require_saving, search
from .quality import check as check_quality
from .recipe import Recipe, unknown_names
from .verify import verify

# Raise it when equal input gives other bytes than before: it is one of the manifest's versions.
QUANTIZER_VERSION = "6"


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


def quantize(
    src: Path,
    dest: Path,
    recipe: Recipe,
    *,
    proof: Proof | None = None,
    threads: int = 2,
    check_mode: bool = False,
    force: bool = False,
    hash_source: bool = True,
    places: Sequence[Path] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Quantize the model `src` to the pair `dest` + `dest.data`.

    Nothing is believed from an earlier run: an existing pair is unchanged only when streaming the
    source again gives its very bytes. Check mode streams too, without writing, so that it names
    the exact result; with a quality to keep it cannot run the models, and says so in `notes`.

    Args:
        src: the FP32 graph; its weights inline or in data files of its folder.
        dest: the INT8 graph to be, ending in `.onnx`, in an existing folder.
        proof: what the result must stand before it gets its names; None asks nothing.
        threads: threads that read and quantize.
        force: write even when the pair is right already.
        hash_source: give the SHA-256 of the source, which costs one more read of it.
        places: folders that the right pair may have been moved to (see manifest.standing).
        progress: called with the phase, and the bytes of the data file done and in all.

    Returns:
        `changed`, `release_id`, `folder` (where the pair stands), `artifacts` and `source` (path,
        name, size in bytes, sha256), `quantized` (node names), `kept_fp32` (node and reason),
        `manifest`, `source_bytes`, `verified` (see verify.verify), `quality_path` (see
        quality.search), `comparison` (`similarity` and `similarity_rows` of the pair, where they
        were measured), `golden` (the entry of golden data, {} where check mode would make them,
        None where the source did not run), `notes`, `elapsed_s` without proving, and
        `peak_rss_bytes` of this process.

    Raises:
        ModelOpsError: what the source, the destination, the disk or the proof does not allow.
    """
    job = _Job(src, dest, recipe, proof or Proof(), threads, progress, places)
    with closing(job):
        return job.run(check_mode, force, hash_source)


class _Job:
    """One quantization: what is known of it so far."""

    def __init__(
        self,
        src: Path,
        dest: Path,
        recipe: Recipe,
        proof: Proof,
        threads: int,
        progress: Progress | None,
        places: Sequence[Path],
    ) -> None:
        self.started = time.monotonic()
        self.src, self.dest, self.recipe, self.proof = src, dest, recipe, proof
        self.data = dest.with_name(f"{dest.name}.data")
        self.work = dest.with_name(f".{dest.name}.part")
        self.lock = dest.with_name(f".{dest.name}.lock")
        # What the runs write goes away with the work folder, also when this process is killed.
        self.setup = (
            proof.setup if proof.setup.work_dir else replace(proof.setup, work_dir=self.work)
        )
        self.threads, self.progress = threads, progress
        self.folder, self.places = dest.parent, places
        self.thresholds = check_quality(proof.quality)
        self.given_forms = dict(recipe.forms)
        model = read_model(src, recipe.fold_inputs)
        data = validate(model, src)
        self.sources = [src, *sorted(data - {src})]
        check_destination(dest, self.data, self.sources)
        self.before = _fingerprints(self.sources)
        self.files = Files()
        self.notes = [note] if (note := unknown_names(recipe, model)) else []
        self.path: list[dict[str, Any]] = []
        self.answers: golden.Answers | None = None
        self.unused: list[str] = []
        self.golden: dict[str, Any] | None = None
        self.verified: dict[str, Any] | None = None
        self.proving_s = 0.0

    def close(self) -> None:
        self.files.close()

    def run(self, check_mode: bool, force: bool, hash_source: bool) -> dict[str, Any]:
        # The hash runs beside the work: it reads the file into the cache that the work reads from.
        if not check_mode:
            if not self.dest.parent.is_dir():  # Windows makes no folder with so long a name
                self.dest.parent.mkdir(mode=0o755)
            self._clear_up()
        with ThreadPoolExecutor(1) as background:
            hashing = {p: background.submit(_sha256, p) for p in self.sources if hash_source}
            measured = not self.thresholds or self._take_up_forms(list(hashing.values()))
            plan = self._plan(None if check_mode else self.dest.parent)
            sizes = self._sizes(plan)
            require_space(self.dest.parent, sum(sizes.values()), f"the pair {self.dest.name}")
            hashes = {self.dest: hashlib.sha256(plan.graph_bytes).hexdigest()}
            changed, would_run = True, False
            if check_mode or (self._may_be_there(sizes) and not force and measured):
                hashes[self.data] = plan.layout.stream(
                    None, self.threads, self._reporter("comparing", plan)
                )
                changed = force or not self._is_there(plan, hashes)
            if (changed or not measured) and check_mode and self.thresholds:
                would_run = True
                self.notes.append(
                    "Check mode runs no model: nodes may still move to keep the quality."
                )
            if (changed or not measured) and not check_mode:
                plan, hashes, changed = self._write(plan, list(hashing.values()), force)
                sizes = self._sizes(plan)
            source_hashes = {path: future.result() for path, future in hashing.items()}
            if would_run:
                self._keep_answers(list(source_hashes.values()))
        _require_unchanged(self.before)
        return self._result(changed, plan, sizes, hashes, source_hashes)

    def _result(
        self,
        changed: bool,
        plan: Plan,
        sizes: Mapping[Path, int],
        hashes: Mapping[Path, str],
        source_hashes: Mapping[Path, str],
    ) -> dict[str, Any]:
        artifacts = [_entry(self.folder / p.name, sizes[p], hashes[p]) for p in sizes]
        source = [_entry(p, p.stat().st_size, source_hashes.get(p)) for p in self.sources]
        decisions = [decision.as_dict() for decision in plan.decisions]
        quantized = [d["node"] for d in decisions if d["form"] != FP32]
        if not quantized:
            self.notes.append("No node was quantized; kept_fp32 says why.")
        self.notes += [
            f"{d.node} cannot be {self.given_forms[d.node]}, so it is {d.form}: {d.reason}."
            for d in plan.decisions
            if self.given_forms.get(d.node, d.form) != d.form
        ]
        return {
            "changed": changed,
            "release_id": manifest.release_id(artifacts),
            "folder": str(self.folder),
            "artifacts": artifacts,
            "source": source,
            "source_bytes": sum(int(entry["size"]) for entry in source),
            "quantized": quantized,
            "kept_fp32": [
                {"node": d["node"], "op": d["op"], "reason": d["reason"]}
                for d in decisions
                if d["form"] == FP32
            ],
            "manifest": manifest.build(artifacts, source, self._asked(), decisions, versions()),
            "verified": self.verified,
            "quality_path": [{k: row[k] for k in row if k != "rows"} for row in self.path],
            "comparison": self._comparison(),
            "golden": self.golden,
            "notes": self.notes,
            "elapsed_s": round(time.monotonic() - self.started - self.proving_s, 3),
            "peak_rss_bytes": peak_rss_bytes(),
        }

    def _comparison(self) -> dict[str, Any]:
        """Return how alike the pair and the source are, where that was measured."""
        if not self.path:
            return {}
        last = self.path[-1]
        safe: dict[str, Any] = json_safe(
            {
                "similarity": last["figures"],
                "similarity_rows": last["rows"],
                "reference": {"providers_unused": self.unused},
            }
        )
        return safe

    def _keep_answers(self, hashes: Sequence[str]) -> None:
        """Write golden data, where the source ran for the quality; in check mode foretell them."""
        dest, proof = self.proof.golden, self.proof
        if dest is None or not hashes:
            return
        source = [
            _entry(path, path.stat().st_size, sha256)
            for path, sha256 in zip(self.sources, hashes, strict=True)
        ]
        setup = meaningful(self.setup, self.src)
        meta = golden.wanted(source, proof.samples, proof.positions, setup)
        there = golden.fits(dest, meta)
        if not there and self.answers is not None:
            self.answers.write(dest, meta)
            there = True
        self.golden = manifest.describe(dest) if there else {}

    def _plan(
        self,
        scratch: Path | None,
        probe: bool = False,
        layout: Callable[[], Layout] | None = None,
    ) -> Plan:
        def made(learned: Learned, probe: bool = False) -> Plan:
            where = layout() if layout else Layout(self.data.name)
            model = read_model(self.src, self.recipe.fold_inputs)
            return Plan(model, self.src, where, self.recipe, self.files, scratch, probe, learned)

        plan = settled(made)
        return made(plan.learned, probe=True) if probe else plan

    def _asked(self) -> dict[str, Any]:
        """Return the recipe for the manifest; forms that a search found are not those given."""
        asked = {**self.recipe.as_dict(), "quality": dict(self.thresholds)}
        return {**asked, "given_forms": self.given_forms} if self.thresholds else asked

    def _sizes(self, plan: Plan) -> dict[Path, int]:
        return {self.dest: len(plan.graph_bytes), self.data: plan.layout.size}

    def _take_up_forms(self, hashing: Sequence[Future[str]]) -> bool:
        """Begin with the forms that an earlier search found for this very source and recipe.

        Returns:
            Whether there was one: its pair, if it is there, keeps the quality.
        """
        try:
            model = names.model_of([{"name": self.dest.name}])
            known = manifest.load(manifest.find(self.dest.parent, model))
        except ModelOpsError:
            return False
        recipe = dict(known["recipe"])
        forms = recipe.pop("forms", {})
        asked = self._asked()
        asked.pop("forms")
        if recipe != asked or known["versions"] != versions():
            return False
        # Only now, since it takes a while: the hashes of the source go on beside the work.
        if {entry["sha256"] for entry in known["source"]} != {f.result() for f in hashing}:
            return False
        self.recipe = replace(self.recipe, forms=forms)
        return True

    def _clear_up(self) -> None:
        """Remove what a killed run left behind, also when this one has nothing to write."""
        if self.work.exists() or self.lock.exists():
            with exclusive(self.lock, f"clearing up for {self.dest.name}"):
                shutil.rmtree(self.work, ignore_errors=True)
                remove(graph_beside(self.src))

    def _write(
        self, plan: Plan, readings: list[Future[str]], force: bool
    ) -> tuple[Plan, dict[Path, str], bool]:
        """Write, prove and publish what is not there already.

        Returns:
            The plan that was written, its files' hashes, and whether it was published.
        """
        work = self.work
        with (
            _disk_errors_named(self.dest.parent),
            exclusive(self.lock, f"writing {self.dest.name}"),
        ):
            try:
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                graph, data = work / self.dest.name, work / self.data.name
                hashes = self._write_pair(plan, work, "quantizing")
                proving = time.monotonic()
                if self.thresholds:
                    plan, hashes = self._keep_quality(plan, hashes, work)
                if self.proof.verify:
                    self._tell("loading and running the pair")
                    setup = replace(self.setup, pack=BLOCKWISE in plan.forms)
                    self.verified = verify(graph, self.src, setup)
                self.proving_s = time.monotonic() - proving
                for reading in readings:  # a source that cannot be read to its end gives no pair
                    reading.result()
                _require_unchanged(self.before)
                if self.answers is not None:
                    self._keep_answers([reading.result() for reading in readings])
                if not force and self._is_there(plan, hashes):
                    return plan, hashes, False
                # New data under an old graph would load and answer nonsense: it goes first.
                remove(self.dest)
                fsync_dir(self.dest.parent)
                rename_durable(data, self.data)
                rename_durable(graph, self.dest)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return plan, hashes, True

    def _is_there(self, plan: Plan, hashes: Mapping[Path, str]) -> bool:
        """Tell whether the pair stands somewhere already: a search may end where it began."""
        wanted = [_entry(p, size, hashes[p]) for p, size in self._sizes(plan).items()]
        found = manifest.standing(self.dest.parent, self.places, wanted)
        self.folder = found or self.dest.parent
        return found is not None

    def _may_be_there(self, sizes: Mapping[Path, int]) -> bool:
        """Tell whether files of the pair's sizes stand somewhere: hashing them is worth it."""
        wanted = [_entry(p, size, None) for p, size in sizes.items()]
        found = manifest.standing(self.dest.parent, self.places, wanted, verified=False)
        return found is not None

    def _write_pair(self, plan: Plan, work: Path, phase: str) -> dict[Path, str]:
        with DurableFile(work / self.data.name) as out:
            digest = plan.layout.stream(out, self.threads, self._reporter(phase, plan))
            self._tell("making the data durable")
        with (work / self.dest.name).open("wb") as out:
            out.write(plan.graph_bytes)
            out.flush()
            os.fsync(out.fileno())
        graph_digest = hashlib.sha256(plan.graph_bytes).hexdigest()
        return {self.dest: graph_digest, self.data: digest}

    def _keep_quality(
        self, plan: Plan, hashes: dict[Path, str], work: Path
    ) -> tuple[Plan, dict[Path, str]]:
        """Measure the pair in `work`; where the quality does not hold, write one that keeps it."""
        proof = self.proof
        positions = proof.positions if proof.golden else 0
        with judging(
            self.src, self.setup, proof.samples, positions, proof.source_providers
        ) as judge:
            self._tell("measuring the similarity")
            try:
                judge.run_source()
            except ModelOpsError as error:
                self.thresholds = {}
                self.notes.append(
                    f"The quality was not measured, for the source does not run here: {error.what}"
                )
                return plan, hashes
            self.answers, self.unused = judge.answers, judge.unused
            step = self._step(judge.measure(work / self.dest.name, plan.forms), plan)
            self.path = [{"moved": 0, "forms": {}, **step}]
            if passes(step["figures"], self.thresholds):
                return plan, hashes
            first = work / self.data.name
            with Attempts(
                work / "attempts", self.src, plan.layout, first, self.threads
            ) as attempts:
                forms = self._found(attempts, judge, work)
                self.recipe = replace(self.recipe, forms={**forms, **self.given_forms})
                plan = self._plan(work, layout=lambda: attempts.pair(self.data.name))
                phase = f"writing the pair, {len(forms)} nodes moved"
                return plan, self._write_pair(plan, work, phase)

    def _found(self, attempts: Attempts, judge: Judge, work: Path) -> dict[str, str]:
        """Return the forms of a search that may end without any."""
        try:
            return self._search(attempts, judge, work)
        except ModelOpsError as error:
            if self.proof.required or "path" not in error.facts:
                raise
            self.path += [*error.facts["path"], self.path[0]]
            self.notes.append(f"The default forms stay: {error}")
            return {}

    def _search(self, attempts: Attempts, judge: Judge, work: Path) -> dict[str, str]:
        """Find the forms of nodes that keep the quality."""
        self.recipe = replace(self.recipe, forms=self.given_forms)
        self._tell("ranking the nodes by their error")
        probe = self._plan(work, probe=True, layout=attempts.layout)
        ranked = rank(attempts.write(probe), probe.probes, self.setup)
        ranked = [node for node in ranked if node not in self.given_forms]
        matrices = {d.node for d in probe.decisions if d.elements}

        def attempt(forms: Mapping[str, str]) -> dict[str, Any]:
            self._tell(f"measuring the similarity with {len(forms)} nodes moved")
            self.recipe = replace(self.recipe, forms={**forms, **self.given_forms})
            moved = self._plan(work, layout=attempts.layout)
            rows = judge.measure(attempts.write(moved), moved.forms, self.thresholds)
            return self._step(rows, moved)

        forms, path = search(ranked, attempt, self.thresholds, matrices)
        source_bytes = sum(source.stat().st_size for source in self.sources)
        require_saving([self.path[0], *path], source_bytes)
        self.path += path
        return forms

    @staticmethod
    def _step(rows: list[dict[str, Any]], plan: Plan) -> dict[str, Any]:
        return {
            "figures": worst(rows),
            "rows": rows,
            "bytes": plan.bytes,
            "predicted_cost": plan.predicted_cost,
        }

    def _reporter(self, phase: str, plan: Plan) -> Callable[[int], None] | None:
        progress, total = self.progress, plan.layout.size
        return None if progress is None else lambda done: progress(phase, done, total)

    def _tell(self, phase: str) -> None:
        if self.progress is not None:
            self.progress(phase, 0, 0)


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes the bits."""
    return {"quantizer": QUANTIZER_VERSION, "onnx": onnx.__version__, "numpy": np.__version__}


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    """Say of a write that failed where and why: the system's own error often names no file."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelOpsError(
                "the disk became full while the INT8 pair was written",
                where=folder,
                remedy="Free space and run again; no half-written file has a final name.",
            ) from None
        raise ModelOpsError(
            f"the INT8 pair cannot be written ({error.strerror or error})",
            where=error.filename or folder,
            remedy="Check the permissions and the disk (dmesg, smartctl), and run again; no"
            " half-written file has a final name.",
        ) from None


def _fingerprints(paths: list[Path]) -> dict[Path, tuple[int, ...]]:
    stats = {path: path.stat() for path in paths}
    return {p: (s.st_size, s.st_mtime_ns, s.st_ino) for p, s in stats.items()}


def _require_unchanged(before: Mapping[Path, tuple[int, ...]]) -> None:
    for path, fingerprint in _fingerprints(list(before)).items():
        if fingerprint != before[path]:
            raise ModelOpsError(
                "the source changed while it was read",
                where=path,
                remedy="Let nothing write to the model during the run, and run again.",
            )


def _entry(path: Path, size: int, sha256: str | None) -> dict[str, Any]:
    return {"path": str(path), "name": path.name, "size": size, "sha256": sha256}
