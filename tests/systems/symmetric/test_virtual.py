"""Virtual seismograms: H of ensembles, the matrix of information loss, the optimal one under both constraints."""

from __future__ import annotations

import pytest
import torch
from small_symae import made, pulses, records

from seislatent.errors import SeislatentError
from seislatent.losses.gaussian import Gaussian
from seislatent.systems.symmetric.accumulation import informativeness
from seislatent.systems.symmetric.virtual import InformationLoss, ensemble, information_loss, optimal, starts, unshifted


@pytest.fixture(scope="module")
def system():
    it = made().eval()
    with torch.no_grad():
        it.coherent_encoder.out[-1].bias[3:] += 2  # records that know something
        for layer in (it.coherent_encoder.out[-1], it.nuisance_encoder.out, it.decoder.filter[0]):
            layer.weight *= 4
    return it


def test_an_ensemble(system):
    batch = records()
    group, nuisance = system.accumulate(batch.x, batch.group)[1], system.nuisance(batch.x)
    made_ = ensemble(system, group, nuisance)
    torch.testing.assert_close(made_.records, system.redatum(group.posterior().mean.expand(8, -1), nuisance))
    for k in (0, 5):  # equation 20, record by record
        q = group.posterior()
        told = system.evidence(system.aligned(system.standard(made_.records[k : k + 1]))[0])
        torch.testing.assert_close(made_.loss[k : k + 1], informativeness(Gaussian(*q), told), rtol=1e-4, atol=1e-6)
    dice = torch.Generator().manual_seed(0)
    drawn = ensemble(system, group, nuisance[:1].expand(50, -1), dice)
    assert drawn.records.std(0).mean() > 1e-3 and ensemble(system, group, nuisance[:1].expand(5, -1)).records.std(0).max() < 1e-5
    with pytest.raises(SeislatentError, match="give one"):
        ensemble(system, system.accumulate(batch.x, batch.group), nuisance)


def test_the_matrix(system):
    x = torch.cat([pulses(4, 0, 1), pulses(3, 1, 2), pulses(2, 0.5, 3)])
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    loss = information_loss(system, x, group)
    assert loss.nats.shape == (3, 3) and bool((loss.nats > 0).all())
    together, nuisance = system.accumulate(x, group), unshifted(system, system.nuisance(x))
    for j in range(3):
        each = ensemble(system, together[j], nuisance).loss
        for i in range(3):
            torch.testing.assert_close(loss.nats[j, i], each[group == i].mean())
    assert (loss.similarity.min(), loss.similarity.max()) == (0, 1)
    assert int(loss.similarity.argmax()) == int(loss.nats.argmin())
    assert not loss.excess.diagonal().any() and torch.equal(loss.excess, loss.excess.T)
    torch.testing.assert_close(loss.share * loss.known[:, None], loss.nats)
    assert information_loss(system, x, group, most=1).nats.shape == (3, 3)
    alike = InformationLoss(nats=torch.ones(2, 2), known=torch.ones(2))
    assert alike.similarity.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(SeislatentError, match="without gaps"):
        information_loss(system, x, 2 * group)


def test_the_optimal_one(system):
    batch = records()
    group = system.accumulate(batch.x, batch.group)[0]
    begin = starts(system, batch.x[:6], batch.group[:6], 4)
    assert begin.shape == (4, 31) and not begin[0].any() and not begin[:, -1].any()
    found = optimal(system, group, begin, alpha=0.02, steps=40)
    assert found.objective.shape == (4, 41) and found.record.shape == (1, 96)
    assert found.mean.max() < 1e-6 and found.variance.max() < 1e-6, "on the whole way"
    assert abs(float(found.record.mean())) < 1e-6 and abs(float(found.record.square().mean()) - 1) < 1e-6
    torch.testing.assert_close(found.objective, found.loss + 0.02 * found.l1)
    torch.testing.assert_close(found.best, found.objective.min(1).values)
    assert bool((found.best < found.objective[:, 0]).all()) and found.start == int(found.best.argmin())
    again = system.redatum(group.posterior().mean, found.nuisance[None])
    torch.testing.assert_close(again[0].double(), found.record, rtol=0, atol=1e-5)
    sparse = optimal(system, group, begin[:1], alpha=1000.0, steps=40)
    assert sparse.l1.min() < sparse.l1[0, 0] and float(sparse.record.abs().sum()) == pytest.approx(float(sparse.l1.min()), rel=1e-4)
    assert all(p.grad is None for p in system.parameters()), "the system stays as it is"


@pytest.mark.parametrize("changes", [{"alpha": -1.0}, {"steps": 0}])
def test_what_cannot_be_sought(system, changes):
    batch = records()
    with pytest.raises(SeislatentError, match="give alpha 0 or more"):
        optimal(system, system.accumulate(batch.x, batch.group)[0], torch.zeros(1, 31), **changes)
