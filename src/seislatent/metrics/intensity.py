"""Ground-motion intensity measures of many records at once.

    acceleration [..., time] --Baseline--> corrected a, v, d [..., time] --> one value per trace and measure
                                                                       --> SA(T) by `seislatent.signal.oscillator`

Units are in the names: accelerations in g = 9.80665 m/s^2, all else in cm and s. Definitions are those of table 2.1 of the thesis
(seed 004), where it is not in error (docs/metrics/intensity.md), with Trifunac and Brady (1975) for durations and Campbell and
Bozorgnia (2011) for the standardised CAV. Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seislatent.errors import SeislatentError, unknown
from seislatent.signal.oscillator import directional_peaks

STANDARD_GRAVITY = 9.80665
"""m/s^2; the thesis rounds it to 9.8, which makes an Arias intensity 0.07 % larger."""
UNITS = {"m/s^2": 100.0, "cm/s^2": 1.0, "g": 100 * STANDARD_GRAVITY}
"""Units of acceleration, in cm/s^2."""
PERIODS_S = tuple(float(f"{p:.3g}") for p in np.geomspace(0.01, 10, 31))
"""Ten periods a decade."""
ASI_PERIODS_S = tuple(round(0.1 + 0.02 * i, 2) for i in range(21))
"""0.1 to 0.5 s (Von Thun et al. 1988), for the trapezoidal rule."""
HOUSNER_PERIODS_S = tuple(round(0.1 + 0.1 * i, 1) for i in range(25))
"""0.1 to 2.5 s (Housner 1952)."""
G_CM = 100 * STANDARD_GRAVITY
MEANING = {
    "PGA_g": "peak ground acceleration, in g = 9.80665 m/s^2",
    "PGV_cm_s": "peak ground velocity, in cm/s",
    "PGD_cm": "peak ground displacement, in cm",
    "arias_cm_s": "Arias intensity, pi / (2 g) times the integral of the squared acceleration, in cm/s",
    "CAV_cm_s": "cumulative absolute velocity, the integral of |acceleration|, in cm/s",
    "CAV_std_cm_s": "standardised cumulative absolute velocity: of the seconds in which 0.025 g is reached, in cm/s",
    "CAD_cm": "cumulative absolute displacement, the integral of |velocity|, in cm",
    "IV_cm": "velocity intensity, the integral of the squared velocity over PGV, in cm",
    "D5_75_s": "significant duration, from 5 to 75 % of the integral of the squared acceleration, in s",
    "D5_95_s": "significant duration, from 5 to 95 %, in s",
    "D20_80_s": "significant duration, from 20 to 80 %, in s",
    "ASI_cm_s": "acceleration spectrum intensity, the integral of SA from 0.1 to 0.5 s, in cm/s",
    "SI_cm": "Housner's spectrum intensity, the integral of the pseudo-velocity from 0.1 to 2.5 s, in cm",
}
"""What each column of one component is; of rotated ones there are the peaks and SA."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is done to acceleration before anything is measured, so that its integrals do not drift.

    In this order: the mean is taken off; a cosine of `taper_share` of the record rises at each end; `pad_s` zeros are set
    before and after; a high-pass filter without phase. Velocity and displacement are trapezoidal sums from the first zero on; the
    zeros are cut off again, so a record may begin with a velocity that is not 0.
    """

    highpass_hz: float | None = 0.05
    """Corner, where the amplitude is halved: a Butterworth filter of order 4, run twice. None: no filter and no zeros.

    Periods above 0.8 / corner are not to be believed (16 s for the default)."""
    order: int = 4
    taper_share: float = 0.02
    demean: bool = True

    @property
    def pad_s(self) -> float:
        """Zeros on each side: 1.5 order / corner (Boore and Bommer 2005), between them what a run leaves ringing."""
        return 1.5 * self.order / self.highpass_hz if self.highpass_hz else 0.0

    def __str__(self) -> str:
        """As a table's README has it."""
        steps = ["mean removed"] if self.demean else []
        steps += [f"cosine taper of {self.taper_share:.0%} at each end"] if self.taper_share else []
        if self.highpass_hz:
            steps.append(
                f"zeros of {self.pad_s:g} s on both sides and high-pass at {self.highpass_hz:g} Hz"
                f" (Butterworth of order {self.order} run twice, zero phase)"
            )
        return "; ".join(steps or ["none"]) + "; velocity and displacement by the trapezoidal rule from 0"


RAW = Baseline(highpass_hz=None, taper_share=0.0, demean=False)
"""Acceleration as it is."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Acceleration [*trace time] in cm/s^2 with its integrals."""

    a_cm_s2: Float[Tensor, "*trace time"]
    v_cm_s: Float[Tensor, "*trace time"]
    d_cm: Float[Tensor, "*trace time"]


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """One value per trace, float64. A trace with a NaN or an infinite sample is NaN in all of them."""

    PGA_g: Float[Tensor, "*trace"]
    """max |a|"""
    PGV_cm_s: Float[Tensor, "*trace"]
    PGD_cm: Float[Tensor, "*trace"]
    arias_cm_s: Float[Tensor, "*trace"]
    """pi / (2 g) times the integral of a^2."""
    CAV_cm_s: Float[Tensor, "*trace"]
    """Cumulative absolute velocity, the integral of |a|."""
    CAV_std_cm_s: Float[Tensor, "*trace"]
    """The same over those whole seconds in which |a| reaches 0.025 g."""
    CAD_cm: Float[Tensor, "*trace"]
    """Cumulative absolute displacement, the integral of |v|."""
    IV_cm: Float[Tensor, "*trace"]
    """Velocity intensity, the integral of v^2 over PGV; 0 where PGV is 0."""
    D5_75_s: Float[Tensor, "*trace"]
    """Significant duration, from 5 to 75 % of the integral of a^2; NaN where that is 0."""
    D5_95_s: Float[Tensor, "*trace"]
    D20_80_s: Float[Tensor, "*trace"]
    ASI_cm_s: Float[Tensor, "*trace"]
    """Acceleration spectrum intensity, the integral of SA at 5 % over periods from 0.1 to 0.5 s."""
    SI_cm: Float[Tensor, "*trace"]
    """Housner's spectrum intensity, the integral of the pseudo-velocity at 5 % from 0.1 to 2.5 s."""
    SA_g: Float[Tensor, "*trace period"]
    """Pseudo-acceleration at 5 %."""
    periods_s: tuple[float, ...]

    def columns(self) -> dict[str, Tensor]:
        """Each measure [*trace] under its name in tables, SA(T)_g among them."""
        made = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("SA_g", "periods_s")}
        return made | {spectral_name(period): self.SA_g[..., i] for i, period in enumerate(self.periods_s)}


def spectral_name(period_s: float) -> str:
    """SA(0.3)_g, SA(1.0)_g: the period as OpenQuake writes it."""
    return f"SA({float(f'{period_s:.6g}')})_g"


def corrected(
    acceleration: Float[Tensor, "*trace time"], sampling_rate_hz: float, *, unit: str, baseline: Baseline | None = None
) -> Motion:
    """Acceleration in cm/s^2, velocity and displacement after `baseline` (the default one where None).

    Raises SeislatentError as `intensity_measures`.
    """
    baseline = Baseline() if baseline is None else baseline
    a = _checked(acceleration, sampling_rate_hz, unit)
    n, step_s = a.shape[-1], 1 / sampling_rate_hz
    if baseline.demean:
        a = a - a.mean(-1, keepdim=True)
    rise = int(baseline.taper_share * n)
    if rise:
        window = torch.ones(n, dtype=a.dtype, device=a.device)
        window[:rise] = 0.5 - 0.5 * torch.cos(torch.pi * torch.arange(rise, dtype=a.dtype, device=a.device) / rise)
        a = a * window * window.flip(0)
    pad = 0
    if baseline.highpass_hz:
        if not 0 < baseline.highpass_hz < sampling_rate_hz / 2:
            raise SeislatentError(
                f"high-pass at {baseline.highpass_hz:g} Hz: it must lie between 0 and half the rate, {sampling_rate_hz / 2:g} Hz"
            )
        pad = int(np.ceil(baseline.pad_s * sampling_rate_hz))
        a = _highpass(torch.nn.functional.pad(a, (pad, pad)), sampling_rate_hz, baseline)
    v = _cumulative(a, step_s)
    d = _cumulative(v, step_s)
    a, v, d = (x[..., pad : pad + n] for x in (a, v, d))
    return Motion(a_cm_s2=a, v_cm_s=v, d_cm=d)


def intensity_measures(
    acceleration: Float[Tensor, "*trace time"],
    sampling_rate_hz: float,
    *,
    unit: str,
    baseline: Baseline | None = None,
    periods_s: Sequence[float] = PERIODS_S,
) -> Intensity:
    """All measures of each trace by itself; horizontal pairs in all directions are in `seislatent.metrics.rotated`.

    Args:
        acceleration: float32 or float64, on any device.
        sampling_rate_hz: of all traces.
        unit: m/s^2, cm/s^2 or g.
        baseline: what is done first; `RAW` for nothing, None for `Baseline()`.
        periods_s: of the spectral accelerations; any list.

    Silence has 0 everywhere but for its durations, which are NaN. A constant has the values of silence where the mean is removed.

    Raises:
        SeislatentError: no real numbers, fewer than 2 samples, a rate or period that is not positive, an unknown unit.
    """
    return measure(corrected(acceleration, sampling_rate_hz, unit=unit, baseline=baseline), sampling_rate_hz, periods_s=periods_s)


def measure(motion: Motion, sampling_rate_hz: float, *, periods_s: Sequence[float] = PERIODS_S) -> Intensity:
    """As `intensity_measures`, of motion that is already corrected."""
    a, v, step_s = motion.a_cm_s2, motion.v_cm_s, 1 / sampling_rate_hz
    good = a.isfinite().all(-1)
    energy = _cumulative(a.square(), step_s)
    pgv = v.abs().amax(-1)
    squares = _integral(v.square(), step_s)
    wanted = sorted({*map(float, periods_s), *ASI_PERIODS_S, *HOUSNER_PERIODS_S})
    sa = spectrum(a, sampling_rate_hz, wanted)
    made = {
        "PGA_g": a.abs().amax(-1) / G_CM,
        "PGV_cm_s": pgv,
        "PGD_cm": motion.d_cm.abs().amax(-1),
        "arias_cm_s": torch.pi / (2 * G_CM) * energy[..., -1],
        "CAV_cm_s": _integral(a.abs(), step_s),
        "CAV_std_cm_s": _standardised(a, sampling_rate_hz),
        "CAD_cm": _integral(v.abs(), step_s),
        "IV_cm": torch.where(pgv > 0, squares / torch.where(pgv > 0, pgv, 1.0), 0.0),
        "D5_75_s": duration(energy, step_s, 0.05, 0.75),
        "D5_95_s": duration(energy, step_s, 0.05, 0.95),
        "D20_80_s": duration(energy, step_s, 0.20, 0.80),
        "ASI_cm_s": _over_periods(sa, wanted, ASI_PERIODS_S, pseudo_velocity=False),
        "SI_cm": _over_periods(sa, wanted, HOUSNER_PERIODS_S, pseudo_velocity=True),
    }
    made = {name: torch.where(good, value, torch.nan) for name, value in made.items()}
    chosen = [wanted.index(float(p)) for p in periods_s]
    return Intensity(**made, SA_g=sa[..., chosen] / G_CM, periods_s=tuple(map(float, periods_s)))


def spectrum(acceleration: Tensor, sampling_rate_hz: float, periods_s: Sequence[float], *, damping: float = 0.05) -> Tensor:
    """Pseudo-acceleration [*trace period] of each trace, in its unit; two traces share one run of the oscillators."""
    flat = acceleration.reshape(-1, acceleration.shape[-1])
    bad = ~flat.isfinite().all(-1)
    flat = torch.where(bad[:, None], 0.0, flat)  # so that a bad trace does not spoil the one it shares a run with
    odd = torch.cat([flat[1::2], flat[-1:]]) if len(flat) % 2 else flat[1::2]
    both = directional_peaks(flat[::2], odd, sampling_rate_hz, periods_s, (0.0, 90.0), damping=damping)
    found = torch.stack([both[..., 0], both[..., 1]], 1).reshape(-1, len(periods_s))[: len(flat)]
    return torch.where(bad[:, None], torch.nan, found).reshape(*acceleration.shape[:-1], len(periods_s))


def husid(acceleration: Float[Tensor, "*trace time"], sampling_rate_hz: float) -> Float[Tensor, "*trace time"]:
    """The share of the integral of a^2 that has come by each sample, 0 to 1; NaN in silence (Husid 1969)."""
    energy = _cumulative(_checked(acceleration, sampling_rate_hz, "cm/s^2").square(), 1 / sampling_rate_hz)
    return energy / torch.where(energy[..., -1:] > 0, energy[..., -1:], torch.nan)


def duration(energy: Float[Tensor, "*trace time"], step_s: float, start: float, stop: float) -> Float[Tensor, "*trace"]:
    """Seconds between two shares of a growing curve's last value, straight between samples; NaN where that is 0 or not finite."""
    last = energy[..., -1:]
    good = (last > 0) & last.isfinite()
    curve = torch.where(good, energy, torch.linspace(0, 1, energy.shape[-1], dtype=energy.dtype, device=energy.device))
    level = curve[..., -1:] * torch.tensor([start, stop], dtype=energy.dtype, device=energy.device)
    after = torch.searchsorted(curve.contiguous(), level.contiguous()).clamp(1, energy.shape[-1] - 1)
    high, low = curve.gather(-1, after), curve.gather(-1, after - 1)
    time = (after - 1 + (level - low) / (high - low)) * step_s
    return torch.where(good[..., 0], time[..., 1] - time[..., 0], torch.nan)


def _checked(acceleration: Tensor, sampling_rate_hz: float, unit: str) -> Tensor:
    """In cm/s^2, float64."""
    if unit not in UNITS:
        raise SeislatentError(unknown("unit of acceleration", unit, UNITS) + "; counts and velocities must be converted first")
    if acceleration.is_complex() or acceleration.ndim < 1 or acceleration.shape[-1] < 2:
        raise SeislatentError(
            f"acceleration of shape {tuple(acceleration.shape)}: give real numbers [..., time], 2 samples or more"
        )
    if not (np.isfinite(sampling_rate_hz) and sampling_rate_hz > 0):
        raise SeislatentError(f"acceleration at {sampling_rate_hz} Hz: give a positive sampling rate")
    return acceleration.to(torch.float64) * UNITS[unit]


def _highpass(a: Tensor, rate_hz: float, baseline: Baseline) -> Tensor:
    """|H| of a Butterworth filter run twice, 1 / (1 + (corner / f)^(2 order)), without phase."""
    from scipy.fft import next_fast_len

    if not a.numel():
        return a
    m = int(next_fast_len(a.shape[-1], real=True))
    ratio = torch.fft.rfftfreq(m, 1 / rate_hz, dtype=a.dtype, device=a.device) / float(baseline.highpass_hz or 1)
    power = ratio.pow(2 * baseline.order)
    gain = torch.where(ratio > 100, 1.0, power / (1 + power))
    return torch.fft.irfft(torch.fft.rfft(a, m) * gain, m)[..., : a.shape[-1]]


def _cumulative(x: Tensor, step_s: float) -> Tensor:
    """Trapezoidal sums from 0."""
    return torch.nn.functional.pad((step_s / 2 * (x[..., 1:] + x[..., :-1])).cumsum(-1), (1, 0))


def _integral(x: Tensor, step_s: float) -> Tensor:
    return torch.trapezoid(x, dx=step_s)


def _standardised(a: Tensor, rate_hz: float) -> Tensor:
    """CAV of the seconds in which |a| reaches 0.025 g; the last second may be short."""
    per_second = max(1, round(rate_hz))
    pieces = (a.shape[-1] - 2) // per_second + 1
    size = a.abs()
    steps = torch.nn.functional.pad((size[..., 1:] + size[..., :-1]) / (2 * rate_hz), (0, pieces * per_second + 1 - a.shape[-1]))
    tops = torch.maximum(size[..., 1:], size[..., :-1])
    tops = torch.nn.functional.pad(tops, (0, pieces * per_second + 1 - a.shape[-1]))
    counts = tops.unflatten(-1, (pieces, per_second)).amax(-1) >= 0.025 * G_CM
    return (steps.unflatten(-1, (pieces, per_second)).sum(-1) * counts).sum(-1)


def _over_periods(sa: Tensor, at: list[float], wanted: Sequence[float], *, pseudo_velocity: bool) -> Tensor:
    period = torch.tensor(wanted, dtype=sa.dtype, device=sa.device)
    values = sa[..., [at.index(float(p)) for p in wanted]]
    return torch.trapezoid(values * period / (2 * torch.pi) if pseudo_velocity else values, period)


def names(periods_s: Sequence[float] = PERIODS_S) -> dict[str, str]:
    """Every column with what it is, for the README of a table."""
    return MEANING | {spectral_name(p): f"pseudo-acceleration at 5 % damping and {p:g} s, in g" for p in periods_s}
