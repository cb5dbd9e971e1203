"""Feed broken models to the quantizer: it succeeds or raises ModelOpsError, and nothing else.

    python tests/fuzz/graph_reader.py            for FUZZ_SECONDS (120) seconds, new cases each time
    python tests/fuzz/graph_reader.py --short    the same few cases each time

Every case runs in check mode and for real. Refused besides exceptions: more than CASE_SECONDS or
ADDRESS_BYTES, a write outside of the destination folder, anything left behind by a run that failed,
and a check mode that foretells something else. A failing model is kept, and its place printed.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "module_utils"), str(ROOT / "tests")]

import onnx  # noqa: E402  the paths come first
from broken_models import CHANGES, MAKERS, flipped  # noqa: E402
from google.protobuf.message import DecodeError, EncodeError  # noqa: E402
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from modelops.base.errors import ModelOpsError  # noqa: E402
from modelops.base.memory import peak_rss_bytes  # noqa: E402
from modelops.model import protobuf  # noqa: E402
from modelops.quantizer import recipes  # noqa: E402
from modelops.quantizer.quantize import quantize  # noqa: E402
from modelops.quantizer.recipe import Recipe  # noqa: E402
from onnx import ModelProto  # noqa: E402

CASE_SECONDS = 10
ADDRESS_BYTES = 4 << 30
RESIDENT_BYTES = 600 << 20


class HangError(BaseException):
    """A case took too long."""


class OutsideError(BaseException):
    """Something was written outside of the destination folder."""


# --- what is allowed ---------------------------------------------------------------------------


class Arena:
    """A source and a destination folder, and the watch over them."""

    def __init__(self, root: Path) -> None:
        self.source, self.dest = root / "src" / "m.onnx", root / "dest" / "out.onnx"
        self.data = self.source.with_name("m.onnx.data")
        self.outcomes: Counter[str] = Counter()
        self._watching = False
        originals = root / "originals"
        for folder in (self.source.parent, self.dest.parent, originals):
            folder.mkdir()
        self.originals = []
        for number, make in enumerate(MAKERS):
            (originals / str(number)).mkdir()
            made = make(originals / str(number) / "m.onnx")
            data = made.with_name("m.onnx.data")
            self.originals.append((made.read_bytes(), data.read_bytes() if data.exists() else b""))
        sys.addaudithook(self._audit)

    def attempt(self, graph: bytes, data: bytes, recipe: Recipe) -> None:
        """Quantize a broken model; only success and ModelOpsError are allowed."""
        self.source.write_bytes(graph)
        self.data.write_bytes(data)
        foretold = self._run(recipe, check_mode=True)
        assert not any(self.dest.parent.iterdir()), "check mode wrote"
        result = self._run(recipe, check_mode=False)
        assert foretold == result, (foretold, result)
        left = sorted(path.name for path in self.dest.parent.iterdir())
        assert left == ([] if result is None else ["out.onnx", "out.onnx.data"]), left
        assert self.source.read_bytes() == graph
        assert self.data.read_bytes() == data
        if result is not None:
            onnx.load(self.dest)
        for path in self.dest.parent.iterdir():
            path.unlink()
        self.outcomes["refused" if result is None else "quantized"] += 1

    def _run(self, recipe: Recipe, check_mode: bool) -> str | None:
        """Return the release that it gives; None when it is refused."""
        with self._limits():
            try:
                result = quantize(
                    self.source, self.dest, recipe, threads=1, check_mode=check_mode
                )  # fmt: skip
            except ModelOpsError as error:
                assert str(error)
                return None
        return str(result["release_id"])

    @contextlib.contextmanager
    def _limits(self) -> Iterator[None]:
        def late(*_: object) -> None:
            raise HangError(f"a case took more than {CASE_SECONDS} seconds")

        signal.signal(signal.SIGALRM, late)
        signal.alarm(CASE_SECONDS)
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            signal.alarm(0)

    def _audit(self, event: str, arguments: tuple) -> None:
        if not self._watching:
            return
        changing = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
                    "os.truncate", "os.chmod", "os.chown", "os.utime")  # fmt: skip
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [path]
        elif event in changing:
            paths = [a for a in arguments[:2] if isinstance(a, str | bytes | os.PathLike)]
        else:
            return
        for path in map(os.fsdecode, paths):
            # A relative path is one of shutil.rmtree, below a folder that it opened by its name.
            if os.path.isabs(path) and not Path(path).resolve().is_relative_to(self.dest.parent):
                raise OutsideError(f"{event} {path!r}")


def run(arena: Arena, examples: int, number: int | None) -> None:
    """Run a batch of cases: random ones for the seed `number`, always the same without one."""

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=number is None,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    @given(rng=st.randoms(use_true_random=False))
    def batch(rng: random.Random) -> None:
        graph, data = rng.choice(arena.originals)
        if rng.random() < 0.7:
            model = ModelProto.FromString(graph)
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                with contextlib.suppress(DecodeError):  # nested deeper than protobuf can copy
                    rng.choice(CHANGES)(model, rng)
            with contextlib.suppress(EncodeError):  # nested deeper than protobuf can write
                graph = model.SerializePartialToString()
        else:
            graph = flipped(graph, rng)
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data) or 1)]
        protobuf.LARGE = rng.choice((16, 1 << 16))
        names = ("mm", "mm1", "mm2", "head", "constant", "gemm", "behind", "reshaped", "half")
        recipe = Recipe(
            name=rng.choice(list(recipes.RECIPES)),
            granularity=rng.choice(("per_channel", "per_tensor")),
            forms={name: rng.choice(recipes.FORMS) for name in names if rng.random() < 0.6},
        )
        arena.attempt(graph, data, recipe)

    (batch if number is None else seed(number)(batch))()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    os.fsync = lambda descriptor: None  # a power cut is not what is tested here
    root = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    arena = Arena(root)
    started = time.monotonic()
    try:
        if "--short" in sys.argv[1:]:
            run(arena, 150, None)
        else:
            end = started + float(os.environ.get("FUZZ_SECONDS", "120"))
            while time.monotonic() < end:
                run(arena, 100, random.SystemRandom().getrandbits(64))
    except BaseException:
        print(f"The failing model is kept in {root}.", file=sys.stderr)
        raise
    shutil.rmtree(root)
    peak = peak_rss_bytes() or 0  # not ru_maxrss, which a child inherits from its parent
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(arena.outcomes.items()))
    print(f"{outcomes}; {time.monotonic() - started:.0f} s, at most {peak >> 20} MiB of memory")
    assert peak < RESIDENT_BYTES, peak


if __name__ == "__main__":
    main()
