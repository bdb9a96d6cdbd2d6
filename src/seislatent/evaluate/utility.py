"""What coding does to what records are used for: onsets of classical pickers, peak and spectral motion, Fourier spectra.

original Waveform --against--> its picks, peaks, spectra --decoded Waveform--> {name: number}, NaN where there is nothing to compare

Both are at one rate and have the same channels, so that nothing is measured but the coding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from seislatent.errors import SeislatentError
from seislatent.evaluate.baselines.picking import ArrivalPicks, aic_picks, sta_lta_picks
from seislatent.metrics.intensity import G_CM, UNITS, Baseline, corrected, spectral_name, spectrum
from seislatent.metrics.rotated import rotate
from seislatent.metrics.spectrum import log_spectral_distance_db
from seislatent.waveform import Waveform

PICKED: dict[str, Callable[[Waveform], ArrivalPicks]] = {"sta_lta": sta_lta_picks, "aic": aic_picks}
"""Each with its defaults, whose high-pass of 2 Hz asks for a rate above 4 Hz."""
NEAR_S = 0.1
"""A pick that moves by no more than this counts as kept."""
PERIODS_S = (0.1, 0.2, 0.5, 1.0, 2.0)
BANDS_HZ = ((0.5, 1.0), (1.0, 2.0), (2.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, 50.0))
"""Of the log-spectral distance; those that end above half the rate are left out."""
FRAME_S = 4.0
"""Of short-time spectra."""


def against(original: Waveform) -> Callable[[Waveform], dict[str, float]]:
    """What measures decoded records of an original; the original's own part is computed once.

    The numbers, of a record with all its channels:
        sta_lta_p_shift_s, aic_s_shift_s ...: pick on the decoded record less that on the original, s; NaN unless both have it.
        sta_lta_p_lost ...: 1 where the pick on the original has none on the decoded one, else 0; NaN without one on the original.
        sta_lta_p_kept ...: 1 where it is there and moved by 0.1 s at most, else 0; NaN without one on the original.
        PGA_ratio, SA(0.2)_ratio ...: decoded over original, mean over channels; NaN where the unit is no acceleration.
        PGA_rotd50_ratio, SA(0.2)_rotd50_ratio ...: of two horizontals.
        peak_ratio: largest absolute sample, mean removed, decoded over original, mean over channels; any unit.
        lsd_2_5_hz_db ...: log-spectral distance in a band, dB, mean over channels; NaN where the record is shorter than 4 s.

    Raises:
        SeislatentError: samples that are not finite.
    """
    picks, peaks, motion = _picks(original), _peaks(original), _motion(original)

    def compare(decoded: Waveform) -> dict[str, float]:
        told = _onsets(picks, _picks(decoded), original.sampling_rate_hz)
        told["peak_ratio"] = _ratio(_peaks(decoded), peaks)
        now = _motion(decoded)
        told |= {f"{name}_ratio": _ratio(now[name], motion[name]) for name in motion if name in now}
        return told | _distances(decoded, original)

    return compare


def _picks(waveform: Waveform) -> dict[str, ArrivalPicks]:
    """By picker; none of a record without a vertical component."""
    if waveform.components.count("Z") != 1 or waveform.sampling_rate_hz <= 4:
        return {}
    return {name: pick(waveform) for name, pick in PICKED.items()}


def _onsets(before: dict[str, ArrivalPicks], after: dict[str, ArrivalPicks], rate_hz: float) -> dict[str, float]:
    told = {}
    for name, pick in before.items():
        for phase in ("p", "s"):
            there, now = (getattr(found, f"{phase}_sample") for found in (pick, after[name]))
            shift = (now - there) / rate_hz if there is not None and now is not None else math.nan
            told[f"{name}_{phase}_shift_s"] = shift
            told[f"{name}_{phase}_lost"] = math.nan if there is None else float(now is None)
            # half a sample's rounding must not make a tenth of a second more than that
            told[f"{name}_{phase}_kept"] = math.nan if there is None else float(abs(shift) <= NEAR_S + 1e-9)
    return told


def _peaks(waveform: Waveform) -> np.ndarray:
    x = np.asarray(waveform.data, np.float64)
    if not np.isfinite(x).all():
        raise SeislatentError(f"{waveform!r} holds NaN or infinity: fill gaps or leave it out")
    return np.abs(x - x.mean(-1, keepdims=True)).max(-1)


def _motion(waveform: Waveform) -> dict[str, np.ndarray]:
    """Peak and spectral accelerations by name, of each channel and of the horizontals in all directions."""
    if waveform.unit not in UNITS or waveform.data.shape[1] < 2:
        return {}
    rate, x = waveform.sampling_rate_hz, torch.from_numpy(np.asarray(waveform.data, np.float64))
    periods = [p for p in PERIODS_S if p >= 4 / rate]
    each = corrected(x, rate, unit=waveform.unit, baseline=Baseline())
    told = {"PGA": each.a_cm_s2.abs().amax(-1).numpy() / G_CM}
    response = spectrum(each.a_cm_s2, rate, periods).numpy()
    told |= {_bare(p): response[:, i] for i, p in enumerate(periods)}
    level = [i for i, component in enumerate(waveform.components) if component not in ("Z", "U")]
    if len(level) == 2:
        one, two = (corrected(x[i : i + 1], rate, unit=waveform.unit) for i in level)
        turned = rotate(one, two, rate, periods_s=periods, percentiles=(50.0,))
        told["PGA_rotd50"] = turned.PGA_g[:, 0].numpy()
        told |= {f"{_bare(p)}_rotd50": turned.SA_g[:, 0, i].numpy() for i, p in enumerate(periods)}
    return told


def _bare(period_s: float) -> str:
    """SA(0.2): a ratio has no unit."""
    return spectral_name(period_s).removesuffix("_g")


def _ratio(decoded: np.ndarray, original: np.ndarray) -> float:
    """Mean over channels, of those whose original is not 0."""
    there = original > 0
    return float((decoded[there] / original[there]).mean()) if there.any() else math.nan


def _distances(decoded: Waveform, original: Waveform) -> dict[str, float]:
    rate = original.sampling_rate_hz
    x, y = (torch.from_numpy(np.array(w.data, np.float64)) for w in (decoded, original))
    x, y = (v - y.mean(-1, keepdim=True) for v in (x, y))
    told = {}
    for low, high in BANDS_HZ:
        if high > rate / 2:
            continue
        name = f"lsd_{low:g}_{high:g}_hz_db"
        if original.data.shape[1] < FRAME_S * rate:
            told[name] = math.nan
            continue
        found = log_spectral_distance_db(x, y, rate, window_s=FRAME_S, band_hz=(low, high)).numpy()
        told[name] = float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else math.nan
    return told
