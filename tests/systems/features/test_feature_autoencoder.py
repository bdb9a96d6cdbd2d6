"""Kong's autoencoders: the paper's shapes, the 2-D form, amplitude, the price on the code, learning."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric

from seislatent import catalog
from seislatent.batch import Batch
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine
from seislatent.errors import SeislatentError
from seislatent.nn.strided import StridedDecoder, StridedEncoder, halvings, widths
from seislatent.signal.peak import levelled
from seislatent.systems.features.autoencoder import Autoencoder, AutoencoderConfig

FREE = {"weights": {"waveform": 1.0}}


def bursts(count, seed=0):
    """Two decaying wave trains per record [b 3 540], as P and S are."""
    dice = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return low + (high - low) * torch.rand(count, 3, 1, generator=dice)

    t = torch.arange(540.0) / 20
    p = draw(3, 8)[:, :1]
    train = torch.zeros(count, 3, 540)
    for onset, size in ((p, 0.3), (p + draw(3, 8)[:, :1], 1.0)):
        since = (t - onset).clamp_min(0)
        wave = torch.sin(2 * torch.pi * draw(0.5, 4) * since + draw(0, 6))
        train = train + size * draw(0.3, 1) * wave * since * torch.exp(-since / draw(1, 4))
    return train


@pytest.mark.parametrize(("bottleneck", "layers"), [(68, 3), (34, 4), (17, 5)])
@pytest.mark.parametrize("maps", [8, 128])
def test_the_papers_shapes(bottleneck, layers, maps):
    system = Autoencoder(AutoencoderConfig(bottleneck=bottleneck, maps=maps))
    x = torch.randn(2, 3, 540)
    assert system.features(x).shape == (2, maps, bottleneck) and system.embed(x).shape == (2, maps * bottleneck)
    assert system.reconstruct(x).shape == x.shape and len(system.encoder.layers) == len(system.decoder.layers) == layers
    assert system.features(x).min() >= 0 and system.reconstruct(x).min() < 0
    assert (system.sampling_rate_hz, system.samples) == (20, 540)


def test_lengths_and_widths():
    assert [halvings(540, n) for n in (270, 135, 68, 34, 17, 1)] == [1, 2, 3, 4, 5, 10]
    assert widths(5, (16, 32), 8) == (16, 32, 8, 8, 8) and widths(2, (16, 32), 8) == (16, 8) and widths(1, (16, 32), 8) == (8,)
    with pytest.raises(SeislatentError, match="540 samples halved never make 60: give one of 270, 135, 68, 34, 17"):
        Autoencoder(AutoencoderConfig(bottleneck=60))


def test_the_papers_two_dimensional_form_is_the_same():
    torch.manual_seed(0)
    encoder, decoder = StridedEncoder(3, (16, 32, 8)), StridedDecoder(3, (16, 32, 8), 540)
    x = torch.randn(4, 3, 540)
    z = image = x[..., None]  # an image of 540 x 1 pixels
    for layer in encoder.layers:
        z = F.relu(F.conv2d(z, layer.weight[..., None], layer.bias, stride=(2, 1), padding=(1, 0)))
    torch.testing.assert_close(encoder(x), z[..., 0], rtol=1e-5, atol=1e-6)
    image = z
    for i, layer in enumerate(decoder.layers):
        more = (layer.output_padding[0], 0)
        image = F.conv_transpose2d(image, layer.weight[..., None], layer.bias, stride=(2, 1), padding=(1, 0), output_padding=more)
        image = F.relu(image) if i < 2 else image
    assert z.shape == (4, 8, 68, 1) and image.shape == (4, 3, 540, 1)
    torch.testing.assert_close(decoder(z[..., 0]), image[..., 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e9])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_amplitude_and_offset_are_taken_out_and_given_back(scale, offset):
    system, x = Autoencoder(AutoencoderConfig()), bursts(3)
    torch.testing.assert_close(system.features(x * scale + offset * scale), system.features(x), rtol=0, atol=2e-3)
    back = system.reconstruct((x + offset) * scale) / scale - offset
    torch.testing.assert_close(back, system.reconstruct(x), rtol=0, atol=2e-3)
    its = levelled((x + offset) * scale)
    assert its.x.abs().amax((1, 2)).tolist() == [1, 1, 1]
    torch.testing.assert_close(its.restore(its.x), (x + offset) * scale, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("value", [0.0, 5.0, -3e8])
def test_silence_stays_silence(value):
    x = torch.full((2, 3, 540), value)
    its = levelled(x)
    assert not its.x.any() and torch.equal(its.restore(its.x), x)
    assert torch.isfinite(Autoencoder(AutoencoderConfig()).reconstruct(x)).all()


def test_terms_and_measures():
    system, x = catalog.build("features/autoencoder"), bursts(4)
    valid = torch.ones(4, 3, 540, dtype=torch.bool)
    told = system.measures(Batch(x=7 * x, valid=valid))
    its = levelled(x).x
    torch.testing.assert_close(told["waveform"], (system.decoder(system.encoder(its)) - its).abs().mean((1, 2)))
    torch.testing.assert_close(told["activity"], system.features(x).sum((1, 2)))
    dead = x.clone()
    dead[:, 2] = 0
    valid[:, 2] = False  # a missing component is not learnt
    missing = system.measures(Batch(x=dead, valid=valid))["waveform"]
    its = levelled(dead).x
    torch.testing.assert_close(missing, (system.decoder(system.encoder(its)) - its)[:, :2].abs().mean((1, 2)))
    assert set(catalog.build("features/autoencoder", FREE).measures(Batch(x=x))) == {"waveform"}
    assert system.trunk() == [system.encoder] and set(system.players()) == {"model"}


def learnt(config, steps, rate=5e-3):
    """An autoencoder after some steps on 8 records, and these."""
    torch.manual_seed(0)
    system = catalog.build("features/autoencoder", config)
    engine = Engine(system, Recipe(rates={"model": rate}, steps=steps), Fabric(accelerator="cpu", devices=1))
    batch = Batch(x=bursts(8))
    for _ in range(steps):
        engine.step(batch)
    return system.eval(), batch


def test_it_overfits_eight_records():
    system, batch = learnt({"maps": 32, **FREE}, 300)
    its = levelled(batch.x).x
    error = system.measures(batch)["waveform"].mean()
    assert error < 0.3 * its.abs().mean(), f"{error:.4f} of {its.abs().mean():.4f}"


def test_a_price_on_the_code_makes_it_sparse():
    free, batch = learnt({"maps": 16, **FREE}, 80)
    priced, _ = learnt({"maps": 16, "weights": {"waveform": 1.0, "activity": 1e-3}}, 80)
    assert (priced.features(batch.x) > 0).float().mean() < 0.6 * (free.features(batch.x) > 0).float().mean()
    assert priced.measures(batch)["activity"].mean() < 0.3 * free.embed(batch.x).sum(1).mean()
