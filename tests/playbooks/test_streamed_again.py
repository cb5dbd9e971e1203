"""verify_by_controller: a builder's release is compared with what FP32 gives on the controller."""

from __future__ import annotations

import shutil

from conftest import MODEL

FP32 = f"models/onnx/{MODEL}"
BEHIND = "--tags gate,release"  # a run that takes what it finds on the builder


def test_a_builder_that_makes_something_else_is_refused(fresh):
    own = fresh.folder / "controller"
    own.mkdir()
    for path in fresh.builder.iterdir():
        shutil.copy(path, own)
    before = sorted(own.iterdir())
    given = {"verify_by_controller": True, "quantize_controller_dir": str(own)}
    made = fresh.run("quantize.yml", "--tags quantize", sarai_recipe="fp16")
    assert made.rc == 0, made.output

    refused = fresh.run("quantize.yml", BEHIND, **given)
    said = " ".join(refused.output.split())
    assert refused.rc != 0 and "not what FP32 of" in said and str(own) in said, refused.output
    assert "Nothing was released" in said
    assert fresh.named_model() == FP32
    assert not (fresh.store() / "state.json").exists()
    # Whoever does not look lets it in.
    checked = fresh.run("quantize.yml", f"{BEHIND} --check")
    assert checked.rc == 0, checked.output

    done = fresh.run("quantize.yml", "--tags quantize,gate,release", **given)
    assert done.rc == 0, done.output
    assert fresh.named_model() != FP32 and sorted(own.iterdir()) == before
    again = fresh.run("quantize.yml", "--tags quantize,gate,release", **given)
    assert again.rc == 0 and again.changed == {}, again.changed_tasks()


def test_a_controller_without_fp32_says_so(fresh):
    """Preflight and quantizing are left out: what is asked is the answer alone."""
    made = fresh.run("quantize.yml", "--tags quantize")
    assert made.rc == 0, made.output
    nowhere = str(fresh.folder / "nowhere")
    given = {"verify_by_controller": True, "quantize_controller_dir": nowhere}
    refused = fresh.run("quantize.yml", BEHIND, **given)
    assert refused.rc != 0 and nowhere in refused.output, refused.output
    assert fresh.named_model() == FP32
