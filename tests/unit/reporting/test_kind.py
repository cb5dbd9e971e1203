"""What people read names what the release is: INT8, FP16 or INT4."""

from __future__ import annotations

import pytest
from modelops.pair import manifest
from modelops.quantizer.recipes import RECIPES
from modelops.reporting import junit, page, text
from report_documents import TEMPLATES, document


def pages(made: dict) -> list[str]:
    return [
        text.text(made), text.markdown(made), page.report(made, [made], TEMPLATES),
        page.index([made], TEMPLATES), junit.xml(made).decode(),
    ]  # fmt: skip


def test_every_recipe_has_a_name_for_people():
    assert list(manifest.KINDS) == list(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_all_forms_of_a_report_name_the_recipe_and_no_other(name):
    others = {kind for recipe, kind in manifest.KINDS.items() if recipe != name}
    for shown in pages(document(recipe={"name": name})):
        assert manifest.KINDS[name] in shown
        assert not any(kind in shown for kind in others)


@pytest.mark.parametrize("recipe", [{"name": "<b>INT2"}, {"name": ["int8"]}, {"name": None}, "x"])
def test_a_recipe_that_is_not_known_is_a_release_and_nothing_more(recipe):
    for shown in pages(document(recipe=recipe)):
        assert "INT" not in shown and "FP16" not in shown


def test_a_manifest_of_before_there_were_recipes_is_of_int8():
    assert "INT8" in text.text(document(recipe={"granularity": "per_channel"}))
