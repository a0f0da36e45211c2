"""Add-ons on answers, each on answers whose repair is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.adaptive.contract import Harvest, Knowledge, ShadowAnswers
from attack_client.adaptive.filter_confidence import FilterConfidence
from attack_client.adaptive.partial_bayes import PartialBayes, expected_given
from attack_client.adaptive.posteriors import anywhere, around, nearby
from attack_client.adaptive.recover import DirichletRecover, Recover
from attack_client.adaptive.sharpen import Sharpen
from attack_client.errors import AdaptationError

Floats = NDArray[np.float32]


def harvest_of(answers: Floats) -> Harvest:
    return Harvest.of(np.zeros((len(answers), 1, 2, 2), dtype=np.uint8), answers)


def posteriors(count: int, classes: int, *, seed: int = 1) -> Floats:
    """As a network has them: some sure, some not."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, classes)) * generator.uniform(1, 6, size=(count, 1))
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32)


def flattened(said: Floats) -> Floats:
    """A defense with an exact inverse: the root of every probability, renormalised."""
    roots = np.sqrt(said)
    return np.asarray(roots / roots.sum(axis=1, keepdims=True), dtype=np.float32)


def distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).sum(axis=1).mean())


def test_sharpening_by_half_undoes_a_root() -> None:
    said = posteriors(200, 5)
    sharp = Sharpen(temperature=0.5).apply(harvest_of(flattened(said)), Knowledge(classes=5))
    np.testing.assert_allclose(sharp.answers, said, atol=1e-6)


def test_sharpening_keeps_the_order_and_rows_of_nothing() -> None:
    answers = np.array([[0.0, 0.0], [0.4, 0.6], [1e-30, 2e-30]], dtype=np.float32)
    sharp = Sharpen(temperature=0.1).apply(harvest_of(answers), Knowledge(classes=2)).answers
    np.testing.assert_array_equal(sharp[0], 0.0)
    assert sharp[1:].argmax(axis=1).tolist() == [1, 1]
    np.testing.assert_allclose(sharp[1:].sum(axis=1), 1.0, rtol=1e-6)


def test_a_filter_keeps_the_confident_in_order() -> None:
    answers = np.array([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], dtype=np.float32)
    harvest, knowledge = harvest_of(answers), Knowledge(classes=2)
    assert FilterConfidence().apply(harvest, knowledge).positions.tolist() == [1, 3]
    assert FilterConfidence(keep=0.75).apply(harvest, knowledge).positions.tolist() == [0, 1, 3]
    assert FilterConfidence(least=0.85).apply(harvest, knowledge).positions.tolist() == [1]
    with pytest.raises(AdaptationError, match=r"keeps none of 4 answers: .* 0\.9"):
        FilterConfidence(least=0.95).apply(harvest, knowledge)


def test_a_filter_may_weigh_instead() -> None:
    answers = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], dtype=np.float32)
    weighed = FilterConfidence(mode="weigh").apply(harvest_of(answers), Knowledge(classes=2))
    np.testing.assert_allclose(weighed.weights.mean(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(weighed.weights / weighed.weights[1], [1e-3, 1.0, 0.5], rtol=1e-5)
    np.testing.assert_array_equal(weighed.answers, answers)


@pytest.mark.parametrize(
    "made",
    [
        lambda: FilterConfidence(least=0.5, keep=0.5),
        lambda: FilterConfidence(least=0.5, mode="weigh"),
        lambda: FilterConfidence(least=1.0),
        lambda: FilterConfidence(keep=0.0),
        lambda: FilterConfidence(mode="hide"),  # type: ignore[arg-type]
        lambda: Sharpen(temperature=1.0),
        lambda: Recover(samples=9),
        lambda: Recover(epochs=0),
        lambda: DirichletRecover(reach=-1.0),
        lambda: PartialBayes(tolerance=0.0),
        lambda: PartialBayes(rounds=21),
    ],
)
def test_options_out_of_range_are_refused(made: object) -> None:
    assert callable(made)
    with pytest.raises(ValueError, match=r"must|give"):
        made()


def test_posteriors_anywhere_are_sharp_and_flat() -> None:
    drawn = anywhere(4000, 10, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, atol=1e-5)
    top = drawn.max(axis=1)
    assert (top > 0.99).mean() > 0.2
    assert (top < 0.3).mean() > 0.03


def test_posteriors_around_an_answer_are_centred_on_it() -> None:
    answer = np.array([[0.6, 0.3, 0.1]], dtype=np.float32)
    drawn = around(answer, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), answer[0], atol=5e-3)
    # A Dirichlet of concentration c has the variance m (1 - m) / (c + 1); here c is 8 K.
    np.testing.assert_allclose(drawn.var(axis=0), answer[0] * (1 - answer[0]) / 25, rtol=0.05)
    reached = around(answer, 4000, np.random.default_rng(0), reach=3.0)
    assert reached.max() > 0.99, "sharper than what was observed"


def test_posteriors_nearby_hold_what_was_found() -> None:
    found = posteriors(6, 4)
    tried = nearby(found, 5, np.random.default_rng(0), scale=0.1)
    assert tried.shape == (6, 5, 4)
    np.testing.assert_array_equal(tried[:, 0], found)
    assert 0.0 < distance(tried[:, 1], found) < 0.3


def test_a_look_up_is_the_mean_of_what_is_near_or_the_nearest() -> None:
    served = np.array([[0.9, 0.1], [0.899, 0.101], [0.6, 0.4], [0.2, 0.8]], dtype=np.float32)
    said = np.array([[1.0, 0.0], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]], dtype=np.float32)
    received = np.array([[0.9, 0.1], [0.7, 0.3], [0.45, 0.55]], dtype=np.float32)
    found = expected_given(received, served, said, tolerance=0.01)
    np.testing.assert_allclose(found, [[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]], atol=1e-6)
    # The last one is nearer to (0.6, 0.4), which has another top-1.


@pytest.mark.parametrize(
    "add_on",
    [
        Recover(samples=8000, epochs=25),
        DirichletRecover(samples=8000, epochs=25),
        PartialBayes(samples=20_000),
    ],
)
def test_a_known_defense_is_inverted(add_on: Recover | PartialBayes) -> None:
    said = posteriors(300, 5)
    served = flattened(said)
    knowledge = Knowledge(classes=5, seed=3, known=flattened)
    found = add_on.apply(harvest_of(served), knowledge).answers
    assert found.shape == said.shape
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert distance(served, said) > 0.25
    assert distance(found, said) < 0.25 * distance(served, said)
    again = add_on.apply(harvest_of(served), knowledge).answers
    np.testing.assert_array_equal(again, found)


def test_a_shadow_teaches_what_no_function_could() -> None:
    said, own = posteriors(300, 5), posteriors(2000, 5, seed=2)
    shadow = ShadowAnswers(defended=flattened(own), plain=own)
    found = Recover(samples=20_000, epochs=5).apply(
        harvest_of(flattened(said)), Knowledge(classes=5, shadow=shadow)
    )
    assert distance(found.answers, said) < 0.25 * distance(flattened(said), said)


def test_what_is_not_known_cannot_be_inverted() -> None:
    for add_on in (Recover(), DirichletRecover(), PartialBayes()):
        with pytest.raises(AdaptationError, match="not known"):
            add_on.apply(harvest_of(posteriors(5, 3)), Knowledge(classes=3))
