"""The lapped transform is orthonormal, and with it a trace comes back whole: at its ends, and where its segments join."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_codec import FRAME, MARGIN, TINY, made

from seislatent import catalog
from seislatent.systems.codec import segments, stream
from seislatent.systems.codec.eqcodec import EQCodec, Lapped
from seislatent.waveform import Channel, Waveform


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def there_and_back(lapped, x, margin, ends):
    """Coded and decoded, from samples with their margins."""
    return lapped.synthesise(lapped.analyse(lapped.extend(x, margin, torch.tensor(ends)), margin))


def relative(y, x):
    """Root mean square of the error of the worst record, relative to the samples'."""
    return ((y - x).square().mean((1, 2)) / x.square().mean((1, 2))).sqrt().max()


@pytest.mark.parametrize("frame", [4, 8, 20, 40, 64])
def test_orthonormal(frame):
    """Rows of the synthesis of five frames, two of them neighbours of none."""
    lapped = Lapped(frame, frame)
    unit = torch.eye(5 * frame).view(5 * frame, frame, 5)
    rows = torch.nn.functional.conv_transpose1d(unit, lapped.cosines, stride=frame).flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5 * frame), rtol=0, atol=2e-5)
    assert lapped.cosines.shape == (frame, 1, frame + frame // 2)
    assert not lapped.state_dict() and not list(lapped.parameters())  # it learns nothing and is not stored


@pytest.mark.parametrize("frame", [4, 8, 40])
@pytest.mark.parametrize("frames", [1, 2, 3, 7, 64])
def test_whole_traces_come_back(frame, frames):
    lapped, inner = Lapped(frame, frame), normal(3, 1, frames * frame)
    for margin in (frame // 4, frame, 4 * frame):
        for beyond in (0.0, 1e5):  # what lies beyond an end plays no part
            x = torch.nn.functional.pad(inner, (margin, margin), value=beyond)
            kept = x.clone()
            assert relative(there_and_back(lapped, x, margin, [[True, True]] * 3), inner) < 1e-5
            assert torch.equal(x, kept)


def test_each_end_is_its_own_record_s():
    lapped, x, edge = Lapped(FRAME, FRAME), normal(4, 1, 6 * FRAME + 2 * MARGIN), FRAME // 4
    inner = x[:, :, MARGIN:-MARGIN]
    ends = [[True, True], [True, False], [False, True], [False, False]]
    error = (there_and_back(lapped, x, MARGIN, ends) - inner)[:, 0].square()
    assert error[:, edge:-edge].mean(1).max().sqrt() < 1e-5
    for row, (start, end) in enumerate(ends):
        assert (error[row, :edge].mean().sqrt() < 1e-5) == start and (error[row, -edge:].mean().sqrt() < 1e-5) == end
    assert torch.equal(lapped.extend(x, MARGIN, torch.tensor(ends))[3], x[3])


@pytest.mark.parametrize("first, last", [(0.0, 0.0), (1.0, 1.0), (-1.0, 3.0), (1e-3, -1e-3)])
def test_constants_and_ramps_come_back_at_their_ends(first, last):
    lapped, inner = Lapped(FRAME, FRAME), torch.linspace(first, last, 5 * FRAME)[None, None]
    x = torch.nn.functional.pad(inner, (MARGIN, MARGIN))
    assert (there_and_back(lapped, x, MARGIN, [[True, True]]) - inner).abs().max() <= 2e-5 * inner.abs().max()


def fresh(**changes):
    torch.manual_seed(0)
    return EQCodec(replace(TINY, latent=FRAME, **changes)).eval()


def snr_db(x, y, part):
    return float(10 * np.log10((x[..., part] ** 2).mean() / ((y - x)[..., part] ** 2).mean()))


@pytest.mark.parametrize("seconds", [1, 2, 30])
@pytest.mark.parametrize("amplitude", [1e-9, 1.0, 1e6])
def test_without_quantiser_a_fresh_codec_gives_a_record_back_with_its_ends(seconds, amplitude):
    x = normal(3, 1, seconds * FRAME).double() * amplitude
    y = fresh().unquantised(x)
    for part in (slice(None), slice(0, 10), slice(-10, None)):
        assert snr_db(x.numpy(), y.numpy(), part) > 80


class Fine(torch.nn.Module):
    """In a quantiser's place: each number of the latent to 18 binary places, as a book of its own."""

    def search(self, z, beam, scale):
        return (z.double() * 2.0**18).round().long()

    def decode(self, indices, scale):
        return (indices.double() / 2.0**18).float()


class FineModel:
    name, version, digest = "codec/fine", "1", "0123456789abcdef"

    def __init__(self):
        self.system = fresh(books=FRAME)
        self.system.quantizer = Fine()


@pytest.mark.parametrize("samples", [40, 79, 200, 361, 40 * 41 + 17, 40 * 240])
def test_ends_and_joins_of_a_trace_are_no_worse_than_the_rest(samples, monkeypatch):
    """Segments of 5 frames, 2 in a run, fed piece by piece."""
    real = segments.Head
    monkeypatch.setattr(segments, "Head", lambda **named: real(**named, hop=4, run=2))
    model, x = FineModel(), np.random.default_rng(samples).normal(size=samples) + 7.0
    encoder = segments.StreamEncoder(model, None, 40.0)
    runs = [run for at in range(0, samples, 333) for run in encoder.feed(x[at : at + 333])] + encoder.close()
    y = np.empty(samples)
    for first, part in segments.decoded(model.system, encoder.head, runs, 40.0, samples):
        y[first : first + len(part)] = part
    error = np.abs(y - x)
    assert error.max() < 1e-4  # 80 dB
    place, edge = np.arange(samples), FRAME // 4
    ends = (place < edge) | (place >= samples - edge)
    joins = (place % (4 * FRAME) < FRAME) & (place >= 4 * FRAME) & ~ends
    rest = error[~ends & ~joins]
    rest = np.sqrt((rest**2).mean())
    for part in (error[ends], error[joins]):
        assert not len(part) or np.sqrt((part**2).mean()) < 1.5 * rest


@pytest.mark.parametrize("lend", [False, True])
def test_a_file_is_the_same_in_pieces_and_serves_every_level(lend, monkeypatch):
    real = segments.Head
    monkeypatch.setattr(segments, "Head", lambda **named: real(**named, hop=4, run=2))
    model, rng = catalog.wrap(made(lend=lend), "codec/eqcodec"), np.random.default_rng(0)
    x = rng.normal(size=2000) * np.where(np.arange(2000) < 900, 1.0, 300.0)
    whole, pieces = (segments.StreamEncoder(model, None, 40.0) for _ in range(2))
    runs = whole.feed(x) + whole.close()
    again = [run for at in range(0, 2000, 77) for run in pieces.feed(x[at : at + 77])] + pieces.close()
    for a, b in zip(runs, again, strict=True):
        assert a.offsets == b.offsets
        assert all(np.array_equal(p, q) for p, q in zip(a.scales + a.indices, b.scales + b.indices, strict=True))
    wave = Waveform(data=x[None], sampling_rate_hz=40.0, channels=(Channel(code="HHZ"),), start_ns=0)
    codes = stream.encode(model, wave)
    for level in (1, 2, 3):
        lower = stream.encode(model, wave, level)
        assert codes.truncate(level).to_bytes() == lower.to_bytes()
        (a,), (b,) = stream.decode_waveforms(model, codes, level), stream.decode_waveforms(model, lower)
        assert np.array_equal(a.data, b.data) and a.data.shape == (1, 2000)
