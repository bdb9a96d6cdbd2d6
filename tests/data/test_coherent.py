from dataclasses import replace

import numpy as np
import pytest

from seislatent.data.coherent import CoherentConfig, experiment, rebuilt, waveforms
from seislatent.data.recipe import Made
from seislatent.data.shards import ShardWriter, finish
from seislatent.data.store import Store
from seislatent.errors import SeislatentError


def test_records_are_their_truths():
    made = experiment(1, 60)
    assert made.records.shape == (60, 512) and made.records.dtype == np.float32
    np.testing.assert_allclose(rebuilt(made), made.records, atol=1e-5)
    np.testing.assert_allclose(rebuilt(made, np.array([7, 3])), made.records[[7, 3]], atol=1e-5)
    np.testing.assert_allclose(made.records.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(made.records.std(1), 1, atol=1e-5)
    assert np.bincount(made.source).tolist() == [30, 30]


def test_a_record_is_a_convolution_that_was_shifted():
    """By numpy's convolution; a shift of whole samples is a roll."""
    config = CoherentConfig()
    made = experiment(2, 4, noise=False, shifts=False)
    lag = 7
    late = replace(made, shifts_s=np.full(4, lag / config.sampling_rate_hz))
    for i in range(4):
        by_hand = np.convolve(made.sources[made.source[i]], made.paths[i])[:512]
        np.testing.assert_allclose(made.records[i] * made.scales[i] + made.offsets[i], by_hand, atol=1e-5)
        rolled = rebuilt(late)[i, lag:]
        np.testing.assert_allclose(rolled, made.records[i, :-lag], atol=2e-3)


def test_noise_and_shifts_leave_the_rest_alone():
    plain, noisy, whole = experiment(3, 20, noise=False, shifts=False), experiment(3, 20, shifts=False), experiment(3, 20)
    np.testing.assert_array_equal(plain.paths, whole.paths)
    np.testing.assert_array_equal(noisy.snr_db, whole.snr_db)
    assert not plain.noise.any() and not plain.shifts_s.any() and np.isinf(plain.snr_db).all()
    assert np.abs(whole.shifts_s).max() <= 3 and whole.shifts_s.std() > 1
    other = experiment(4, 20)
    np.testing.assert_array_equal(other.sources, whole.sources)
    assert not np.array_equal(other.paths, whole.paths)
    np.testing.assert_array_equal(experiment(3, 20).records, whole.records)


def test_noise_has_its_band_and_its_size():
    made = experiment(5, 200)
    clean = made.records * made.scales[:, None] + made.offsets[:, None] - made.noise
    ratio = 10 * np.log10((clean**2).mean(1) / (made.noise.astype(float) ** 2).mean(1))
    np.testing.assert_allclose(ratio, made.snr_db, atol=0.01)
    assert made.snr_db.min() >= 0 and made.snr_db.max() <= 20
    power = (np.abs(np.fft.rfft(made.noise * np.hanning(512))) ** 2).mean(0)
    f = np.fft.rfftfreq(512, 0.1)
    assert power[f > 1.4].sum() < 1e-3 * power.sum()
    level = power[(f > 0.15) & (f < 0.75)]
    assert level.max() / level.min() < 2.5


def test_sources_are_two_band_limited_and_begin_at_their_onset():
    sources = experiment(0, 2).sources
    f = np.fft.rfftfreq(512, 0.1)
    spectrum = np.abs(np.fft.rfft(sources)) ** 2
    assert (spectrum[:, f > 1.05].sum(1) < 1e-4 * spectrum.sum(1)).all()
    np.testing.assert_allclose(np.abs(sources).max(1), 1)
    assert (np.abs(sources[:, :15]).max(1) < 0.02).all()  # before 1.5 s: only the filter's feet
    one, two = sources / np.linalg.norm(sources, axis=1, keepdims=True)
    assert np.abs(np.fft.irfft(np.fft.rfft(one, 1024) * np.fft.rfft(two, 1024).conj())).max() < 0.9


def test_paths_are_p_and_a_coda_of_the_energy_drawn():
    paths = experiment(6, 300).paths.astype(float)
    assert not paths[:, :80].any()
    energy = (paths[:, 81:] ** 2).sum(1)
    assert 0.1 <= energy.min() < 0.2 and 1 < energy.max() <= 2.0001
    assert (paths[:, 80] == 1).all()


def test_aligned_records_of_a_source_stack_to_it():
    """The experiment can be solved: with the true shifts taken out, the mean along many paths is the source's shape."""
    made = experiment(7, 600, noise=False)
    back = replace(made, shifts_s=np.zeros(600))
    stacks = [rebuilt(back)[made.source == k].mean(0)[80:] for k in (0, 1)]
    for k, stack in enumerate(stacks):
        there = made.sources[k][:432] - made.sources[k].mean()
        assert np.corrcoef(stack, there)[0, 1] > 0.97


def test_waveforms_go_through_a_store(tmp_path):
    made = experiment(8, 6)
    records = waveforms(made)
    first = records[0]
    assert first.components == ("Z",) and first.unit is None and first.metadata["source_id"] == "source-1"
    assert first.metadata["trace_p_arrival_sample"] == pytest.approx(100 + 10 * made.shifts_s[0])
    with ShardWriter(tmp_path / "s", 0) as shard:
        for record in records:
            shard.add(Made(record=record))
    finish(tmp_path / "s", {"recipe": "coherent"})
    store = Store(tmp_path / "s")
    assert list(store.metadata["source_id"]) == ["source-1", "source-2"] * 3
    np.testing.assert_array_equal(store[5].data[0], made.records[5])
    np.testing.assert_allclose(store.metadata["trace_shift_s"].astype(float), made.shifts_s)


@pytest.mark.parametrize(
    "records, change, word",
    [
        (0, {}, "0 records"),
        (4, {"sources": ()}, "0 sources"),
        (4, {"samples": 80}, "P at 10 s"),
        (4, {"sampling_rate_hz": 1.5, "samples": 100}, "bands to"),
        (4, {"sources": (((0, 60, 1),),)}, "a source of 60 s"),
    ],
)
def test_what_does_not_fit_is_told(records, change, word):
    with pytest.raises(SeislatentError, match=word):
        experiment(0, records, config=CoherentConfig(**change))
