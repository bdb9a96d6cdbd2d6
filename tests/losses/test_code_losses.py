"""Losses of codes and features: contrastive, KL of Gaussians and their product, activity, feature matching."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from seislatent.errors import SeislatentError
from seislatent.losses.activity import activity
from seislatent.losses.contrastive import info_nce, nt_xent
from seislatent.losses.feature_matching import feature_matching
from seislatent.losses.gaussian import Gaussian, kl_of_gaussians, kl_to_standard, product_of_gaussians


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestNtXent:
    def test_by_hand(self):
        z = torch.eye(2, dtype=torch.float64)
        value = nt_xent(z, z, 0.5)  # cosine 1 with the partner, 0 with the two others
        assert value.shape == (2, 2)
        torch.testing.assert_close(value, torch.full((2, 2), math.log(1 + 2 * math.exp(-2))).double())

    def test_equals_the_formula_in_loops(self):
        a, b, t = drawn(5, 8), drawn(5, 8, seed=1), 0.3
        z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
        for i in range(10):
            j = (i + 5) % 10
            below = sum(math.exp(z[i] @ z[k] / t) for k in range(10) if k != i)
            torch.testing.assert_close(nt_xent(a, b, t).flatten()[i].item(), -math.log(math.exp(z[i] @ z[j] / t) / below))

    def test_collapse_and_least_value(self):
        one = torch.ones(6, 4)
        torch.testing.assert_close(nt_xent(one, one), torch.full((2, 6), math.log(11)))
        n, t = 5, 0.5
        simplex = torch.eye(n, dtype=torch.float64) - 1 / n
        least = math.log(1 + (2 * n - 2) * math.exp(-(1 + 1 / (n - 1)) / t))
        torch.testing.assert_close(nt_xent(simplex, simplex, t), torch.full((2, n), least).double())
        assert (nt_xent(drawn(5, 4), drawn(5, 4, seed=1)).mean() > least).all()

    def test_records_of_one_group_are_no_negatives(self):
        a, b = drawn(4, 6), drawn(4, 6, seed=1)
        apart = nt_xent(a, b, group=torch.arange(4))
        torch.testing.assert_close(apart, nt_xent(a, b))
        group = torch.tensor([0, 0, 1, 2])
        with_groups = nt_xent(a, b, group=group)
        torch.testing.assert_close(with_groups[:, [0, 2, 3]][:, 0], nt_xent(a[[0, 2, 3]], b[[0, 2, 3]])[:, 0])
        torch.testing.assert_close(with_groups[:, 2:], nt_xent(a, b)[:, 2:])
        assert not nt_xent(a, b, group=torch.zeros(4, dtype=torch.long)).any()  # no negatives, nothing to learn

    def test_blind_to_length(self):
        a, b = drawn(4, 6), drawn(4, 6, seed=1)
        torch.testing.assert_close(nt_xent(100 * a, 0.01 * b), nt_xent(a, b))


class TestInfoNce:
    def test_by_hand(self):
        z = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(info_nce(z, z, temperature=0.5), torch.full((3,), math.log(1 + 2 * math.exp(-2))).double())
        queue = torch.cat([-z, z[:1]])
        value = info_nce(z, z, queue, 1.0)  # -z: one at -1, two at 0; and z_0 itself as a negative
        by_hand = [math.log((2 * math.e + 1 / math.e + 2) / math.e)] + 2 * [math.log((math.e + 1 / math.e + 2 + 1) / math.e)]
        torch.testing.assert_close(value, torch.tensor(by_hand).double())

    def test_chance_level(self):
        one = torch.ones(7, 4)
        torch.testing.assert_close(info_nce(one, one), torch.full((7,), math.log(7)))
        torch.testing.assert_close(info_nce(one, one, torch.ones(30, 4)), torch.full((7,), math.log(31)))

    def test_groups(self):
        a, b = drawn(4, 6), drawn(4, 6, seed=1)
        torch.testing.assert_close(info_nce(a, b, group=torch.tensor([0, 0, 1, 2]))[0], info_nce(a[[0, 2, 3]], b[[0, 2, 3]])[0])
        with pytest.raises(SeislatentError, match="leave it out"):
            info_nce(a, b, b, group=torch.arange(4))

    def test_a_bound_of_mutual_information(self):
        """Pairs with correlation 0.8 share -log(1 - 0.64) / 2 = 0.51 nats, of which cosines of one number see the sign alone."""
        a = drawn(512, 1)
        b = 0.8 * a + 0.6 * drawn(512, 1, seed=1)
        bound = math.log(512) - info_nce(a, b, temperature=1.0).mean().item()
        assert 0.05 < bound < 0.51

    def test_blind_to_length(self):
        a, b = drawn(4, 6), drawn(4, 6, seed=1)
        torch.testing.assert_close(info_nce(100 * a, 0.01 * b), info_nce(a, b))


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_contrastive_at_silence_in_halves_and_refusals(loss):
    for size in (0.0, 1e-7):
        a, b = (size * drawn(4, 6)).float().requires_grad_(), drawn(4, 6, seed=1).float()
        value = loss(a, b)
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(a.grad).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(drawn(4, 6).bfloat16(), b)
    torch.testing.assert_close(inside, loss(drawn(4, 6).bfloat16().float(), b), rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda a: loss(a, drawn(4, 6, seed=1)), drawn(4, 6).requires_grad_())
    for wrong in ((b, b[:2]), (b[None], b[None]), (b[:0], b[:0])):
        with pytest.raises(SeislatentError, match="batch latent"):
            loss(*wrong)
    with pytest.raises(SeislatentError, match="temperature 0"):
        loss(b, b, temperature=0)
    with pytest.raises(SeislatentError, match="one number for each of the 4"):
        loss(b, b, group=torch.arange(3))


class TestGaussians:
    def test_standard_by_hand(self):
        value = kl_to_standard(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4)]]))
        torch.testing.assert_close(value, torch.tensor([0.5 + 0.5 * (4 - 1 - math.log(4))]))
        assert kl_to_standard(torch.zeros(3, 5), torch.zeros(3, 5)).abs().max() == 0

    def test_against_torch(self):
        m, w, n, k = (drawn(4, 3, 5, seed=s) for s in range(4))
        first, other = (Independent(Normal(a, (b / 2).exp()), 2) for a, b in ((m, w), (n, k)))
        torch.testing.assert_close(kl_of_gaussians(m, w, n, k), kl_divergence(first, other))
        zero = torch.zeros_like(m)
        torch.testing.assert_close(kl_to_standard(m, w), kl_of_gaussians(m, w, zero, zero))
        assert kl_of_gaussians(m, w, m, w).abs().max() == 0
        assert (kl_of_gaussians(m, w, n, k) - kl_of_gaussians(n, k, m, w)).abs().min() > 0.1  # not symmetric

    def test_small_divergences_keep_their_digits(self):
        tiny = torch.full((1, 1), 1e-3)
        torch.testing.assert_close(kl_to_standard(0 * tiny, tiny), torch.tensor([1e-6 / 4 + 1e-9 / 12]), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("size", [0.0, 1e-7])
    def test_finite(self, size):
        m = torch.full((2, 3), size, requires_grad=True)
        w = torch.full((2, 3), -size, requires_grad=True)
        value = kl_to_standard(m, w) + kl_of_gaussians(m, w, w, m)
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(m.grad).all() and torch.isfinite(w.grad).all()
        assert torch.isfinite(kl_to_standard(m, w + 88)).all()

    def test_blind_to_where_the_information_sits(self):
        m, w = drawn(2, 6), drawn(2, 6, seed=1)
        order = torch.randperm(6)
        torch.testing.assert_close(kl_to_standard(m[:, order], w[:, order]), kl_to_standard(m, w))

    def test_gradients(self):
        m, w, n, k = (drawn(2, 3, seed=s).requires_grad_() for s in range(4))
        assert torch.autograd.gradcheck(kl_of_gaussians, (m, w, n, k))
        group = torch.tensor([0, 0])
        assert torch.autograd.gradcheck(lambda m, w: tuple(product_of_gaussians(m, w, group)), (m, w))

    def test_product_by_hand(self):
        mean, variance = torch.tensor([[0.0], [3.0], [7.0]]), torch.tensor([[1.0], [2.0], [0.5]])
        product = product_of_gaussians(mean, variance.log(), torch.tensor([0, 0, 1]))
        torch.testing.assert_close(product.mean, torch.tensor([[1.0], [7.0]]))  # 3 * (1/2) / (1 + 1/2)
        torch.testing.assert_close(product.log_variance.exp(), torch.tensor([[2 / 3], [0.5]]))
        assert isinstance(product, Gaussian)
        torch.testing.assert_close(kl_to_standard(*product).shape, torch.Size([2]))

    def test_product_is_the_product_of_the_densities(self):
        m, w = drawn(3, 1), drawn(3, 1, seed=1)
        x = torch.linspace(-6, 6, 2001, dtype=torch.float64)
        density = Normal(m, (w / 2).exp()).log_prob(x).sum(0).exp()
        density /= density.sum() * (x[1] - x[0])
        product = product_of_gaussians(m, w, torch.zeros(3, dtype=torch.long))
        torch.testing.assert_close(Normal(product.mean, (product.log_variance / 2).exp()).log_prob(x).exp()[0], density)

    def test_product_does_not_mind_order_or_extremes(self):
        m, w = drawn(6, 4).float(), drawn(6, 4, seed=1).float()
        group, order = torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([5, 3, 1, 0, 2, 4])
        product = product_of_gaussians(m, w, group)
        torch.testing.assert_close(product_of_gaussians(m[order], w[order], group[order]).mean, product.mean)
        for far in (-200.0, 200.0):
            extreme = product_of_gaussians(m, w + far, group)
            torch.testing.assert_close(extreme.mean, product.mean)
            torch.testing.assert_close(extreme.log_variance, product.log_variance + far, rtol=1e-4, atol=1e-4)

    def test_refusals(self):
        m = torch.zeros(3, 2)
        with pytest.raises(SeislatentError, match="number them 0 to 2"):
            product_of_gaussians(m, m, torch.tensor([0, 2, 2]))
        with pytest.raises(SeislatentError, match="number them 0 to 3"):
            product_of_gaussians(m, m, torch.tensor([0, 1, 2]), groups=4)
        with pytest.raises(SeislatentError, match="number them 0 to 1"):
            product_of_gaussians(m, m, torch.tensor([0, 1, 2]), groups=2)
        with pytest.raises(SeislatentError, match="alike"):
            kl_to_standard(m, m[:, :1])

    def test_float32_inside(self):
        m = drawn(2, 3).bfloat16()
        assert kl_to_standard(m, m).dtype == product_of_gaussians(m, m, torch.tensor([0, 1])).mean.dtype == torch.float32


class TestActivity:
    def test_by_hand_and_blindness(self):
        z = torch.tensor([[[1.0, -2.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]], requires_grad=True)
        torch.testing.assert_close(activity(z), torch.tensor([3.5, 0.0]))
        activity(z).sum().backward()
        torch.testing.assert_close(z.grad, z.detach().sign())
        torch.testing.assert_close(activity(torch.full((1, 10), 0.1)), activity(torch.eye(10)[:1]))
        torch.testing.assert_close(activity(torch.full((1, 10), 1e-7)), torch.tensor([1e-6]))

    def test_sums_in_float32(self):
        many = torch.ones(1, 4096, dtype=torch.bfloat16) / 64
        torch.testing.assert_close(activity(many), torch.tensor([64.0]), rtol=0, atol=0)


class TestFeatureMatching:
    def test_by_hand(self):
        fake = [torch.tensor([[1.0, 2.0]]), torch.tensor([[[4.0], [0.0], [1.0]]])]
        real = [torch.tensor([[0.0, 4.0]]), torch.tensor([[[1.0], [0.0], [1.0]]])]
        torch.testing.assert_close(feature_matching(fake, real), torch.tensor([1.5 + 1.0]))
        torch.testing.assert_close(feature_matching(fake, real, relative=True), torch.tensor([(1.5 / 2 + 1.0 / (2 / 3)) / 2]))
        assert feature_matching(real, real).item() == 0

    @pytest.mark.parametrize("relative", [False, True])
    @pytest.mark.parametrize("size", [0.0, 1e-7])
    def test_finite_and_its_own_per_record(self, relative, size):
        real = [(size * drawn(3, 4).float()).requires_grad_(), size * drawn(3, 2, 5).float()]
        fake = [drawn(3, 4, seed=1).float().requires_grad_(), drawn(3, 2, 5, seed=1).float()]
        value = feature_matching(fake, real, relative=relative)
        value.sum().backward()
        assert value.shape == (3,) and torch.isfinite(value).all() and torch.isfinite(fake[0].grad).all()
        assert real[0].grad is None
        alone = feature_matching([f[1:2] for f in fake], [r[1:2] for r in real], relative=relative)
        torch.testing.assert_close(value[1:2], alone)

    def test_blind_to_what_the_judge_does_not_look_at(self):
        x, noise = drawn(2, 16), drawn(2, 16, seed=1)
        rough = noise - noise.view(2, 8, 2).mean(2).repeat_interleave(2, 1)  # a judge that averages pairs does not see it
        layer = torch.nn.AvgPool1d(2)
        assert feature_matching([layer(x + 9 * rough)], [layer(x)]).max() < 1e-12
        torch.testing.assert_close(  # nor, where relative, the scale that both layers share
            feature_matching([3 * x], [3 * noise], relative=True), feature_matching([x], [noise], relative=True)
        )

    def test_halves_and_refusals(self):
        x = [drawn(2, 4).bfloat16()]
        assert feature_matching(x, x).dtype == torch.float32
        for wrong in (([], []), (x, []), (x, [x[0][:, :2]])):
            with pytest.raises(SeislatentError, match="the same layers"):
                feature_matching(*wrong)
