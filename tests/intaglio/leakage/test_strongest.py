"""The table and the words, from rows worked out by hand."""

from __future__ import annotations

import pytest

from attack_client.report.schema import Row
from intaglio.leakage.fields import columns_of, field_of
from intaglio.leakage.pictures import draw_heat_map, draw_trade_off
from intaglio.leakage.strongest import Status, lines_of, strongest_of
from intaglio.leakage.tables import cells_of_line
from intaglio.leakage.trade_off import panels_of, pareto
from intaglio.leakage.verdict import verdicts_of
from tests.intaglio.leakage.conftest import row

ROWS = (
    row("none", 0.95),
    row("none", 0.93, seed=1),
    row("label-only", 0.85, labels="hard"),
    row("label-only", 0.87, labels="hard", seed=1),
    # The best single clone is a weak attack's: its mean is not.
    row("am", 0.30, attack="knockoff"),
    row("am", 0.90, attack="knockoff", seed=1),
    row("am", 0.70, attack="jbda", labels="hard"),
    row("am", 0.72, attack="jbda", labels="hard", seed=1),
    row("weak", 0.88, latency_p50_ms=4.0),
    row("weak", 0.86, seed=1, latency_p50_ms=6.0),
    row("close", 0.84),
    row("close", 0.86, seed=1),
)


def statuses(rows: tuple[Row, ...] = ROWS) -> tuple[Status, ...]:
    return tuple(
        Status(
            defense=str(one.defense),
            attack=one.attack,
            labels=one.labels,
            budget=one.budget,
            seed=one.seed,
            state="done",
            seconds=1.0,
        )
        for one in rows
    )


def test_the_strongest_attack_has_the_highest_mean_not_the_best_seed() -> None:
    found = strongest_of([one for one in ROWS if one.defense == "am"], 1000)
    assert found is not None
    assert (found.attack, found.labels, found.seeds) == ("jbda", "hard", 2)
    assert (found.accuracy, found.low, found.high) == pytest.approx((0.71, 0.70, 0.72))
    assert found.relative == pytest.approx(0.71 / 0.98)


def attacked(*accuracies: float, attack: str) -> list[Row]:
    return [row("am", one, attack=attack, seed=seed) for seed, one in enumerate(accuracies)]


def test_attacks_are_compared_on_the_seeds_that_both_have() -> None:
    # Better than the other on the one seed that it was tried on, whose victim leaks least.
    rows = [*attacked(0.85, 0.93, 0.95, attack="knockoff"), *attacked(0.90, attack="recovered")]
    found = strongest_of(rows, 1000)
    assert found is not None
    assert (found.attack, found.seeds) == ("knockoff", 3)
    assert found.rival is not None
    assert (found.rival.attack, found.rival.seeds) == ("recovered", 1)
    assert found.rival.ahead == pytest.approx(0.05)
    # Worse on its own seed: above the mean only because that victim leaks most.
    rows = [*attacked(0.98, 0.85, 0.85, attack="knockoff"), *attacked(0.95, attack="recovered")]
    found = strongest_of(rows, 1000)
    assert found is not None
    assert (found.attack, found.rival) == ("knockoff", None)
    # Better on it and above the mean.
    rows = [*attacked(0.90, 0.91, 0.92, attack="knockoff"), *attacked(0.97, attack="recovered")]
    found = strongest_of(rows, 1000)
    assert found is not None
    assert (found.attack, found.seeds, found.rival) == ("recovered", 1, None)


@pytest.mark.parametrize(("seeds", "finding"), [(2, "too close to call"), (3, "beats label-only")])
def test_two_seeds_tell_too_little_of_a_spread(seeds: int, finding: str) -> None:
    plain = [row("label-only", 0.94, seed=seed) for seed in range(seeds)]
    rows = (*plain, *attacked(*[0.92] * seeds, attack="knockoff"))
    (verdict,) = verdicts_of(lines_of(rows, statuses(rows), [1000]), rows)
    assert verdict.finding == finding
    assert ("Two seeds" in verdict.sentence) == (seeds == 2)


def test_a_rival_on_fewer_seeds_is_told_and_takes_the_finding_back() -> None:
    plain = [row("label-only", one, seed=seed) for seed, one in enumerate((0.90, 0.91, 0.92))]
    rows = (*plain, *attacked(0.70, 0.85, 0.85, attack="knockoff"))
    (verdict,) = verdicts_of(lines_of(rows, statuses(rows), [1000]), rows)
    assert verdict.finding == "beats label-only"
    more = (*rows, *attacked(0.79, attack="recovered"))
    (verdict,) = verdicts_of(lines_of(more, statuses(more), [1000]), more)
    assert verdict.finding == "too close to call"
    assert "On 1 of these seeds recovered with soft labels did better by 9.0" in verdict.sentence


def test_on_seeds_that_nobody_shares_the_better_mean_is_a_rival() -> None:
    both = [row("am", one, attack="two", seed=seed) for seed, one in ((1, 0.92), (2, 0.91))]
    rows = [*attacked(0.90, 0.90, 0.90, attack="full"), *both, *attacked(0.95, attack="one")]
    found = strongest_of(rows, 1000)
    assert found is not None
    assert found.attack == "two"
    assert found.rival is not None
    assert (found.rival.attack, found.rival.seeds) == ("one", 0)
    assert found.rival.ahead == pytest.approx(0.035)
    rows += [row("label-only", 0.9, seed=seed) for seed in range(3)]
    (verdict,) = verdicts_of(lines_of(rows, statuses(tuple(rows)), [1000]), rows)
    assert "With other seeds than these one with soft labels came to 95.0 %" in verdict.sentence
    rows = [*both, *attacked(0.5, attack="one")]
    found = strongest_of(rows, 1000)
    assert found is not None
    assert (found.attack, found.rival) == ("two", None)


@pytest.mark.parametrize(
    ("few", "finding", "told"),
    [
        ((0.85, 0.86, 0.87), "does not beat label-only", "with as many label-only output leaves"),
        ((0.93, 0.94, 0.95), "beats label-only", "with as many label-only output leaves"),
        ((), "unknown", "with as many label-only output was not attacked."),
    ],
)
def test_no_defense_wins_because_its_strongest_attack_had_fewer_queries(
    few: tuple[float, ...], finding: str, told: str
) -> None:
    rows = (
        *(row("label-only", one, seed=n) for n, one in enumerate((0.97, 0.97, 0.98))),
        *(row("label-only", one, seed=n, budget=500) for n, one in enumerate(few)),
        *(row("am", one, seed=n, budget=500) for n, one in enumerate((0.88, 0.89, 0.90))),
        *(row("am", 0.3, seed=n) for n in range(3)),
    )
    (verdict,) = verdicts_of(lines_of(rows, statuses(rows), [1000]), rows)
    assert verdict.finding == finding
    assert f"That attack was tried with no more queries, and {told}" in verdict.sentence


def test_a_yardstick_that_may_leak_more_is_no_even_match() -> None:
    plain = [row("label-only", one, seed=seed) for seed, one in enumerate((0.80, 0.95, 0.95))]
    plain.append(row("label-only", 0.89, attack="rec"))
    rows = (*plain, *attacked(0.91, 0.91, 0.91, attack="knockoff"))
    (verdict,) = verdicts_of(lines_of(rows, statuses(rows), [1000]), rows)
    assert verdict.finding == "too close to call"
    assert "of label-only output rec with soft labels did better by 9.0 points" in verdict.sentence


def test_a_student_that_asked_nobody_stands_in_no_field() -> None:
    rows = (
        row("am", 0.3, labels="hard", attack="distil"),
        row("am", 0.7, labels="hard", attack="distil: scratch", queries=0),
    )
    (column,) = columns_of(rows[:1], statuses(rows[:1]))
    found = field_of(rows, "am", column)
    assert found is not None
    assert found.accuracy == pytest.approx(0.3)


def test_a_thief_may_ask_less_than_allowed() -> None:
    rows = [row("x", 0.9, budget=100), row("x", 0.5, budget=1000)]
    at_most = {budget: strongest_of(rows, budget) for budget in (50, 100, 1000)}
    assert at_most[50] is None
    assert at_most[100] == at_most[1000]
    assert at_most[100] is not None
    assert at_most[100].budget == 100


def test_a_line_tells_cost_and_theft() -> None:
    lines = {line.defense: line for line in lines_of(ROWS, statuses(), [1000])}
    assert list(lines) == ["none", "label-only", "am", "weak", "close"]
    assert lines["weak"].latency_p50_ms == 5.0
    assert lines["weak"].benign_cost == pytest.approx(0.01)
    assert cells_of_line(lines["am"])[-1] == "71.0 (70.0-72.0) jbda, hard"


def test_words_say_what_does_not_beat_plain_labels() -> None:
    lines = lines_of(ROWS, statuses(), [1000])
    found = {verdict.defense: verdict for verdict in verdicts_of(lines, ROWS)}
    assert {name: verdict.finding for name, verdict in found.items()} == {
        "am": "beats label-only",
        "weak": "does not beat label-only",
        "close": "too close to call",
    }
    assert "weak does not beat label-only: it leaves clones of" in found["weak"].sentence
    assert "87.0 % (86.0 to 88.0 over 2 seeds)" in found["weak"].sentence


def test_a_defense_is_compared_at_the_budget_that_it_was_asked() -> None:
    rows = (
        row("label-only", 0.60, budget=100),
        row("label-only", 0.95, budget=1000),
        row("slow", 0.70, budget=100),
    )
    lines = lines_of(rows, statuses(rows), [100, 1000])
    (verdict,) = verdicts_of(lines, rows)
    assert verdict.finding == "does not beat label-only"
    assert "100 queries" in verdict.sentence
    assert "60.0 %" in verdict.sentence
    assert "One seed" in verdict.sentence


def test_label_only_output_must_have_borne_what_the_defense_did() -> None:
    rows = (
        row("label-only", 0.60, budget=100, attack="knockoff"),
        row("label-only", 0.80, budget=1000, attack="jbda", labels="hard"),
        row("slow", 0.70, budget=100, attack="jbda", labels="hard"),
        row("slow", 0.50, budget=100, attack="recovered"),
    )
    lines = lines_of(rows, statuses(rows), [100, 1000])
    (verdict,) = verdicts_of(lines, rows, statuses(rows))
    assert verdict.finding == "unknown"
    assert "was not attacked with jbda at that budget" in verdict.sentence
    enough = (*rows, row("label-only", 0.65, budget=100, attack="jbda-100", labels="hard"))
    ways = {"jbda-100": "jbda"}
    (verdict,) = verdicts_of(lines, enough, statuses(enough), ways)
    assert verdict.finding == "does not beat label-only"
    assert "65.0 %" in verdict.sentence


def test_a_clone_that_asked_nothing_is_no_attack() -> None:
    rows = (row("am", 0.1, attack="distil"), row("am", 0.95, attack="distil: scratch", queries=0))
    found = strongest_of(rows, 1000)
    assert found is not None
    assert (found.attack, found.accuracy) == ("distil", 0.1)
    assert strongest_of(rows[1:], 1000) is None


def test_nothing_is_beaten_by_a_defense_that_was_not_attacked_in_every_way() -> None:
    rows = (row("label-only", 0.9), row("grad2", 0.5))
    untried = Status(
        defense="grad2", attack="knockoff", labels="hard", budget=9, seed=0, state="missing"
    )
    for more, finding in (((), "beats label-only"), ((untried,), "unknown")):
        lines = lines_of(rows, (*statuses(rows), *more), [1000])
        (verdict,) = verdicts_of(lines, rows)
        assert verdict.finding == finding
    assert "1 of its attacks were not tried" in verdict.sentence


def test_without_a_yardstick_nothing_is_claimed() -> None:
    rows = (row("am", 0.7),)
    missing = Status(
        defense="ini", attack="a", labels="soft", budget=9, seed=0, state="failed", reason="why"
    )
    lines = lines_of(rows, (*statuses(rows), missing), [1000])
    findings = [verdict.finding for verdict in verdicts_of(lines, rows)]
    assert findings == ["unknown", "unknown"]
    assert cells_of_line(lines[1])[1:] == ("0/1", "-", "-", "-", "-")


def test_the_front_of_two_costs() -> None:
    points = [("a", 1.0, 5.0), ("b", 2.0, 3.0), ("c", 2.0, 4.0), ("d", 3.0, 3.0), ("e", 1.0, 5.0)]
    assert pareto(points) == {"a", "b", "e"}


def test_a_defense_that_was_asked_less_is_not_better_for_it() -> None:
    rows = (
        row("mad", 0.848, budget=1000, benign_accuracy=0.97),
        row("am", 0.30, budget=1000, benign_accuracy=0.96),
        row("slow", 0.744, budget=300, benign_accuracy=0.97),
    )
    panels = {panel.what: panel for panel in panels_of(lines_of(rows, statuses(rows), [300, 1000]))}
    cost = panels["benign cost"]
    assert cost.budget == 1000
    assert [name for name, *_ in cost.points] == ["mad", "am", "slow (300 queries)"]
    assert cost.front == {"mad", "am"}


def test_a_defense_without_a_cell_at_the_budget_is_on_no_front() -> None:
    rows = (
        row("mad", 0.8), row("am", 0.7), row("odd", 0.1, budget=100), row("odd", 0.9, budget=5000),
    )  # fmt: skip
    panel = panels_of(lines_of(rows, statuses(rows), [1000]))[0]
    assert [name for name, *_ in panel.points] == ["mad", "am", "odd (100 queries)"]
    assert panel.front == {"am"}


def test_the_budget_of_a_picture_is_the_one_that_most_were_asked() -> None:
    early = (row("none", 0.98, budget=5000), row("none", 0.94), row("am", 0.3), row("ini", 0.6))
    panel = panels_of(lines_of(early, statuses(early), [1000, 5000]))[0]
    assert panel.budget == 1000
    assert {name: y for name, _, y in panel.points}["none"] == pytest.approx(94.0)
    (column,) = columns_of(early, statuses(early))
    assert column.title == "knockoff, soft, 1,000"
    late = (row("slow", 0.74, budget=300), *early)
    (column,) = columns_of(late, statuses(late))
    fields = {name: field_of(late, name, column) for name in ("none", "slow", "edm")}
    assert [None if field is None else field.text for field in fields.values()] == [
        "94.0",
        "74.0*",
        None,
    ]


def test_an_attack_has_a_column_for_each_budget_that_half_of_the_defenses_had() -> None:
    rows = (
        *(row(name, 0.5, budget=100) for name in ("none", "mad", "late")),
        *(row(name, 0.9) for name in ("none", "mad")),
        row("slow", 0.3, budget=30),
    )
    found = columns_of(rows, statuses(rows))
    assert [column.title for column in found] == ["knockoff, soft, 100", "knockoff, soft, 1,000"]
    shown = {name: [field_of(rows, name, column) for column in found] for name in ("mad", "slow")}
    texts = {
        name: [field.text for field in fields if field is not None]
        for name, fields in shown.items()
    }
    assert texts == {"mad": ["50.0", "90.0"], "slow": ["30.0*", "30.0*"]}


def test_what_was_not_tried_is_marked_in_a_picture() -> None:
    rows = (row("am", 0.3), row("none", 0.9))
    untried = Status(defense="am", attack="jbda", labels="hard", budget=9, seed=0, state="missing")
    (panel, _) = panels_of(lines_of(rows, (*statuses(rows), untried), [1000]))
    assert [name for name, *_ in panel.points] == ["am*", "none"]


def test_a_missing_field_is_hatched_and_not_coloured() -> None:
    missing = Status(
        defense="ini", attack="knockoff", labels="soft", budget=9, seed=0, state="missing"
    )
    figure = draw_heat_map(ROWS, (*statuses(), missing))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "ini"
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == 1
    trade_off = draw_trade_off(lines_of(ROWS, statuses(), [1000]))
    assert trade_off is not None
    assert len(trade_off.axes) == 2
