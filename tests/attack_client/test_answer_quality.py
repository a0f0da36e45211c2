"""Calibration and accuracy by class, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from attack_client.answer_quality import accuracy_by_class, calibration_error


def test_calibration_error_of_a_worked_example() -> None:
    # Two answers of confidence 0.75, one right: |0.5 - 0.75| of half the rows;
    # two of confidence 0.95, both right: |1 - 0.95| of the other half.
    answers = np.array([[0.75, 0.25], [0.25, 0.75], [0.95, 0.05], [0.05, 0.95]], dtype=np.float32)
    labels = np.array([0, 0, 0, 1])
    assert calibration_error(answers, labels) == pytest.approx(0.15, abs=1e-6)


def test_a_sure_and_right_answer_is_calibrated_and_a_sure_and_wrong_one_is_not() -> None:
    answers = np.eye(3, dtype=np.float32)
    assert calibration_error(answers, np.array([0, 1, 2])) == 0.0
    assert calibration_error(answers, np.array([1, 2, 0])) == 1.0


def test_accuracy_by_class_tells_no_images_from_no_hits() -> None:
    answers = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], dtype=np.float32)
    assert accuracy_by_class(answers, np.array([0, 1, 1])) == (1.0, 0.5, None)
