"""Weights that lie on a grid already: whole multiples of one step, as after 4-bit quantization.

absmax / 127 as a scale is a step of its own, which rounds such weights a second time. The step of
the grid reproduces them. A channel here is what has one scale: a column, a row, a block, a tensor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..model.tensor_blocks import F32

# The largest multiple: that of symmetric INT8.
LARGEST = 127
# Values of a channel that are looked at first. A random one is by chance so near to a multiple of
# any step with a probability of about 0.008, so that channels without a grid end here.
SAMPLES = 4
# What float32 may be off, of a channel's largest value: half a unit of the last place of the value,
# of the largest one, and of a step that was no float32 itself. step * q - step * zero, as exporters
# with a zero point compute it, rounds both products, which may be larger than that value.
NEAR = 2.0**-20
# The different sizes of the channels that are looked at in one go take so much memory, in bytes.
LEVELS_BYTES = 8 << 20

_multiples = np.arange(1, LARGEST + 1)
_fractions = np.unique(np.minimum(1.0, np.arange(LARGEST + 1)[:, None] / _multiples))


def plausible(x: F32, largest: F32) -> npt.NDArray[np.intp]:
    """Return the channels that may lie on a grid, by their first values. All others do not.

    Args:
        x: [values, channels]; the first SAMPLES are read.
        largest: [channels], the largest size in each.
    """
    may = np.flatnonzero(largest >= LARGEST * np.finfo(np.float32).tiny)
    for values in x[:SAMPLES]:  # each leaves few of the channels without a grid
        ratios = np.abs(values[may]).astype(np.float64) / largest[may]
        place = np.searchsorted(_fractions, ratios).clip(1, len(_fractions) - 1)
        gap = np.minimum(np.abs(ratios - _fractions[place - 1]), np.abs(ratios - _fractions[place]))
        may = may[gap <= NEAR]
    return may


def most_levels(channels: int) -> int:
    """Return how many different sizes of so many channels fit into LEVELS_BYTES."""
    return max(1, min(LARGEST, LEVELS_BYTES // (4 * max(1, channels))))


def levels(x: F32, most: int) -> F32:
    """Return the different sizes in each channel: [up to most + 1, channels], sorted, 0 in front.

    Args:
        x: [values, channels], or several such results one above the other.
        most: of a channel with more of them, most + 1 are returned.
    """
    sizes = np.sort(np.abs(x), axis=0)
    sizes[:-1][sizes[:-1] == sizes[1:]] = 0
    count = min(int(np.count_nonzero(sizes, axis=0).max(initial=0)), most + 1)
    sizes.sort(axis=0)
    result: F32 = sizes[len(sizes) - max(1, count) :].copy()
    return result


def steps(found: F32, values: int, scale: F32, most: int) -> F32:
    """Return the scale of each channel: the grid's step where that is nearer than the given one.

    A grid is believed where each size stands twice on average.

    Args:
        found: the channels' levels.
        values: of a channel.
        scale: [channels], what is taken otherwise.
        most: as the levels were made with.
    """
    result = scale.copy()
    count = np.count_nonzero(found, axis=0)
    waiting = np.flatnonzero((count > 0) & (count <= most) & (2 * count <= values))
    for multiple in _multiples:
        d = found[:, waiting].astype(np.float64)
        t = d * (multiple / d[-1])
        fits = (np.abs(t - np.rint(t)) <= multiple * NEAR).all(axis=0)
        if fits.any():
            channels, sizes = waiting[fits], found[:, waiting[fits]]
            step = _nearest_step(sizes, np.rint(t[:, fits]))
            off = _off(sizes, step)
            better = (off <= NEAR) & (off < _off(sizes, scale[channels]))
            result[channels[better]] = step[better]
            waiting = waiting[~fits]
        if not len(waiting):
            break
    return result


def _nearest_step(sizes: F32, q: npt.NDArray[np.float64]) -> F32:
    """Return the float32 step that reproduces sizes [levels, channels] = step * q best.

    `step * q` rounds to a size where it is at most half a unit of the last place away: that gives
    a range of steps. Its middle or a neighbour of that lies in it, if any float32 does. If none
    does, the step of the largest size may be nearer: small ones may be off by more than they tell.
    """
    d, half = sizes.astype(np.float64), np.spacing(sizes).astype(np.float64) / 2
    used = q > 0
    low = np.divide(d - half, q, out=np.zeros_like(d), where=used).max(axis=0)
    high = np.divide(d + half, q, out=np.full_like(d, np.inf), where=used).min(axis=0)
    middle = ((low + high) / 2).astype(np.float32)
    of_largest = (d[-1] / q[-1]).astype(np.float32)
    steps = np.stack([middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), of_largest])
    best = np.argmin([_off(sizes, step) for step in steps], axis=0)
    chosen: F32 = np.take_along_axis(steps, best[None], axis=0)[0]
    return chosen


def _off(sizes: F32, step: F32) -> npt.NDArray[np.float64]:
    """Return by how much a step reproduces a channel wrongly at most, of its largest value."""
    again = np.rint(sizes / step) * step  # in float32, as the model multiplies
    off = np.abs(again.astype(np.float64) - sizes) / sizes[-1]
    largest: npt.NDArray[np.float64] = off.max(axis=0)
    return largest
