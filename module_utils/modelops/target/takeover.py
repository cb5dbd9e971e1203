"""Take over what versions before kept on a target. Standard library only.

There a single model had the folder .releases to itself. It has become that of all models, with a
folder for each. Inside of that everything is as it was, so it is renamed as a whole: to a name that
tells whose it is, and from there to its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import rename_durable
from ..pair import manifest, names

RELEASES = ".releases"
_HALFWAY = ".releases-of-"


def place(root: Path, model: str) -> Path:
    """Return the folder that a model's releases are in, before, during and after the take-over."""
    releases = root / RELEASES
    own, halfway = releases / model, root / f"{_HALFWAY}{model}"
    if own.is_dir():
        return own
    if halfway.is_dir():
        return halfway
    return releases if _is_old(releases) and (_owner(releases) or model) == model else own


def take_over(root: Path, model: str, check_mode: bool = False) -> list[str]:
    """Bring what a version before kept to its model's folder; killed inside, it goes on there.

    Args:
        root: the folder of the models, held by this call alone.
        model: whose it is when nothing in it tells.

    Returns:
        What is done, a text each; nothing where nothing is old.

    Raises:
        ModelOpsError: both versions were at work for one model.
    """
    releases = root / RELEASES
    owners = [path.name.removeprefix(_HALFWAY) for path in sorted(root.glob(f"{_HALFWAY}*"))]
    whole = not owners and not releases.is_symlink() and _is_old(releases)
    if whole:
        owners = [_owner(releases) or model]
        if (releases / owners[0]).exists():
            raise ModelOpsError(
                f"two versions of this project kept the state of {owners[0]} here",
                where=releases,
                remedy=f"Look which is right: {RELEASES}/state.json is of the older version,"
                f" {RELEASES}/{owners[0]}/state.json of this one. Move the other one away.",
            )
    if not check_mode:
        for owner in owners:
            if whole:
                rename_durable(releases, root / f"{_HALFWAY}{owner}")
            _settle(releases, root / f"{_HALFWAY}{owner}", owner)
    return [f"take over {releases} of a version before as {releases / own}" for own in owners]


def _settle(releases: Path, halfway: Path, owner: str) -> None:
    """Bring a folder on its way to its place, after what in it does not belong to its owner."""
    releases.mkdir(exist_ok=True)
    for path, model in list(_of_others(halfway, owner)):
        home = releases if path.name == model else releases / model
        home.mkdir(exist_ok=True)
        rename_durable(path, home / path.name)
    rename_durable(halfway, releases / owner)


def _is_old(releases: Path) -> bool:
    """Tell whether a model's releases lie directly in a folder."""
    if not releases.is_dir():
        return False
    folders = (path for path in releases.iterdir() if path.is_dir())
    return (releases / "state.json").exists() or any(
        manifest.RELEASE_ID.fullmatch(path.name) for path in folders
    )


def _owner(releases: Path) -> str:
    """Return whose a folder of releases is: that of the release in service, or of any other."""
    found = (_model_of(releases / release) for release in _releases(releases))
    return next((model for model in found if model), "")


def _releases(releases: Path) -> Iterator[str]:
    """Yield the ids of releases, those that tell most of whose the folder is first."""
    try:
        state: Any = opener.read_json(releases / "state.json")
    except (OSError, ModelOpsError):
        state = {}
    if isinstance(state, dict):
        yield from (str(state.get(field)) for field in ("live", "active", "last_good"))
    yield from sorted(path.name for path in releases.iterdir())


def _model_of(folder: Path) -> str:
    """Return the model of a release by its manifest; empty where it does not tell."""
    if not manifest.RELEASE_ID.fullmatch(folder.name):
        return ""
    try:
        model = names.model_of(manifest.load(folder / manifest.MANIFEST)["artifacts"])
        return names.check(model)
    except ModelOpsError:
        return ""


def _of_others(folder: Path, owner: str) -> Iterator[tuple[Path, str]]:
    """Yield what does not belong to a folder's owner: releases that got mixed in, and other models.

    A version before put a second model's releases among the first one's.
    """
    for path in sorted(folder.iterdir()):
        other = _model_of(path)
        if other and other != owner:
            yield path, other
        elif path.is_dir() and (path / "state.json").is_file():
            yield path, path.name
