"""What is wrong with a host that serves a model, each with its evidence and what to do.

`release` reads what the modules of a run told, on the controller; `strain` looks at the host
itself, with the standard library only; `leftovers` finds and removes what broken runs left there.
`texts` gathers what helps somebody far away, and `archive` keeps it in one file. Changes nothing
else. Imports base, pair and target.
"""
