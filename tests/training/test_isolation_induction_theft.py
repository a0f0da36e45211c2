"""The clone of InI that learns from the victim (appendix C): who follows which loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.isolation_induction import IsolationInduction
from models.training.loop import fit
from tests.training.toys import mixed, network, plan, problem, weights


def learning() -> IsolationInduction:
    return IsolationInduction(network(1), network(2), epsilon=9.0, theft=0.5)


def test_the_victim_follows_what_it_follows_beside_a_clone_at_rest() -> None:
    batch = mixed(torch.float32)
    victims = []
    for objective in (IsolationInduction(network(1), network(2), epsilon=9.0), learning()):
        for trained in objective.networks.values():
            trained.train()
        losses = objective.losses(batch)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        victim = objective.networks["victim"]
        victims.append([p.grad for p in victim.parameters() if p.grad is not None])
    assert len(victims[0]) == len(victims[1]) > 0
    for at_rest, beside in zip(*victims, strict=True):
        torch.testing.assert_close(beside, at_rest)


def test_the_clone_follows_its_theft_alone() -> None:
    batch = mixed(torch.float32)
    assert batch.ood is not None
    objective = learning()
    victim, clone = objective.networks["victim"].train(), objective.networks["clone"].train()
    losses = objective.losses(batch)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    again = network(2).train()
    with torch.no_grad():
        told = network(1).train()(batch.ood).softmax(dim=1)
    torch.autograd.backward(0.5 * functional.cross_entropy(again(batch.ood), told))
    for mine, theirs in zip(clone.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    # What the victim's terms look at is the clone as it would answer.
    assert not clone.training
    assert victim.training


def test_the_clone_learns_to_say_what_the_victim_says() -> None:
    objective = learning()
    before = weights({"clone": objective.networks["clone"]})
    history = fit(objective, problem(ood=True), plan(epochs=4)).history
    assert history[-1].losses["theft"] < history[0].losses["theft"]
    after = weights({"clone": objective.networks["clone"]})
    assert not any(torch.equal(after[name], before[name]) for name in before)


def test_a_theft_is_an_option_with_a_range() -> None:
    assert learning().options()["theft"] == 0.5
    assert learning().frozen == {}
    for wrong in (-1.0, float("nan")):
        with pytest.raises(OptionError, match="theft: must be a finite number >= 0"):
            IsolationInduction(network(1), network(2), theft=wrong)
