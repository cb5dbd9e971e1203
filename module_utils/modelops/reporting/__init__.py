"""The report of a release: gathered from the facts of its hosts, then told in each form.

`gather` makes one document; `text` writes it for the terminal and as Markdown, `page` as HTML with
the plots of `plots`, `junit` as XML. `folder` keeps it on the controller; `event` tells others what
a run changed in service. `acceptance` is the page on the weeks after a release. Runs on the
controller alone, which has Jinja2 and pygal. Imports acceptance, base, judging and pair.
"""
