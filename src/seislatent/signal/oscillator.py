"""Damped oscillators shaken by many records at once: pseudo-acceleration, and its peaks in any horizontal direction.

    a [..., time] --grid_of--> a on a finer grid --recursion of Nigam and Jennings--> w^2 u [..., period, time] --> peaks

An oscillator of period T = 2 pi / w and damping z obeys u'' + 2 z w u' + w^2 u = -a. Where a runs straight from sample to sample,
the state (u, u') at the next sample is an exact linear function of the state and of both samples (Nigam and Jennings 1969, Bull.
Seism. Soc. Am. 59, 909-922). Ground motion does not run straight: it is limited in band. So, unless told otherwise, a is first
interpolated in its band by FINEST where an oscillator has fewer than POINTS_PER_PERIOD samples per period, with a gain
of 1 / sinc^2(f dt) that undoes what straight lines take from a frequency f.

Between samples of the grid the response is the cubic through both states, looked at in quarters. Errors of a peak: at most
1 - cos(pi / 40) = 0.3 % from the quarters and 0.04 % from the cubic, for an oscillation at its own period; the response to
frequencies between 0.6 and 1 of the Nyquist frequency has up to 1 % of their amplitude more where T > 10 dt (images of a straight
line). Records are taken to be zero outside their samples: a step at an end rings there as every step does in a limited band.

Two forms of one definition, equal to rounding: compiled loops on a CPU (`seislatent.signal.orbits`), which look only at stretches
that can hold a peak; a Fourier form in torch, for GPUs and gradients. Periodic in itself, the latter is made to begin at rest by a
free vibration, so that nothing wraps around, however long the period.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from seislatent.errors import SeislatentError

POINTS_PER_PERIOD = 10
FINEST = 4
"""The refinement: it leaves 8 samples to the shortest wave that a record can hold."""
EDGE = 64
"""Zeros behind a record before it is interpolated, so that its end does not ring into its start."""
LEAD = 32
"""Zeros before it."""
QUARTERS = (0.25, 0.5, 0.75)
AT_ONCE = 1 << 24
"""Numbers of the Fourier form held at once in one tensor, unless one record has more."""


@dataclass(frozen=True, kw_only=True)
class Recursion:
    """One step of oscillators: s[k+1] = transition s[k] + before a[k] + after a[k+1], with s = (w^2 u, w^2 u' dt)."""

    transition: NDArray[np.float64]
    """[period 2 2]"""
    before: NDArray[np.float64]
    """[period 2]"""
    after: NDArray[np.float64]
    """[period 2]"""


def steps_per_sample(period_s: float, sampling_rate_hz: float) -> int:
    """How many steps of the grid a sample becomes: 1 where a period has POINTS_PER_PERIOD samples, else FINEST.

    A grid of 2 would do for some periods, but the few of them go along free of charge in the lanes of the shorter ones.
    """
    return 1 if period_s * sampling_rate_hz >= POINTS_PER_PERIOD * (1 - 1e-9) else FINEST


def recursion(periods_s: Sequence[float], damping: float, step_s: float) -> Recursion:
    """The step of oscillators [period], from the exponential of the system with the straight line as two more states.

    The closed forms of Nigam and Jennings subtract nearly equal numbers where a period is long against a step; this does not.
    """
    w = 2 * np.pi * step_s / np.asarray(periods_s, np.float64)  # radians per step
    system = np.zeros((len(w), 4, 4))
    system[:, 0, 1] = system[:, 2, 3] = 1
    system[:, 1, 0] = system[:, 1, 2] = -(w**2)
    system[:, 1, 1] = -2 * damping * w
    step = _exponential(system, int(np.ceil(np.log2(max(1.0, w.max(initial=0.0))))) + 2)
    return Recursion(transition=step[:, :2, :2], before=step[:, :2, 2] - step[:, :2, 3], after=np.ascontiguousarray(step[:, :2, 3]))


def _exponential(system: NDArray[np.float64], halvings: int) -> NDArray[np.float64]:
    """Exponential of small matrices [period 4 4]: the series of that over 2^halvings, squared as often.

    Without a linear-algebra library: SciPy's `expm` wakes the threads of one, which then wait for more to do by turning in circles
    and hold the cores that the loops need (1.6 times slower with two threads).
    """
    part = system / 2.0**halvings
    term = total = np.broadcast_to(np.eye(system.shape[-1]), system.shape)
    for k in range(1, 22):  # of radius 1/4, so that what is left out is below 1e-30
        term = np.einsum("pij,pjk->pik", term, part) / k
        total = total + term
    for _ in range(halvings):
        total = np.einsum("pij,pjk->pik", total, total)
    return total


def grid_of(acceleration: Float[Tensor, "*trace time"], steps: int) -> Float[Tensor, "*trace fine"]:
    """(time - 1) steps + 1 samples, every 1 / steps of an interval; straight lines between them have the right spectrum."""
    n = acceleration.shape[-1]
    m = _fast(n + EDGE)
    gain = torch.as_tensor(_gain(m, steps), device=acceleration.device).to(acceleration.dtype)
    return torch.fft.irfft(torch.fft.rfft(acceleration, m) * gain, m * steps)[..., : (n - 1) * steps + 1]


@cache
def _gain(m: int, steps: int) -> NDArray[np.float64]:
    """[frequency] 1 / sinc^2, for a grid of m steps samples made of the spectrum of m."""
    gain = steps / np.sinc(np.arange(m // 2 + 1) / (m * steps)) ** 2
    if m % 2 == 0 and steps > 1:
        gain[-1] /= 2  # the Nyquist frequency stands for itself and its mirror image
    return gain


def response(
    acceleration: Float[Tensor, "*trace time"], step_s: float, periods_s: Sequence[float], damping: float = 0.05
) -> tuple[Float[Tensor, "*trace period time"], Float[Tensor, "*trace period time"]]:
    """Pseudo-acceleration w^2 u and its rate w^2 u' dt (per step) of oscillators at rest at the first sample.

    Exact at the samples for acceleration that runs straight between them; the Fourier form, differentiable, on any device. In
    the unit of the acceleration.
    """
    check(periods_s, damping, step_s)
    n, device, dtype = acceleration.shape[-1], acceleration.device, acceleration.dtype
    m = _fast(n)
    made = recursion(periods_s, damping, step_s)
    z = np.exp(2j * np.pi * np.arange(m // 2 + 1) / m)
    a = made.transition[..., None]
    drive = made.before[..., None] + z * made.after[..., None]  # [period 2 frequency]
    determinant = (z - a[:, 0, 0]) * (z - a[:, 1, 1]) - a[:, 0, 1] * a[:, 1, 0]
    place = ((z - a[:, 1, 1]) * drive[:, 0] + a[:, 0, 1] * drive[:, 1]) / determinant
    rate = ((z - a[:, 0, 0]) * drive[:, 1] + a[:, 1, 0] * drive[:, 0]) / determinant
    spectrum = torch.fft.rfft(acceleration, m)[..., None, :]
    of = torch.as_tensor(np.stack([place, rate]), device=device).to(spectrum.dtype)
    u = torch.fft.irfft(spectrum * of[0], m)[..., :n]
    v = torch.fft.irfft(spectrum * of[1], m)[..., :n]
    u0, v0 = u[..., :1], v[..., :1]
    free = torch.as_tensor(_free(tuple(map(float, periods_s)), damping, step_s, n), device=device).to(dtype)
    return u - (free[0] * u0 + free[1] * v0), v - (free[2] * u0 + free[3] * v0)


def _free(periods_s: tuple[float, ...], damping: float, step_s: float, n: int) -> NDArray[np.float64]:
    """[4 period time]: place of a unit place, place of a unit rate, rate of a unit place, rate of a unit rate."""
    w = 2 * np.pi * step_s / np.asarray(periods_s)[:, None]
    root = np.sqrt(1 - damping**2)
    phase = w * root * np.arange(n)
    sine, cosine, decay = np.sin(phase), np.cos(phase), np.exp(-damping * w * np.arange(n))
    lean = damping / root * sine
    return decay * np.stack([cosine + lean, sine / (w * root), -w / root * sine, cosine - lean])


def directional_peaks(
    first: Float[Tensor, "*record time"],
    second: Float[Tensor, "*record time"],
    sampling_rate_hz: float,
    periods_s: Sequence[float],
    angles_deg: Sequence[float],
    *,
    damping: float = 0.05,
    interpolate: bool = True,
    loops: bool | None = None,
) -> Float[Tensor, "*record period angle"]:
    """The largest |w^2 (u_1 cos angle + u_2 sin angle)| in each direction, in the unit of the acceleration; float64.

    Args:
        first: acceleration of one component.
        second: and of the one 90 degrees on.
        sampling_rate_hz: of both.
        periods_s: oscillators' periods.
        angles_deg: from `first` towards `second`; 0 and 90 give both components' own spectra.
        damping: share of the critical damping, above 0 and below 1.
        interpolate: False for straight lines between the samples as they are, looked at in the samples only: the plain method
            of Nigam and Jennings.
        loops: True for compiled loops, False for torch; by default loops on a CPU where no gradient is asked for.

    A record with a NaN or an infinite sample has NaN everywhere.

    Raises:
        SeislatentError: unequal shapes, fewer than 2 samples, a period or rate that is not positive, a damping outside 0 to 1.
    """
    check(periods_s, damping, 1 / sampling_rate_hz if sampling_rate_hz > 0 else -1)
    if first.shape != second.shape or first.ndim < 1 or first.shape[-1] < 2:
        raise SeislatentError(
            f"oscillators need two components of one shape [..., time] with 2 samples or more, not {tuple(first.shape)} and"
            f" {tuple(second.shape)}"
        )
    if loops is None:
        loops = first.device.type == "cpu" and not (torch.is_grad_enabled() and (first.requires_grad or second.requires_grad))
    pair = torch.stack([first.to(torch.float64), second.to(torch.float64)], -2)
    good = pair.isfinite().all(-1).all(-1)
    pair = torch.where(good[..., None, None], pair, 0.0).reshape(-1, 2, first.shape[-1])
    if interpolate:  # what rings before the first sample moves the oscillators too
        pair = torch.nn.functional.pad(pair, (LEAD, 0))
    groups: dict[int, list[int]] = {}
    for i, period in enumerate(periods_s):
        groups.setdefault(steps_per_sample(period, sampling_rate_hz) if interpolate else 1, []).append(i)
    order = [i for members in groups.values() for i in members]
    peaks = _looped if loops else _fourier
    parts = [
        peaks(pair, sampling_rate_hz, steps, [float(periods_s[i]) for i in members], damping, angles_deg, interpolate)
        for steps, members in groups.items()
    ]
    found = torch.cat(parts, 1)[:, np.argsort(order)] if parts else pair.new_zeros(len(pair), 0, len(angles_deg))
    found = torch.where(good.reshape(-1, 1, 1), found, torch.nan)
    return found.reshape(*first.shape[:-1], len(periods_s), len(angles_deg))


def _looped(
    pair: Tensor, rate_hz: float, steps: int, periods_s: list[float], damping: float, angles_deg: Sequence[float], between: bool
) -> Tensor:
    """[record period angle]; four records at a time, so that their grids stay in the cache, in as many threads as torch has."""
    from scipy.fft import irfft, rfft

    from seislatent.signal.orbits import peaks, prepare

    made = recursion(periods_s, damping, 1 / (rate_hz * steps))
    lanes, turns = prepare(made.transition, made.before, made.after, np.asarray(angles_deg, np.float64))
    n = pair.shape[-1]
    m = _fast(n + EDGE)

    x, found = pair.detach().numpy(), np.zeros((len(pair), len(periods_s), len(angles_deg)))
    threads = torch.get_num_threads()
    few = max(1, min(4, len(x) // max(1, threads)))

    def some(start: int) -> None:
        part = x[start : start + few]
        grid = irfft(rfft(part, m) * _gain(m, steps), m * steps)[..., : (n - 1) * steps + 1] if between else part
        peaks(grid, lanes, turns, between, found[start : start + few])

    if threads == 1 or len(x) <= few:
        for start in range(0, len(x), few):
            some(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, range(0, len(x), few)))
    return torch.from_numpy(found)


def _fourier(
    pair: Tensor, rate_hz: float, steps: int, periods_s: list[float], damping: float, angles_deg: Sequence[float], between: bool
) -> Tensor:
    """[record period angle]; a few records and periods at a time, so that memory stays bounded."""
    angle = torch.deg2rad(torch.as_tensor(list(angles_deg), dtype=torch.float64, device=pair.device))
    turn = torch.stack([angle.cos(), angle.sin()])  # [2 angle]
    size = 2 * steps * pair.shape[-1]
    records = max(1, AT_ONCE // size)
    some = max(1, AT_ONCE // (size * records))
    rows = []
    for part in pair.split(records):
        grid, row = grid_of(part, steps) if between else part, []
        for start in range(0, len(periods_s), some):
            place, rate = response(grid, 1 / (rate_hz * steps), periods_s[start : start + some], damping)  # [record 2 period time]
            best = _largest(place, turn)
            for s in QUARTERS if between else ():
                best = torch.maximum(best, _largest(cubic(place, rate, s), turn))
            row.append(best)
        rows.append(torch.cat(row, 1))
    return torch.cat(rows) if rows else pair.new_zeros(0, len(periods_s), len(angle))


def _largest(orbit: Tensor, turn: Tensor) -> Tensor:
    """Of orbit [record 2 period time], in every direction [2 angle]: [record period angle]; a few angles at a time."""
    few = max(1, 2 * AT_ONCE // max(1, orbit.numel()))
    parts = []
    for start in range(0, turn.shape[1], few):
        c, s = turn[:, start : start + few, None]
        parts.append((orbit[:, 0, :, None] * c + orbit[:, 1, :, None] * s).abs().amax(-1))
    return torch.cat(parts, -1)


def cubic(place: Tensor, rate: Tensor, s: float) -> Tensor:
    """The response a share `s` after each sample but the last: the cubic that has place and rate (per step) of both."""
    before, after, rate0, rate1 = place[..., :-1], place[..., 1:], rate[..., :-1], rate[..., 1:]
    rise = after - before
    return before + s * rise + s * (1 - s) * ((1 - s) * (rate0 - rise) - s * (rate1 - rise))


def check(periods_s: Sequence[float], damping: float, step_s: float) -> None:
    """Raises SeislatentError where periods, damping or step cannot be an oscillator's."""
    for period in periods_s:
        if not (np.isfinite(period) and period > 0):
            raise SeislatentError(f"oscillator with a period of {period} s: periods are positive; for 0 take the peak acceleration")
    if not 0 < damping < 1:
        raise SeislatentError(f"oscillator with a damping of {damping}: give a share of the critical damping, such as 0.05")
    if not (np.isfinite(step_s) and step_s > 0):
        raise SeislatentError("sampling rate of an oscillator's record: give a positive number in Hz")


@cache
def _fast(n: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(n, real=True))
