"""Sentences follow the figures, whichever way they fall."""

from __future__ import annotations

from benchmarks.defended_verdicts import against_control, worth_of_teachers


def test_a_defense_that_is_no_better_than_its_control_is_said_to_be_so() -> None:
    (worse,) = against_control({"outlier-exposure": [0.6, 0.6], "ini-x1": [0.7, 0.65]})
    assert "+10.0, +5.0" in worse
    assert "does not beat" in worse


def test_a_defense_must_win_with_every_seed() -> None:
    (mixed,) = against_control({"outlier-exposure": [0.6, 0.6], "ini": [0.3, 0.61]})
    assert "no claim" in mixed
    # Noise in the other direction is no refutation either.
    (mixed,) = against_control({"outlier-exposure": [0.6, 0.6], "ini": [0.7, 0.55]})
    assert "+10.0, -5.0; +2.5 on average" in mixed
    assert "no claim" in mixed
    (won,) = against_control({"outlier-exposure": [0.6, 0.6], "ini": [0.3, 0.59]})
    assert "beats its control with every seed" in won


def test_without_a_control_nothing_is_said() -> None:
    assert against_control({"ini": [0.1]}) == []
    assert against_control({"outlier-exposure": [0.1, 0.2], "ini": [0.1], "am": [0.1, 0.1]}) == []


def test_a_teacher_that_teaches_nothing_is_said_to_be_so() -> None:
    useless, nasty = worth_of_teachers({"none": [0.8, 0.82], "nasty": [0.7, 0.7]}, [0.8, 0.8])
    assert "+1.00 points" in useless
    assert "can neither show nor refute" in useless
    assert "-10.00 points" in nasty
    assert "refute" not in nasty
    (useful,) = worth_of_teachers({"none": [0.9, 0.9]}, [0.8, 0.8])
    assert "refute" not in useful


def test_a_missing_student_is_left_out() -> None:
    assert worth_of_teachers({"none": [None, 0.8]}, [0.8, 0.8]) == []
