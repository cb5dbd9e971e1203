"""A job in a host's background, watched from the controller."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure

from plugin_utils import background
from plugin_utils.background import Seen

FIGURES = {"phase": "sending", "done": 1, "total": 2, "rate": None, "left_s": None,
           "elapsed_s": 1, "peak_rss_bytes": None}  # fmt: skip


@pytest.mark.parametrize(
    ("sights", "words", "lines"),
    [
        ([Seen(figures=FIGURES), Seen(figures=FIGURES), Seen(ended=True)], "", 2),
        ([Seen(), AnsibleConnectionFailure("cut"), Seen(ended=True)], "", 0),
        ([Seen(gone="it is gone")], "it is gone", 0),
        ([AnsibleConnectionFailure("cut")] * 99, "not answered for 2 s while it is at work", 0),
        ([Seen()] * 99, "did not end within limit_s, 1 s", 0),
    ],
)
def test_a_job_is_watched_with_patience(sights, words, lines, monkeypatch, capsys):
    clock, sights = [0.0], iter(sights)
    seconds = SimpleNamespace(
        monotonic=lambda: clock[0], sleep=lambda s: clock.__setitem__(0, clock[0] + s)
    )
    monkeypatch.setattr(background, "time", seconds)

    def look(wait_s: float) -> Seen:
        seconds.sleep(max(wait_s, 0.1))
        sight = next(sights)
        if isinstance(sight, Exception):
            raise sight
        return sight

    said = background.Background.watch(None, "here", look, 1, 1 if not lines else 9, 2)
    assert words in said and bool(words) == bool(said)
    assert capsys.readouterr().out.count("  here: sending: 1 B of 2 B (50 %)") == lines
