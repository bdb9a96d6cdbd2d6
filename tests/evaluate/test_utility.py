"""Picks, peaks and spectra of decoded records: nothing changes without coding, and known changes are found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from seislatent.errors import SeislatentError
from seislatent.evaluate.utility import against
from seislatent.waveform import Channel, Waveform

RATE = 40.0


def quake(unit="cm/s^2", rows=3, samples=2400, p=800, s=1200):
    """Noise, P of the vertical at 20 s, S of the horizontals at 30 s."""
    rng = np.random.default_rng(0)
    t = np.arange(samples)
    x = 0.01 * rng.standard_normal((3, samples))
    x[0] += np.where(t >= p, np.exp(-(t - p) / 200), 0) * np.sin(2 * np.pi * 6 * t / RATE)
    x[1:] += np.where(t >= s, 3 * np.exp(-(t - s) / 300), 0) * np.sin(2 * np.pi * 4 * t / RATE + np.arange(2)[:, None])
    channels = tuple(Channel(station="ABC", code=f"HN{c}", component=c) for c in "ZNE"[:rows])
    return Waveform(data=x[:rows], sampling_rate_hz=RATE, channels=channels, unit=unit)


def test_nothing_changes_without_coding():
    x = quake()
    told = against(x)(x)
    assert set(told) >= {
        "sta_lta_p_shift_s", "aic_p_shift_s", "sta_lta_s_shift_s", "aic_s_shift_s", "peak_ratio", "PGA_ratio", "PGA_rotd50_ratio",
        "SA(0.2)_ratio", "SA(1.0)_rotd50_ratio", "lsd_0.5_1_hz_db", "lsd_10_20_hz_db",
    }  # fmt: skip
    assert "lsd_20_50_hz_db" not in told and "SA(0.05)_ratio" not in told
    for name, value in told.items():
        best = 1 if name.endswith(("ratio", "kept")) else 0
        assert value == pytest.approx(best, abs=1e-9), name


def test_a_delay_moves_picks_by_itself():
    x = quake()
    for samples, kept in ((2, 1.0), (8, 0.0)):
        told = against(x)(replace(x, data=np.roll(x.data, samples, -1)))
        for name in ("sta_lta_p", "aic_p"):
            assert told[f"{name}_shift_s"] == pytest.approx(samples / RATE, abs=1.5 / RATE)
            assert told[f"{name}_lost"] == 0 and told[f"{name}_kept"] == kept
        assert told["PGA_ratio"] == pytest.approx(1, abs=0.01)


def test_scale_and_bands():
    x = quake()
    told = against(x)(replace(x, data=0.5 * x.data))
    for name in ("peak_ratio", "PGA_ratio", "PGA_rotd50_ratio", "SA(0.1)_ratio", "SA(2.0)_rotd50_ratio"):
        assert told[name] == pytest.approx(0.5), name
    # 80 dB below the largest there is a floor, which some of the quiet noise is near
    assert told["lsd_2_5_hz_db"] == pytest.approx(20 * math.log10(2), abs=0.1)
    assert told["sta_lta_p_shift_s"] == 0  # a ratio of energies has no scale
    t = np.arange(x.data.shape[1]) / RATE
    hummed = replace(x, data=x.data + 0.3 * np.sin(2 * np.pi * 15 * t))
    told = against(x)(hummed)
    # a band that a tone joins is farther off than bands below it
    assert told["lsd_10_20_hz_db"] > 3 * told["lsd_1_2_hz_db"]


def test_a_pick_can_be_lost_and_none_is_no_loss():
    x = quake()
    flat = replace(x, data=np.tile(np.sin(2 * np.pi * 5 * np.arange(x.data.shape[1]) / RATE), (3, 1)))
    told = against(x)(flat)
    assert told["sta_lta_p_lost"] == 1 and told["sta_lta_p_kept"] == 0 and math.isnan(told["sta_lta_p_shift_s"])
    back = against(flat)(x)
    assert math.isnan(back["sta_lta_p_lost"]) and math.isnan(back["sta_lta_p_kept"])


def test_what_a_record_does_not_offer_is_not_told():
    counts = against(quake(unit="counts"))(quake(unit="counts"))
    assert "peak_ratio" in counts and not any(name.startswith(("PGA", "SA")) for name in counts)
    alone = quake(rows=1)
    told = against(alone)(alone)
    assert "PGA_ratio" in told and "PGA_rotd50_ratio" not in told and told["aic_p_lost"] == 0 and math.isnan(told["aic_s_lost"])
    level = replace(alone, channels=(Channel(station="ABC", code="HN1", component="1"),))
    assert not any("_lost" in name for name in against(level)(level))
    short = replace(quake(), data=quake().data[:, :100])
    assert math.isnan(against(short)(short)["lsd_2_5_hz_db"])


def test_silence_and_what_is_not_finite():
    x = quake()
    silent = replace(x, data=np.zeros_like(x.data))
    told = against(x)(silent)
    assert told["peak_ratio"] == 0 and told["PGA_ratio"] == 0 and told["sta_lta_p_lost"] == 1
    assert math.isfinite(told["lsd_2_5_hz_db"])
    assert math.isnan(against(silent)(x)["peak_ratio"]) and math.isnan(against(silent)(x)["lsd_2_5_hz_db"])
    x.data[0, 3] = np.nan
    with pytest.raises(SeislatentError, match="NaN"):
        against(x)
