"""Monotone interpolation of many curves at once, as a bootstrap needs it.

Ours, because SciPy's `PchipInterpolator` interpolates one curve, or several over the same abscissae; a bootstrap has
thousands, each over its own. Equal to SciPy's on every one of them, which the tests check.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["pchip_integral"]

Array = NDArray[np.float64]


def pchip_integral(x: Array, y: Array, low: Array, high: Array) -> Array:
    """Integrate monotone cubic interpolants of R curves, each over its own interval.

    SciPy's ``PchipInterpolator`` does one curve at a time; this gives the same numbers for thousands of them.

    Shapes and units:
        x: (R, K) strictly increasing, K >= 2.
        y: (R, K).
        low, high: (R,) within each curve's x.

    Returns:
        (R,) the integrals of y dx from low to high.

    Source: Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5(2), 1984; end slopes as in Moler, Numerical Computing
    with MATLAB, section 3.4.
    """
    h = np.diff(x, axis=1)  # (R, K - 1)
    delta = np.diff(y, axis=1) / h
    slopes = np.empty_like(y)
    if x.shape[1] == 2:
        slopes[:] = delta
    else:
        slopes[:, 1:-1] = _inner_slopes(h, delta)
        slopes[:, 0] = _end_slope(h[:, 0], h[:, 1], delta[:, 0], delta[:, 1])
        slopes[:, -1] = _end_slope(h[:, -1], h[:, -2], delta[:, -1], delta[:, -2])
    start = np.clip((low[:, None] - x[:, :-1]) / h, 0.0, 1.0)
    stop = np.clip((high[:, None] - x[:, :-1]) / h, 0.0, 1.0)
    pieces = [
        _antiderivative(place, y[:, :-1], y[:, 1:], h * slopes[:, :-1], h * slopes[:, 1:]) for place in (start, stop)
    ]
    total: Array = (h * (pieces[1] - pieces[0])).sum(axis=1)
    return total


def _inner_slopes(h: Array, delta: Array) -> Array:
    """Return weighted harmonic means of neighbouring slopes; 0 where they differ in sign."""
    before, after = delta[:, :-1], delta[:, 1:]
    weight_before = 2 * h[:, 1:] + h[:, :-1]
    weight_after = h[:, 1:] + 2 * h[:, :-1]
    same = before * after > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight_before + weight_after) / (weight_before / before + weight_after / after)
    return np.where(same, mean, 0.0)


def _end_slope(h0: Array, h1: Array, delta0: Array, delta1: Array) -> Array:
    """Return the three-point slope at an end, limited so that it keeps the shape."""
    slope = ((2 * h0 + h1) * delta0 - h0 * delta1) / (h0 + h1)
    slope = np.where(np.sign(slope) != np.sign(delta0), 0.0, slope)
    steep = (np.sign(delta0) != np.sign(delta1)) & (np.abs(slope) > 3 * np.abs(delta0))
    return np.where(steep, 3 * delta0, slope)


def _antiderivative(t: Array, y0: Array, y1: Array, d0: Array, d1: Array) -> Array:
    """Integrate cubic Hermite pieces from 0 to t; d0 and d1 are slopes per unit of t."""
    t2, t3, t4 = t**2, t**3, t**4
    return y0 * (t4 / 2 - t3 + t) + y1 * (t3 - t4 / 2) + d0 * (t4 / 4 - 2 * t3 / 3 + t2 / 2) + d1 * (t4 / 4 - t3 / 3)
