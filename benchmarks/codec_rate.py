"""A codec beside a classical coder, on the same windows and in the same number of bits.

OMP_NUM_THREADS=1 python benchmarks/codec_rate.py --data RECORDS --model codec/eqcodec_small --windows 200 --out codec_rate.json

Windows of 30 s of one component at the codec's rate, scaled to zero mean and unit variance, from records that the codec's weights
have not seen (the split is computed by the code that training uses). RECORDS is a folder that holds the sets of
`SEISLATENT_RECORDS` by their names; without --data it is that folder.

The classical coder: a lapped cosine transform (MDCT; Princen and Bradley 1986) with a sine window and a block of 32 to 256
samples, whichever is best for the window; a dead-zone quantiser; a Laplacian whose scale is foretold from coefficients coded
before, and the length an ideal arithmetic coder would need with it; 32 bits a window for step, block and one constant. Its step
is found so that it takes no more bits than the codec.

A second one of the kind, with the codec's frames as blocks, must spend the codec's bits in every single frame ("bits even"): what
lies between the two is mostly what it is worth to spend bits where the energy is, which a codec of fixed rate cannot.

The codec is judged twice: on the window alone, as the classical coder is, and in its record, with context and one frame more on
either side that are not counted, as a window stands inside a segment of a code file. The lead of the classical coder is told over
the latter, in the codec's bits with its side information (offset and scales, as a code file stores them).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct

from seislatent import catalog
from seislatent.data.codec_windows import held_out
from seislatent.data.records import Records, open_records
from seislatent.data.splits import split_by_event
from seislatent.errors import SeislatentError
from seislatent.evaluate.bootstrap import summary
from seislatent.io.slat_side import pack_side
from seislatent.prepare.resample import resample

Array = NDArray[np.float64]

WINDOW_S, HEADER_BITS = 30.0, 32
AROUND_FRAMES = 5  # on either side of a window: one that is coded but not judged, and four of context
COMPARED = (1, 2, 4, 8)  # levels at which the classical coder is asked for the same bits
BLOCKS = (32, 64, 128, 256)
DEAD_ZONE = 0.64
"""Values below this many steps become 0."""
WEIGHTS = {  # of what `neighbours` yields; fitted on training records
    32: (0.156, 0.033, 0.185, 0.072, 0.0, 0.065, 0.39),
    64: (0.229, 0.085, 0.194, 0.09, 0.006, 0.096, 0.181),
    128: (0.29, 0.164, 0.164, 0.09, 0.028, 0.048, 0.077),
    256: (0.358, 0.249, 0.076, 0.069, 0.041, 0.006, 0.14),
}
CONSTANTS = (0.35, 0.25, 0.15, 0.05)
"""Added to the weighted neighbours; a window takes the best of them, which its header tells."""


def lapped(x: Array, block: int, back: bool = False) -> Array:
    """Orthonormal MDCT of [n blocks block]; there is no lap beyond either end. `back` inverts it."""
    half = block // 2
    rise = np.sin(np.pi / (2 * block) * (np.arange(block) + 0.5))
    c, s = rise[half:], rise[:half][::-1]
    y = dct(x, type=4, norm="ortho") if back else x.copy()
    before, after = y[:, :-1, half:][..., ::-1].copy(), y[:, 1:, :half].copy()
    s = -s if back else s
    y[:, :-1, half:] = (c * before - s * after)[..., ::-1]
    y[:, 1:, :half] = c * after + s * before
    return y if back else dct(y, type=4, norm="ortho")


def in_blocks(x: Array, block: int) -> Array:
    """[n time] as [n blocks block]; what the last block lacks is the mirror image, faded out."""
    lack = -x.shape[1] % block
    tail = x[:, ::-1][:, :lack] * np.cos(np.pi / 2 * (np.arange(lack) + 0.5) / max(lack, 1)) ** 2
    return np.concatenate([x, tail], 1).reshape(len(x), -1, block)


def neighbours(a: Array) -> Iterator[Array]:
    """Magnitudes [n blocks block] coded before each: below in frequency, in the block before, and running means of both."""
    padded = np.pad(a, ((0, 0), (2, 0), (2, 2)))
    here, last = padded[:, 2:], padded[:, 1:-1]
    yield here[:, :, 1:-3]
    yield here[:, :, :-4]
    yield last[:, :, 2:-2]
    yield last[:, :, 1:-3] + last[:, :, 3:-1]
    yield last[:, :, :-4] + last[:, :, 4:]
    yield padded[:, :-2, 2:-2]
    slow = np.zeros_like(a)
    for t in range(1, a.shape[1]):
        slow[:, t] = 0.8 * slow[:, t - 1] + 0.2 * a[:, t - 1]
    yield slow


def scales(a: Array) -> Array:
    """Laplacian scale of each coefficient but for a constant, as a decoder knows it before it reads the coefficient."""
    weights = WEIGHTS[min(WEIGHTS, key=lambda block: abs(block - a.shape[2]))]
    return np.sum([w * n for w, n in zip(weights, neighbours(a), strict=True)], 0)


def code_lengths(a: Array, scale: Array) -> Array:
    """-log2 of the probability of each quantised coefficient, of magnitude `a`, under a Laplacian: [n blocks block] bits."""
    zero = -np.log2(-np.expm1(-DEAD_ZONE / scale))
    other = (DEAD_ZONE + a - 1) / scale * np.log2(np.e) - np.log2(-np.expm1(-1 / scale)) + 1
    return np.where(a == 0, zero, other)


def quantised(y: Array, step: Array) -> tuple[Array, Array]:
    """What a decoder makes of coefficients [n blocks block], quantised by steps [n blocks], and the bits of each."""
    step = step[..., None]
    a = np.floor(np.abs(y) / step + 1 - DEAD_ZONE)
    known = scales(a * step) / step
    tried = np.stack([code_lengths(a, known + c) for c in CONSTANTS])
    best, every = tried.sum((2, 3)).argmin(0), np.arange(len(a))
    scale = known + np.array(CONSTANTS)[best][:, None, None]
    middle = a + DEAD_ZONE - 1 + scale - 1 / np.expm1(np.minimum(1 / scale, 500))  # the Laplacian's mean in the interval
    return np.sign(y) * np.where(a > 0, middle, 0) * step, tried[best, every]


def coded(y: Array, bits: Array) -> tuple[Array, Array]:
    """`quantised` by the least steps that take at most `bits`: [n 1] of each window, or [n blocks] of each block."""
    low, high = np.full(y.shape[:2], -14.0), np.full(y.shape[:2], 6.0)  # log2
    for _ in range(15):
        middle = (low + high) / 2
        spent = quantised(y, np.exp2(middle))[1].sum(2)
        fits = (spent if bits.shape[1] > 1 else spent.sum(1, keepdims=True)) <= bits
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    return quantised(y, np.exp2(high))


def evenly(x: Array, bits: float, frame: int) -> Array:
    """SNR in dB of a classical coder with as many bits in every frame, whose steps cost nothing; its blocks are the frames."""
    y = lapped(in_blocks(x, frame), frame)
    return snr_db(lapped(coded(y, np.full(y.shape[:2], bits))[0], frame, back=True).reshape(x.shape), x)


@dataclass
class Classical:
    """What the classical coder makes of windows."""

    snr_db: Array
    block: NDArray[np.int64]
    bits_loud: Array
    """Share of a window's bits that lie in its loudest fifth."""


def classical(x: Array, bits: Array, frame: int) -> Classical:
    """Codes windows [n time] in at most so many bits each, by the block that is best."""
    best = Classical(np.full(len(x), -np.inf), np.zeros(len(x), np.int64), np.zeros(len(x)))
    for block in BLOCKS:
        y = lapped(in_blocks(x, block), block)
        kept, lengths = coded(y, bits[:, None] - HEADER_BITS)
        snr = snr_db(lapped(kept, block, back=True).reshape(len(x), -1)[:, : x.shape[1]], x)
        spent = np.repeat(lengths.sum(2) / block, block, axis=1)[:, : x.shape[1]]
        better = snr > best.snr_db
        best.snr_db[better], best.block[better] = snr[better], block
        best.bits_loud[better] = share_of_loudest(x, spent, frame)[better]
    return best


def snr_db(y: Array, x: Array) -> Array:
    """Of windows without mean, in dB."""
    return 10 * np.log10((x**2).sum(1) / np.maximum(((y - x) ** 2).sum(1), 1e-30))


@dataclass
class Neural:
    """What the codec makes of windows."""

    snr_db: Array
    """[level window]"""
    unquantised_db: Array
    side_bits: Array
    """Offset and scales of a window as a code file stores those of a segment that stands by itself."""


def neural(system: Any, wide: Array, alone: bool) -> Neural:
    """Codes windows cut with `AROUND_FRAMES` on either side."""
    around = AROUND_FRAMES * system.frame
    extra, margin = (0, 0) if alone else (system.frame, around - system.frame)
    found, ceiling, side = [], [], []
    for part in np.array_split(wide, -(-len(wide) // 20)):
        x = part[:, around:-around]
        given = torch.from_numpy(np.ascontiguousarray(x if alone else part))[:, None]
        with torch.inference_mode():
            tokens = system.encode(given, margin)
            made = [system.decode(tokens, level) for level in range(1, system.books + 1)] + [system.unquantised(given, margin)]
        *levels, last = (snr_db(y[:, 0, extra : extra + x.shape[1]].numpy(), x) for y in made)
        found.append(levels)
        ceiling.append(last)
        side += [8.0 * len(pack_side([int(o)], [s])) for o, s in zip(tokens.offset, tokens.scale.numpy(), strict=True)]
    return Neural(np.concatenate(found, 1), np.concatenate(ceiling), np.array(side))


def flatness(x: Array) -> Array:
    """Geometric over arithmetic mean of each window's power spectrum, smoothed over 0.5 Hz: 1 for white noise."""
    power = np.abs(np.fft.rfft(x * np.hanning(x.shape[1]))) ** 2
    power = power[:, 1 : 1 + power.shape[1] // 15 * 15].reshape(len(x), -1, 15).mean(2) + 1e-12
    return np.exp(np.log(power).mean(1)) / power.mean(1)


def share_of_loudest(x: Array, what: Array, frame: int) -> Array:
    """Share of `what` [n time] in the fifth of the window's frames in which x has most energy."""
    energy = (x**2).reshape(len(x), -1, frame).sum(2)
    frames = what.reshape(len(x), -1, frame).sum(2)
    loudest = np.argsort(-energy, axis=1)[:, : energy.shape[1] // 5]
    return np.take_along_axis(frames, loudest, 1).sum(1) / frames.sum(1)


@dataclass
class Windows:
    """Windows of one set with what stands around them."""

    wide: Array
    """[n time], zero mean and unit variance in the window proper."""
    record: list[str]
    """Station and start, the same for all components, or the name of the record."""


def unseen(root: Path, settings: Any) -> tuple[Records, Any]:
    """All records, and their split as training has it."""
    records = open_records([root, *(p for p in sorted((root / "continuous").glob("*")) if p.is_dir())])
    split = split_by_event(records.metadata)
    return records, split.where(~held_out(records.metadata, settings.hold_out), "test")


def sets(records: Records, split: Any, settings: Any) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Names of what is judged, and the rows of the table that belong to it."""
    table = records.metadata
    test, of = split == "test", table["dataset"]
    hour = ((table["start_ns"].fillna(0).astype("int64") + 10**9) // (3600 * 10**9) % 24).to_numpy()
    anza = of == "anza_19980101"
    for name in ("ncedc_deepdenoiser", "stead_sample50"):  # kept out as a whole
        yield name, np.flatnonzero(test & (of == name))
    # hour 18: at stations that were kept out, though heard at others in training; then hours that training has at no station
    trained = set(hour[anza & (split == "train")])
    yield "anza, hour 18", np.flatnonzero(test & anza & (hour == 18))
    yield "anza, hours kept out", np.flatnonzero(test & anza & ~np.isin(hour, sorted(trained)))
    networks = settings.networks.get("strongmotion_gmprocess", ())
    strong = (of == "strongmotion_gmprocess") & table["station_network_code"].isin(networks)
    for part in ("test", "dev"):
        yield f"strongmotion_gmprocess, {part}", np.flatnonzero((split == part) & strong)
    yield "ncedc_phasenet, test", np.flatnonzero(test & (of == "ncedc_phasenet"))


def cut(records: Records, rows: NDArray[np.int64], system: Any, name: str, most: int, seed: int) -> Windows | None:
    """At most so many windows, drawn from all that the rows hold side by side; None where there is none."""
    rng, rate, around = np.random.default_rng([seed, *name.encode()]), system.sampling_rate_hz, AROUND_FRAMES * system.frame
    size = round(WINDOW_S * rate / system.frame) * system.frame
    found, record = [], []
    for i in rows:
        waveform, about = records[int(i)], records.metadata.iloc[i]
        name = f"{about['station_code']} {about['start_ns']}" if waveform.start_ns else str(about["trace_name"])
        for row in waveform.data if waveform.sampling_rate_hz >= rate else ():
            if not np.isfinite(row).all() or np.ptp(row) == 0:
                continue
            x = resample(row - row.mean(dtype=np.float64), waveform.sampling_rate_hz, rate)
            spare = len(x) - 2 * around - size
            for start in range(int(rng.integers(spare % size + 1)), spare + 1, size) if spare >= 0 else ():
                wide = x[start : start + size + 2 * around]
                inner = wide[around:-around]
                if inner.std() > 1e-9 * np.abs(row).max():
                    found.append((wide - inner.mean()) / inner.std())
                    record.append(name)
    if not found:
        return None
    chosen = np.sort(rng.permutation(len(found))[:most])
    return Windows(np.stack(found)[chosen], [record[i] for i in chosen])


def compare(system: Any, windows: Windows) -> dict[str, Any]:
    """All figures of one set."""
    around = AROUND_FRAMES * system.frame
    x = windows.wide[:, around:-around]
    alone, inside = (neural(system, windows.wide, flag) for flag in (True, False))
    nominal = system.bits_per_index * x.shape[1] // system.frame
    flat, loud = flatness(x), share_of_loudest(x, x**2, system.frame)

    def told(values: Array) -> dict[str, Any]:
        return summary(values, windows.record).plain()

    levels = {}
    for level in range(1, system.books + 1):
        one: dict[str, Any] = {
            "bits_per_sample": level * nominal / x.shape[1],
            "bits_per_sample_with_side": float(level * nominal + alone.side_bits.mean()) / x.shape[1],
            "codec_alone_snr_db": told(alone.snr_db[level - 1]),
            "codec_in_record_snr_db": told(inside.snr_db[level - 1]),
        }
        if level in COMPARED:
            bits = level * nominal + alone.side_bits
            whole, free = classical(x, bits, system.frame), classical(x, np.full(len(x), 1.0 * level * nominal), system.frame)
            lead = whole.snr_db - inside.snr_db[level - 1]
            one |= {
                "classical_snr_db": told(whole.snr_db),
                "classical_nominal_bits_snr_db": told(free.snr_db),
                "classical_evenly_snr_db": told(evenly(x, level * system.bits_per_index, system.frame)),
                "classical_lead_db": told(lead),
                "classical_leads_in": float((lead > 0).mean()),
                "classical_bits_in_loudest_fifth": float(whole.bits_loud.mean()),
                "classical_blocks": {str(b): float((whole.block == b).mean()) for b in BLOCKS},
                "classical_lead_against_energy_in_loudest_fifth": float(np.corrcoef(loud, lead)[0, 1]),
            }
        levels[str(level)] = one
    return {
        "windows": len(x),
        "samples": x.shape[1],
        "records": len(set(windows.record)),
        "flatness": told(flat),
        "energy_in_loudest_fifth": told(loud),
        "side_bits": float(alone.side_bits.mean()),
        "unquantised_alone_snr_db": told(alone.unquantised_db),
        "unquantised_in_record_snr_db": told(inside.unquantised_db),
        "levels": levels,
    }


def markdown(heads: str, rows: list[list[str]]) -> str:
    """A table; heads are parted by commas."""
    lines = [heads.split(", "), ["---"] * len(heads.split(", ")), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def value(it: dict[str, Any]) -> str:
    """A mean in dB and its interval."""
    return f"{it['mean']:.1f}" + ("" if it["low"] is None else f" ({it['low']:.1f} to {it['high']:.1f})")


def tables(found: dict[str, Any], levels: list[str]) -> str:
    """The figures as Markdown; `levels` are those at which the classical coder was run."""
    compared, every, why = [], [], []
    for name, one in found.items():
        for level in levels:
            row = one["levels"][level]
            columns = "codec_alone", "codec_in_record", "classical", "classical_nominal_bits", "classical_evenly"
            cells = [*(value(row[f"{k}_snr_db"]) for k in columns), value(row["classical_lead_db"])]
            title = f"{name} ({one['windows']} / {one['records']})" if level == levels[0] else ""
            bits = f"{row['bits_per_sample']:g} + {one['side_bits'] / one['samples']:.3f}"
            compared.append([title, bits, *cells, f"{row['classical_leads_in']:.0%}"])
        compared.append(["", "no quantiser", *(value(one[f"unquantised_{k}_snr_db"]) for k in ("alone", "in_record")), *[""] * 5])
        every.append([name, *(f"{row['codec_in_record_snr_db']['mean']:.1f}" for row in one["levels"].values())])
        spent = " / ".join(f"{one['levels'][k]['classical_bits_in_loudest_fifth']:.0%}" for k in levels)
        blocks = " / ".join(f"{share:.0%}" for share in one["levels"][levels[-1]]["classical_blocks"].values())
        follows = " / ".join(f"{one['levels'][k]['classical_lead_against_energy_in_loudest_fifth']:+.2f}" for k in levels)
        flat, energy = f"{one['flatness']['mean']:.3f}", f"{one['energy_in_loudest_fifth']['mean']:.0%}"
        why.append([name, flat, energy, spent, follows, blocks])
    heads = "set (windows / records), bit/sample + side, codec alone, in record, classical, no side bits, bits even, lead, leads"
    at, sizes = " / ".join(levels), " / ".join(map(str, BLOCKS))
    why_heads = f"set, flatness, energy in a fifth, classical bits in it, lead against that energy, blocks of {sizes} at the last"
    parts = ["SNR in dB, mean and its 95 % interval by record:", markdown(heads, compared)]
    parts += ["Codec in its record at every level, dB:", markdown("set, " + ", ".join(one["levels"]), every)]
    about = f"Why (a fifth: the loudest frames of a window, where the codec spends a fifth of its bits; at levels {at}):"
    return "\n\n".join([*parts, about, markdown(why_heads, why)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEISLATENT_RECORDS"), help="folder that holds the sets")
    parser.add_argument("--model", default="codec/eqcodec_small", help="packaged codec, or a .safetensors file")
    parser.add_argument("--windows", type=int, default=200, help="most windows of a set")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of windows")
    parser.add_argument("--beam", type=int, help="sums kept while encoding; the codec's own by default")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    if given.data is None:
        parser.error("no records: give --data, or set SEISLATENT_RECORDS")
    model = catalog.load(given.model)
    system: Any = model.system
    if given.beam:
        system.config = replace(system.config, beam=given.beam)
    settings = catalog.source(catalog.preset(model.name))[1]
    records, split = unseen(Path(given.data), settings)
    found = {}
    for name, rows in sets(records, split, settings):
        windows = cut(records, rows, system, name, given.windows, given.seed)
        if windows is not None:
            found[name] = compare(system, windows)
    about = {"model": model.name, "digest": model.digest, "steps": model.about.get("steps"), "beam": system.config.beam}
    levels = [str(k) for k in COMPARED if k <= system.books]
    print(f"{model.name}, weights {model.digest}, {about['steps']} steps, beam {about['beam']}\n\n{tables(found, levels)}")
    if given.out:
        part = given.out.with_name(given.out.name + ".part")
        part.write_text(
            json.dumps({**about, "seed": given.seed, "window_s": WINDOW_S, "sets": found}, indent=1) + "\n", encoding="utf-8"
        )
        os.replace(part, given.out)


if __name__ == "__main__":
    try:
        main()
    except SeislatentError as error:
        raise SystemExit(f"codec_rate: {error}") from None
