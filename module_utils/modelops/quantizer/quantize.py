"""FP32 model to INT8 pair: read, plan, stream; the final names get the whole pair or stay as is."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..base.errors import ModelOpsError
from ..base.file_lock import exclusive
from ..base.files import (
    check_destination,
    fsync_dir,
    remove,
    rename_durable,
    require_space,
)
from ..base.memory import peak_rss_bytes
from ..base.progress import Progress
from ..model.reader import read_model, validate
from ..pair import manifest, names
from .attempts import graph_beside
from .plan import Plan
from .proof import Keeper, Proof
from .recipe import Recipe, unknown_names
from .recipes import FP32, IN_BLOCKS
from .source import Source, entry, sha256_of
from .verify import verify
from .writer import Writer

# Raise it when equal input gives other bytes than before: it is one of the manifest's versions.
QUANTIZER_VERSION = "9"


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
        `form_sizes` (bytes of the weights before and now, by form),
        `manifest`, `source_bytes`, `verified` (see verify.verify), `quality_path` (see
        quality.search), `comparison` (`similarity` and `similarity_rows` of the pair, where they
        were measured), `golden` (the entry of golden data, {} where check mode would make them,
        None where the source did not run), `notes`, `elapsed_s` without proving, and
        `peak_rss_bytes` of this process.

    Raises:
        ModelOpsError: what the source, the destination, the disk or the proof does not allow.
    """
    with closing(Writer(src, dest, threads, progress)) as writer:
        job = _Job(writer, recipe, proof or Proof(), places)
        return job.run(check_mode, force, hash_source)


class _Job:
    """One quantization: what is known of it so far."""

    def __init__(
        self,
        writer: Writer,
        recipe: Recipe,
        proof: Proof,
        places: Sequence[Path],
    ) -> None:
        self.started = time.monotonic()
        self.writer, self.proof = writer, proof
        self.dest = dest = writer.dest
        self.work = dest.with_name(f".{dest.name}.part")
        self.lock = dest.with_name(f".{dest.name}.lock")
        # What the runs write goes away with the work folder, also when this process is killed.
        self.setup = (
            proof.setup if proof.setup.work_dir else replace(proof.setup, work_dir=self.work)
        )
        self.folder, self.places = dest.parent, places
        self.notes: list[str] = []
        self.keeper = Keeper(writer, recipe, proof, self.setup, self.notes)
        model = read_model(writer.src, recipe.fold_inputs)
        self.source = Source(writer.src, validate(model, writer.src))
        check_destination(dest, writer.data, self.source.paths)
        self.notes += [note] if (note := unknown_names(recipe, model)) else []
        self.verified: dict[str, Any] | None = None
        self.proving_s = 0.0

    def run(self, check_mode: bool, force: bool, hash_source: bool) -> dict[str, Any]:
        # The hash runs beside the work: it reads the file into the cache that the work reads from.
        if not check_mode:
            if not self.dest.parent.is_dir():  # Windows makes no folder with so long a name
                self.dest.parent.mkdir(mode=0o755)
            self._clear_up()
        keeper, writer = self.keeper, self.writer
        with ThreadPoolExecutor(1) as background:
            hashing = {p: background.submit(sha256_of, p) for p in self.source.paths if hash_source}
            measured = not keeper.thresholds or self._take_up_forms(hashing)
            plan = writer.plan(keeper.recipe, None if check_mode else self.dest.parent)
            sizes = writer.sizes(plan)
            require_space(self.dest.parent, sum(sizes.values()), f"the pair {self.dest.name}")
            hashes: dict[Path, str] = {}
            changed, would_run = True, False
            if check_mode or (self._may_be_there(sizes) and not force and measured):
                hashes = writer.hashes(plan)
                changed = force or not self._is_there(plan, hashes)
            if (changed or not measured) and check_mode and keeper.thresholds:
                would_run = True
                self.notes.append(
                    "Check mode runs no model: nodes may still move to keep the quality."
                )
            if (changed or not measured) and not check_mode:
                plan, hashes, changed = self._write(plan, hashing, force)
            source_hashes = _results(hashing)
            if would_run and source_hashes:
                keeper.keep_answers(self.source.entries(source_hashes))
        self.source.require_unchanged()
        return self._result(changed, plan, hashes, source_hashes)

    def _result(
        self,
        changed: bool,
        plan: Plan,
        hashes: Mapping[Path, str],
        source_hashes: Mapping[Path, str],
    ) -> dict[str, Any]:
        sizes = self.writer.sizes(plan)
        artifacts = [entry(self.folder / p.name, sizes[p], hashes[p]) for p in sizes]
        source, given = self.source.entries(source_hashes), self.keeper.given_forms
        decisions = [decision.as_dict() for decision in plan.decisions]
        quantized = [d["node"] for d in decisions if d["form"] != FP32]
        if not quantized:
            self.notes.append("No node was quantized; kept_fp32 says why.")
        self.notes += [
            f"{d.node} cannot be {given[d.node]}, so it is {d.form}: {d.reason}."
            for d in plan.decisions
            if given.get(d.node, d.form) != d.form
        ]
        asked = self.keeper.asked()
        return {
            "changed": changed,
            "release_id": manifest.release_id(artifacts),
            "folder": str(self.folder),
            "artifacts": artifacts,
            "source": source,
            "source_bytes": sum(int(file["size"]) for file in source),
            "quantized": quantized,
            "kept_fp32": [
                {"node": d["node"], "op": d["op"], "reason": d["reason"]}
                for d in decisions
                if d["form"] == FP32
            ],
            "form_sizes": {form: list(both) for form, both in plan.sizes.by_form.items()},
            "manifest": manifest.build(artifacts, source, asked, decisions, versions()),
            "verified": self.verified,
            "quality_path": [{k: row[k] for k in row if k != "rows"} for row in self.keeper.path],
            "comparison": self.keeper.comparison(),
            "golden": self.keeper.golden,
            "notes": self.notes,
            "elapsed_s": round(time.monotonic() - self.started - self.proving_s, 3),
            "peak_rss_bytes": peak_rss_bytes(),
        }

    def _take_up_forms(self, hashing: Mapping[Path, Future[str]]) -> bool:
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
        asked = self.keeper.asked()
        asked.pop("forms")
        if recipe != asked or known["versions"] != versions():
            return False
        # Only now, since it takes a while: the hashes of the source go on beside the work.
        if {file["sha256"] for file in known["source"]} != {*_results(hashing).values()}:
            return False
        self.keeper.recipe = replace(self.keeper.recipe, forms=forms)
        return True

    def _clear_up(self) -> None:
        """Remove what a killed run left behind, also when this one has nothing to write."""
        if self.work.exists() or self.lock.exists():
            with exclusive(self.lock, f"clearing up for {self.dest.name}"):
                shutil.rmtree(self.work, ignore_errors=True)
                remove(graph_beside(self.writer.src))

    def _write(
        self, plan: Plan, hashing: Mapping[Path, Future[str]], force: bool
    ) -> tuple[Plan, dict[Path, str], bool]:
        """Write, prove and publish what is not there already.

        Returns:
            The plan that was written, its files' hashes, and whether it was published, or golden
            data were.
        """
        work, writer, keeper = self.work, self.writer, self.keeper
        with (
            _disk_errors_named(self.dest.parent),
            exclusive(self.lock, f"writing {self.dest.name}"),
        ):
            try:
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                graph, data = work / self.dest.name, work / writer.data.name
                hashes = writer.write(plan, work, "quantizing")
                proving = time.monotonic()
                if keeper.thresholds:
                    plan, hashes = keeper.keep(plan, hashes, work, self.source)
                    self.notes += keeper.told()
                if self.proof.verify:
                    writer.tell("loading and running the pair")
                    setup = replace(self.setup, pack=bool(plan.forms & IN_BLOCKS))
                    self.verified = verify(graph, writer.src, setup)
                self.proving_s = time.monotonic() - proving
                # A source that cannot be read to its end gives no pair.
                source_hashes = _results(hashing)
                self.source.require_unchanged()
                kept = False
                if keeper.has_answers and source_hashes:
                    kept = keeper.keep_answers(self.source.entries(source_hashes))
                if not force and self._is_there(plan, hashes):
                    return plan, hashes, kept
                # New data under an old graph would load and answer nonsense: it goes first.
                remove(self.dest)
                fsync_dir(self.dest.parent)
                rename_durable(data, writer.data)
                rename_durable(graph, self.dest)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return plan, hashes, True

    def _is_there(self, plan: Plan, hashes: Mapping[Path, str]) -> bool:
        """Tell whether the pair stands somewhere already: a search may end where it began."""
        wanted = [entry(p, size, hashes[p]) for p, size in self.writer.sizes(plan).items()]
        found = manifest.standing(self.dest.parent, self.places, wanted)
        self.folder = found or self.dest.parent
        return found is not None

    def _may_be_there(self, sizes: Mapping[Path, int]) -> bool:
        """Tell whether files of the pair's sizes stand somewhere: hashing them is worth it."""
        wanted = [entry(p, size, None) for p, size in sizes.items()]
        found = manifest.standing(self.dest.parent, self.places, wanted, verified=False)
        return found is not None


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes the bits."""
    return {"quantizer": QUANTIZER_VERSION, "onnx": onnx.__version__, "numpy": np.__version__}


def _results(hashing: Mapping[Path, Future[str]]) -> dict[Path, str]:
    """Wait for the hashes of the source's files."""
    return {path: future.result() for path, future in hashing.items()}


@contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    """Say of a write that failed where and why: the system's own error often names no file."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelOpsError(
                "the disk became full while the artifacts were written",
                where=folder,
                remedy="Free space and run again; no half-written file has a final name.",
            ) from None
        raise ModelOpsError(
            f"the artifacts cannot be written ({error.strerror or error})",
            where=error.filename or folder,
            remedy="Check the permissions and the disk (dmesg, smartctl), and run again; no"
            " half-written file has a final name.",
        ) from None
