"""What a service does in the weeks after a release: samples, figures of a window, promises.

`samples` reads what the sampler of a target wrote (roles/acceptance/files), `figures` makes the
figures of the last days of them, `questions` asks recordings: all on the target. `evaluation` holds
what was understood against what was said. `promises` judges figures on the controller,
with the complaints of `complaints`; `document` gathers all targets. Needs the standard library
alone, but for the word error rate. Imports base, judging and target.
"""
