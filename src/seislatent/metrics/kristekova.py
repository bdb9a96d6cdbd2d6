"""Time-frequency misfits and goodness of fit of Kristekova et al. (2006, 2009): all sixteen from one wavelet transform.

    estimate, reference [*trace component time] --Morlet transform--> W, Wr [*trace component frequency time]

    envelope misfit  dA   = |W| - |Wr|            phase misfit  dphi = Arg(W * conj(Wr)) / pi, in -1 to 1
    over the plane   TFEM = dA / |Wr|                           TFPM = dphi                                   [frequency time]
    over time        TEM  = sum_f dA / sum_f |Wr|               TPM  = sum_f |Wr| dphi / sum_f |Wr|           [time]
    over frequency   FEM  = sum_t dA / sum_t |Wr|               FPM  = sum_t |Wr| dphi / sum_t |Wr|           [frequency]
    single values    EM^2 = sum dA^2 / sum |Wr|^2               PM^2 = sum |Wr|^2 dphi^2 / sum |Wr|^2

These are the locally normalised forms. Globally normalised, each denominator is replaced by its greatest value over all times,
frequencies and components (TFPM keeps the factor |Wr|, as the others do). Goodness of fit: A exp(-|envelope misfit|^k) and
A (1 - |phase misfit|^k). Kristekova et al. 2006 (transform: eq. 4) and 2009 (misfits: tables 1 and 2; goodness of fit: eq. 15 and
16); values agree with `obspy.signal.tf_misfit`. docs/metrics/kristekova.md lists where seed 004's equations 2.77 to 2.88 differ.

Blind to: everything outside the band; EG to phase and sign, PG to amplitude and to what stands where the reference is quiet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.metrics.waveform import checked_pair
from seislatent.signal.wavelet import logarithmic_frequencies, morlet_bands

MISFITS = ("tfem", "tfpm", "tem", "tpm", "fem", "fpm", "em", "pm")
"""Misfits: over the time-frequency plane, over time, over frequency, as one value; e envelope, p phase."""
GOODNESS = {"tfeg": "tfem", "tfpg": "tfpm", "teg": "tem", "tpg": "tpm", "feg": "fem", "fpg": "fpm", "eg": "em", "pg": "pm"}
"""Goodness of fit -> the misfit it is made from."""
VERBAL_SCALE = ((4.0, "poor"), (6.0, "fair"), (8.0, "good"), (math.inf, "excellent"))
"""Goodness of fit below each value, for A = 10 (Anderson 2004; Kristekova et al. 2009; table 2.8 of seed 004)."""
CHUNK = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Bytes of one part of a wavelet transform worked on at once: what stays in a core's cache; what fills a GPU."""

Map = Float[Tensor, "*trace frequency time"]
Totals = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TimeFrequencyMisfit:
    """What was asked for, None elsewhere; `*trace` are all axes before time. Misfits are signed, but for em and pm."""

    frequencies_hz: Float[Tensor, " frequency"]
    tfem: Map | None = None
    tfpm: Map | None = None
    tem: Float[Tensor, "*trace time"] | None = None
    tpm: Float[Tensor, "*trace time"] | None = None
    fem: Float[Tensor, "*trace frequency"] | None = None
    fpm: Float[Tensor, "*trace frequency"] | None = None
    em: Float[Tensor, "*trace"] | None = None
    """Envelope misfit: 0 (equal) to +inf; 0.1 where every amplitude is 10 % too large."""
    pm: Float[Tensor, "*trace"] | None = None
    """Phase misfit: 0 (equal) to 1 (opposite sign), 0.1 where every phase is off by 0.1 pi."""
    tfeg: Map | None = None
    tfpg: Map | None = None
    teg: Float[Tensor, "*trace time"] | None = None
    tpg: Float[Tensor, "*trace time"] | None = None
    feg: Float[Tensor, "*trace frequency"] | None = None
    fpg: Float[Tensor, "*trace frequency"] | None = None
    eg: Float[Tensor, "*trace"] | None = None
    """Envelope goodness of fit: 0 to A (10 at equality)."""
    pg: Float[Tensor, "*trace"] | None = None
    """Phase goodness of fit: 0 to A (10 at equality)."""


def kristekova(
    estimate: Tensor,
    reference: Tensor,
    sampling_rate_hz: float,
    *,
    band_hz: tuple[float, float],
    quantities: Iterable[str] = ("eg", "pg"),
    frequencies: int = 100,
    w0: float = 6.0,
    normalization: Literal["global", "local"] = "global",
    joint_components: bool = True,
    best: float = 10.0,
    exponent: float = 1.0,
) -> TimeFrequencyMisfit:
    """Misfits and goodness of fit of an estimate [*trace time] against its reference, without unit.

    `quantities` are any of MISFITS and GOODNESS; only what they need is computed. `frequencies` lie in `band_hz`, evenly spaced in
    their logarithm. With `joint_components` the axis before time holds the components of one record, which share the denominator of
    the global normalisation; without it every trace stands for itself, as one component does. `best` and `exponent` are A and k.
    Works in float64 where either signal is (integers count as float64), else in float32. No gradient.

    A silent reference (all components with the global normalisation, the component itself with the local one): where the estimate
    is silent too, misfits are 0; else envelope misfits are +inf and phase misfits 1, the goodness of fit 0. A silent estimate of a
    reference that is not: every envelope is missed (EM 1, EG 3.68 for one component) and every phase opposite (PM 1, PG 0).

    Raises SeislatentError where shapes or devices differ, a sample is not finite, there are fewer than two samples, or a quantity,
    the band, the rate or a parameter makes no sense.
    """
    names = _checked_names(quantities, normalization, best, exponent)
    x, y = checked_pair(estimate, reference, sampling_rate_hz, empty=True)
    if x.shape[-1] < 2:
        raise SeislatentError(f"traces of {x.shape[-1]} sample have no frequencies: give at least 2")
    shape = x.shape
    components = shape[-2] if joint_components and x.ndim > 1 and x.numel() else 1
    x, y = (v.reshape(math.prod(shape[:-1]) // components, components, shape[-1]) for v in (x, y))
    f = logarithmic_frequencies(band_hz, frequencies)
    wanted = {GOODNESS.get(name, name) for name in names}
    # groups of records whose samples, without the frequency axis, are worked on at once
    most = max(1, 8 * _chunk(x) // max(x[:1].numel(), 1))
    threads = torch.get_num_threads() if x.device.type == "cpu" else 1
    most = min(most, max(1, -(-len(x) // threads)))
    parts = _side_by_side(
        lambda i: _misfits(x[i : i + most], y[i : i + most], sampling_rate_hz, f, w0, wanted, normalization == "local"),
        range(0, max(len(x), 1), most),
        threads,
    )
    misfit = {name: torch.cat([part[name] for part in parts]).reshape((*shape[:-1], *parts[0][name].shape[2:])) for name in wanted}
    values = {name: misfit[name] if name in misfit else _goodness(misfit[GOODNESS[name]], name, best, exponent) for name in names}
    return TimeFrequencyMisfit(frequencies_hz=torch.from_numpy(f).to(x.device), **values)


def verbal_scale(goodness: Tensor | float, best: float = 10.0) -> NDArray[np.str_]:
    """One word, poor (below 4), fair (below 6), good (below 8) or excellent for each goodness of fit, in an array of its shape.

    `best` is A, the value of a perfect fit; the limits go with it. Raises SeislatentError for a value outside 0 to A, NaN included.
    """
    score = np.asarray(torch.as_tensor(goodness, dtype=torch.float64).cpu()) * (10 / best)
    if not ((score >= 0) & (score <= 10 + 1e-6)).all():
        raise SeislatentError(f"a goodness of fit outside 0 to {best:g} has no word: leave out records that have none")
    limits = [limit for limit, _ in VERBAL_SCALE]
    words = np.asarray([word for _, word in VERBAL_SCALE])
    return cast(NDArray[np.str_], words[np.searchsorted(limits, score, side="right")])


def _side_by_side(call: Callable[[int], Totals], starts: range, threads: int) -> list[Totals]:
    """One part of the batch per thread, instead of all threads in every operation.

    Thousands of short operations that wait for all threads each are many times slower where other work holds one of the cores.
    """
    if threads == 1 or len(starts) == 1:
        return [call(i) for i in starts]
    try:
        with ThreadPoolExecutor(min(threads, len(starts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(call, starts))
    finally:
        torch.set_num_threads(threads)  # the number that the linear algebra takes is one for the process


@torch.no_grad()  # holds for the thread it is entered in
def _misfits(x: Tensor, y: Tensor, rate_hz: float, f: NDArray[np.float64], w0: float, wanted: set[str], local: bool) -> Totals:
    """Misfits [group component ...] by name, of groups of components [group component time]."""
    x, x_exponent = _levelled(x)
    y, y_exponent = _levelled(y)
    ratio = torch.ldexp(torch.ones_like(x[:, :1, :1]), x_exponent - y_exponent).clamp(max=torch.finfo(x.dtype).max)
    totals = _totals(x, y, ratio, rate_hz, f, w0, wanted)
    no_estimate = (x == 0).all(-1)
    no_reference = (y == 0).all(-1) if local else (y == 0).all(-1).all(-1, keepdim=True)
    misfit = {}
    for name in wanted:
        domain, kind = name[:-2], name[-2]
        norm = totals[domain + "r"]
        if not local:
            norm = norm.amax(tuple(range(1, norm.ndim)), keepdim=True)
        numerator = totals[domain + kind]
        nothing, unheard = (v.reshape(*v.shape, *[1] * (numerator.ndim - 2)) for v in (no_reference, no_estimate))
        if kind == "p":  # the phase of nothing would be that of its zeros' signs; it counts as opposite everywhere
            numerator = torch.where(unheard, totals[domain + "r"], numerator)
        value = torch.where((numerator == 0) & (norm == 0), 0.0, numerator / norm)
        missed = torch.where(unheard, 0.0, math.inf if kind == "e" else 1.0).to(value.dtype)
        misfit[name] = torch.where(nothing, missed, value)
    return misfit


def _totals(x: Tensor, y: Tensor, ratio: Tensor, rate_hz: float, f: NDArray[np.float64], w0: float, wanted: set[str]) -> Totals:
    """Numerators and denominators before division, by domain (tf, t, f or none) and kind (e, p, or r for the reference)."""
    rows, n = x.shape[:2], x.shape[2]
    shapes = {"tf": (*rows, len(f), n), "t": (*rows, n), "f": (*rows, len(f)), "": rows}
    kinds = {(name[:-2], name[-2]) for name in wanted}
    kinds |= {(domain, "r") for domain, _ in kinds}
    totals = {domain + kind: x.new_zeros(shapes[domain]) for domain, kind in kinds}
    chunk = _chunk(x)
    # ObsPy's transform stands half a sample before each sample; so does ours, or values would differ by more than rounding
    for band in morlet_bands(n, rate_hz, f, w0, -0.5, like=x, most=max(1, chunk // rows[1])):
        step = max(1, chunk // (rows[1] * band.length * (band.frequencies.stop - band.frequencies.start)))
        for i in range(0, rows[0], step):
            here = slice(i, i + step)
            w, v = (band.apply(band.spectrum(signal[here]), n) for signal in (x, y))
            maps = _maps(w, v, ratio[here, ..., None], {kind for _, kind in kinds})
            _add(totals, maps, kinds, here, band.frequencies)
    for name in totals.keys() & {"e", "p", "r"}:
        totals[name].sqrt_()
    return totals


def _maps(w: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor], ratio: Tensor, kinds: set[str]) -> Totals:
    """|W| - |Wr|, |Wr| dphi and |Wr| over the plane [group component frequency time], from real and imaginary parts.

    The phase difference is the phase of one product: one arctangent instead of two, and no division.
    """
    envelope = torch.addcmul(v[0].square(), v[1], v[1]).sqrt_()
    maps = {"r": envelope}
    if "p" in kinds:
        sine = (w[1] * v[0]).sub_(w[0] * v[1])
        cosine = (w[0] * v[0]).add_(w[1] * v[1])
        maps["p"] = torch.atan2(sine, cosine).mul_(envelope).div_(math.pi)
    if "e" in kinds:
        maps["e"] = torch.addcmul(w[0].square(), w[1], w[1]).sqrt_().mul_(ratio).sub_(envelope)
    return maps


def _add(totals: Totals, maps: Totals, kinds: set[tuple[str, str]], here: slice, frequencies: slice) -> None:
    for domain, kind in kinds:
        total, value = totals[domain + kind][here], maps[kind]
        if domain == "tf":
            total[:, :, frequencies] = value
        elif domain == "t":
            total += value.sum(2)
        elif domain == "f":
            total[:, :, frequencies] = value.sum(3)
        else:
            total += torch.linalg.vector_norm(value, dim=(2, 3)).square_()


def _goodness(misfit: Tensor, name: str, best: float, exponent: float) -> Tensor:
    size = misfit.abs().pow(exponent)
    return best * (torch.exp(-size) if name[-2] == "e" else 1 - size)


def _levelled(x: Tensor) -> tuple[Tensor, Tensor]:
    """A record [group component time] over a power of two, its greatest sample between 0.5 and 1, and the exponent [group 1 1].

    Squares of very small or large samples would leave the range of float32; a power of two costs no rounding.
    """
    exponent = torch.frexp(x.abs().amax((1, 2), keepdim=True)).exponent
    half = exponent // 2  # in two steps: 2^-exponent itself may be out of range
    return torch.ldexp(torch.ldexp(x, -half), half - exponent), exponent


def _chunk(x: Tensor) -> int:
    """Values worked on at once."""
    return max(1, CHUNK.get(x.device.type, CHUNK["cpu"]) // x.element_size())


def _checked_names(quantities: Iterable[str], normalization: str, best: float, exponent: float) -> list[str]:
    names = [quantities] if isinstance(quantities, str) else list(quantities)
    for name in names:
        if name not in MISFITS and name not in GOODNESS:
            raise SeislatentError(unknown("time-frequency misfit", name, (*MISFITS, *GOODNESS)))
    if not names:
        raise SeislatentError("no time-frequency misfit asked for: give quantities such as eg and pg")
    if normalization not in ("global", "local"):
        raise SeislatentError(unknown("normalization", normalization, ("global", "local")))
    if not (0 < best < math.inf and 0 < exponent < math.inf):
        raise SeislatentError(f"goodness of fit with A = {best:g} and k = {exponent:g}: both must be positive")
    return names
