"""Training with our modules is training with PyTorch's."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch.nn.functional import softplus  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from tests.torch.networks import discriminator, generator  # noqa: E402

STEPS = 30
SAME = 1e-9  # relative; float64 sums in another order differ by 1e-16, which training of this length amplifies


def train(net, critic, steps, seed=5):
    """A small GAN with Adam, weight decay and an average of the weights; returns the losses."""
    torch.manual_seed(seed)
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    optimisers = [torch.optim.AdamW(each.parameters(), 2e-3, (0.5, 0.9)) for each in (net, critic)]
    losses = []
    for _ in range(steps):
        real = 0.5 + 0.2 * torch.randn(4, 2, 16, 11, dtype=torch.float64)
        noise = torch.randn(4, 6, 1, 1, dtype=torch.float64)
        fake = net(noise)
        critic_loss = softplus(-critic(real)).mean() + softplus(critic(fake.detach())).mean()
        generator_loss = softplus(-critic(fake)).mean()
        for loss, optimiser in zip((generator_loss, critic_loss), optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward(retain_graph=loss is generator_loss)
        for optimiser in optimisers:
            optimiser.step()
        averaged.update_parameters(net)
        losses.append((critic_loss.item(), generator_loss.item()))
    return torch.tensor(losses), averaged


def test_a_gan_has_the_same_losses_and_its_checkpoints_move() -> None:
    native, critic = generator(dtype=torch.float64), discriminator(dtype=torch.float64)
    ours, our_critic = split.convert(native), copy.deepcopy(critic)
    assert len(split.record(ours).converted) == 3
    wanted, wanted_average = train(native, critic, STEPS)
    found, found_average = train(ours, our_critic, STEPS)
    torch.testing.assert_close(found, wanted, rtol=SAME, atol=0)
    assert wanted[-1, 0] < wanted[0, 0] - 0.01  # the critic has learned something

    z = torch.randn(3, 6, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(found_average.eval()(z), wanted_average.eval()(z), rtol=1e-7, atol=1e-9)
    swapped, our_swapped = generator(dtype=torch.float64), split.convert(generator(dtype=torch.float64))
    swapped.load_state_dict(ours.state_dict())
    our_swapped.load_state_dict(native.state_dict())
    torch.testing.assert_close(swapped.eval()(z), ours.eval()(z))
    torch.testing.assert_close(our_swapped.eval()(z), native.eval()(z))
    again, _ = train(our_swapped.train(), copy.deepcopy(our_critic), 5)
    wanted_again, _ = train(native.train(), copy.deepcopy(our_critic), 5)
    torch.testing.assert_close(again, wanted_again, rtol=SAME, atol=0)
