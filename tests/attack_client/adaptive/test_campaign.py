"""Add-ons from the command line, against the stub on a socket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attack_client.report import read_json
from attack_client.transfer_set import TransferSet
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import Fault, LinearModel, Stub
from tests.attack_client.test_cli import knockoff, run, sentence


@pytest.fixture
def mixing(tmp_path: Path) -> str:
    """A defense that the attacker knows, in a file of the attacker's."""
    file = tmp_path / "mixing.py"
    file.write_text(
        "def factory(*, classes, share=0.5):\n"
        "    return lambda said: (1 - share) * said + share / classes\n"
    )
    return f"{file}:factory"


def test_one_theft_is_learnt_from_in_several_ways(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, mixing: str
) -> None:
    stub, out = Stub(model), tmp_path / "run"
    with serve(stub) as url:
        theft = knockoff(url, npz_root, out, "--budget", "60,30")
        assert run(theft).exit_code == 0
        asked = len(stub.thefts)
        ways = (
            ("partial-bayes:samples=2000,rounds=0", "--known-defense", mixing,
             "--known-options", '{"share": 0.2}'),
            ("filter-confidence:least=0.3",),
            ("sharpen", "--adapt", "semi-supervised:weight=0.5"),
        )  # fmt: skip
        for way in ways:
            result = run([*theft, "--resume", "--adapt", *way])
            assert result.exit_code == 0, result.output
    names = [row.attack for row in read_json(out / "report.json").rows]
    assert names[::2] == [
        "knockoff",
        "knockoff+partial-bayes(rounds=0, samples=2000)",
        "knockoff+filter-confidence(least=0.3)",
        "knockoff+sharpen+semi-supervised(weight=0.5)",
    ]
    assert names[1::2] == names[::2], "the other budget"
    assert len(stub.thefts) == asked, "paid once"


def test_what_is_asked_is_counted_and_belongs_to_the_theft(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub, out = Stub(model), tmp_path / "run"
    with serve(stub) as url:
        theft = knockoff(url, npz_root, out, "--budget", "60")
        result = run([*theft, "--adapt", "augmentation-averaging:n=3", "--labels", "soft,hard"])
        assert result.exit_code == 0, result.output
        other = sentence(run([*theft, "--resume"]))
    assert "configuration was knockoff(seed=0) via augmentation-averaging(n=3" in other
    rows = read_json(out / "report.json").rows
    assert [(row.budget, row.queries, row.sent, row.labels) for row in rows] == [
        (60, 60, 60, "soft"),
        (60, 60, 60, "hard"),
    ]
    assert rows[0].attack == "knockoff+augmentation-averaging(n=3)"
    assert rows[0].unique_queries > 20


def test_accounts_share_a_theft_and_no_key_is_written(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub, out, keys = Stub(model, key="first-key"), tmp_path / "run", tmp_path / "keys.txt"
    keys.write_text("first-key\nsecond-key\n")
    with serve(stub) as url:
        theft = knockoff(url, npz_root, out, "--budget", "60", "--adapt", f"accounts:file={keys}")
        refused = sentence(run(theft, INTAGLIO_OPERATOR_KEY="first-key"))
        assert "account 2 of 2: " in refused
        assert "second-key" not in refused
        assert stub.samples == 0
        stub.key = None
        assert run(theft).exit_code == 0
    written = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert b"first-key" not in written
    with TransferSet.read(out / "transfer") as stolen:
        assert stolen.provenance.configuration == "knockoff(seed=0) via accounts(split='even')"


def test_a_shadow_service_is_asked_with_the_attackers_images(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    victim, shadow = Stub(model), Stub(LinearModel(seed=5))
    with serve(victim) as url, serve(shadow) as shadow_url:
        theft = knockoff(url, npz_root, tmp_path / "run", "--budget", "40", "--adapt")
        given = ["recover:epochs=1,samples=200", "--shadow-url", shadow_url]
        lacking = run([*theft, *given])
        assert lacking.exit_code == 2
        assert "given together or not at all" in " ".join(lacking.output.split())
        result = run([*theft, *given, "--shadow-defended", "toy", "--shadow-plain", "toy"])
        assert result.exit_code == 0, result.output
    assert shadow.samples == 80, "both models, each image once"
    assert all(key is None for key, _ in shadow.requests)


@pytest.mark.parametrize("logits", [False, True])
def test_a_shadow_answers_in_a_form_of_its_own(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, logits: bool
) -> None:
    victim, shadow = Stub(model, logits=not logits), Stub(LinearModel(seed=5), logits=logits)
    flags = ["--shadow-softmax" if logits else "--softmax"]
    with serve(victim) as url, serve(shadow) as shadow_url:
        theft = knockoff(url, npz_root, tmp_path / "run", "--budget", "40", *flags, "--adapt")
        given = ["recover:epochs=1,samples=200", "--shadow-url", shadow_url]
        result = run([*theft, *given, "--shadow-defended=toy", "--shadow-plain=toy"])
        assert result.exit_code == 0, result.output
        wrong = knockoff(url, npz_root, tmp_path / "wrong", "--budget", "40", *flags, "--adapt")
        wrong += [*given, "--shadow-defended=toy", "--shadow-plain=toy"]
        if logits:
            wrong.remove("--shadow-softmax")
        else:
            wrong.append("--shadow-softmax")
        refused = sentence(run(wrong))
    told = "no probabilities: if they are logits, add" if logits else "already: leave out"
    assert f"{told} --shadow-softmax, and go on with --resume" in refused


def test_a_form_of_a_shadow_that_is_not_given_is_refused(tmp_path: Path) -> None:
    flag = "--shadow-softmax"
    result = run(knockoff("http://127.0.0.1:9", tmp_path, tmp_path, "--budget", "8", flag))
    assert result.exit_code == 2
    assert "--shadow-softmax is of --shadow-url" in " ".join(result.output.split())


def test_a_shadow_of_another_victim_is_refused_before_a_query(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    victim, shadow = Stub(model), Stub(LinearModel((1, 8, 8), 4))
    with serve(victim) as url, serve(shadow) as shadow_url:
        theft = knockoff(url, npz_root, tmp_path / "run", "--budget", "40", "--adapt", "recover")
        shadowed = ["--shadow-url", shadow_url, "--shadow-defended=toy", "--shadow-plain=toy"]
        refused = sentence(run([*theft, *shadowed]))
    assert "the shadow toy classifies images of (1, 8, 8) into 4 classes" in refused
    assert victim.samples == 0


def test_a_shadow_is_waited_for_as_long_as_the_victim_is(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    shadow = Stub(model)
    with serve(Stub(model)) as url, serve(shadow) as shadow_url:
        theft = knockoff(url, npz_root, tmp_path / "run", "--budget", "40", "--adapt")
        given = ["recover:epochs=1,samples=200", "--shadow-url", shadow_url]
        given += ["--shadow-defended=toy", "--shadow-plain=toy"]
        shadow.faults.append(Fault(503))
        assert "503" in sentence(run([*theft, *given, "--patience", "0"]))
        shadow.faults.append(Fault(503))
        assert run([*theft, *given, "--resume"]).exit_code == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--adapt", "sharp"], "there is no add-on 'sharp'"),
        (["--adapt", "sharpen:0.5"], "is not option=value"),
        (["--adapt", "sharpen", "--labels", "hard"], "changes nothing about hard labels"),
        (["--adapt", "recover"], "recover must know the victim's defense"),
        (["--adapt", "recover", "--known-defense", "no.such:thing"], "cannot be imported"),
        (["--known-options", "{}", "--adapt", "recover", "--known-options", "[1]"], "mapping"),
        (["--known-options", '{"a": 1}'], "which is not given"),
        (["--adapt", "semi-supervised", "--budget", "600"], "leaves none of the pool's 600"),
        (["--adapt", "accounts:file=/none/keys"], "cannot read"),
    ],
)
def test_nonsense_is_a_sentence_before_a_query(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        result = run(knockoff(url, npz_root, tmp_path / "run", "--budget", "40", *more))
    assert result.exit_code == 2, result.output
    # A terminal's frame around an error breaks its lines.
    assert words in " ".join(result.output.replace("│", " ").split())
    assert stub.samples == 0


def test_the_client_needs_no_defense_of_ours() -> None:
    """Imported alone, with every add-on, it brings no package of the other side."""
    program = (
        "import sys, attack_client.campaign, attack_client.adaptive.registry as registry\n"
        "registry.kinds()\n"
        "ours = {'defenses', 'server', 'intaglio'} & {name.split('.')[0] for name in sys.modules}\n"
        "assert not ours, ours\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
