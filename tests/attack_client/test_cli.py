"""The command, from flags to files, against the stub on a socket."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attack_client.cli import attack
from attack_client.report import read_json
from models import architectures
from models.bundle import NetworkSource, write_bundle
from models.card import InputSpec, Normalisation, TrainingCard
from models.datasets import load as load_dataset
from models.preprocessing import fit_arrays
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import SHAPE, Fault, LinearModel, Stub


def knockoff(url: str, root: Path, out: Path, *more: str) -> list[str]:
    given = {
        "--url": url,
        "--model": "toy",
        "--pool": "noise",
        "--test": "task",
        "--clone": "cnn-small",
        "--epochs": "1",
        "--latency-requests": "3",
        "--device": "cpu",
        "--data-root": str(root),
        "--out": str(out),
    }
    return ["knockoff", *(part for pair in given.items() for part in pair), *more]


def run(arguments: Sequence[str], **environment: str) -> Result:
    clean = {"INTAGLIO_API_KEY": None, "INTAGLIO_OPERATOR_KEY": None, **environment}
    return CliRunner().invoke(attack, list(arguments), env=clean)


def sentence(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_an_attack_ends_in_a_report(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model, key="thief")
    out = tmp_path / "run"
    with serve(stub) as url:
        arguments = knockoff(
            url, npz_root, out, "--budget", "100,40", "--labels", "soft,hard", "--defense", "none"
        )
        result = run(arguments, INTAGLIO_API_KEY="thief")
    assert result.exit_code == 0, result.output
    report = read_json(out / "report.json")
    assert [(row.budget, row.labels) for row in report.rows] == [
        (40, "soft"),
        (40, "hard"),
        (100, "soft"),
        (100, "hard"),
    ]
    assert stub.samples == 100 + report.rows[0].evaluation_queries
    assert report.rows[0].benign_accuracy == 1.0
    assert report.rows[0].victim_accuracy is None
    assert {file.name for file in out.iterdir()} == {
        "transfer",
        "honest",
        "report.json",
        "report.md",
        "report.html",
        "curves.png",
    }
    assert "100 queries in" in result.output
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "src=" not in page, "nothing is fetched from anywhere"
    assert "thief" not in (out / "report.json").read_text()
    assert "thief" not in (out / "transfer" / "meta.json").read_text()

    shown = run(["show", str(out)])
    assert "toy at http://127.0.0.1" in shown.output
    assert "knockoff(seed=0)" in shown.output
    assert "answers on disk  100" in shown.output


def test_a_finished_attack_is_not_paid_for_again(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        first = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        assert run(first).exit_code == 0
        before = len(stub.requests)
        refused = sentence(run(first))
        assert "already holds a transfer set: go on with --resume" in refused
        assert len(stub.requests) == before
        paid = stub.samples
        result = run([*first, "--resume"])
    assert result.exit_code == 0, result.output
    assert "40 answers were on disk already" in result.output
    assert stub.samples == paid  # nor is the test set
    assert read_json(tmp_path / "run" / "report.json").rows[0].benign_accuracy == 1.0


def plain_bundle(
    root: Path,
    model: LinearModel,
    *,
    architecture: str = "cnn-small",
    spec: InputSpec | None = None,
    data: str = "task",
    split_seed: int = 0,
) -> Path:
    """An untrained bundle whose card says that it was trained on ``data``."""
    channels, height, width = model.shape
    normalisation = Normalisation(mean=(0.5,), std=(0.25,))
    module = architectures.build(
        architecture,
        channels=channels,
        size=(height, width),
        outputs=model.classes,
        normalisation=normalisation,
        allow_factories=[architecture],
    )
    training = TrainingCard(
        objective="plain",
        data=data,
        seed=0,
        epochs=1,
        selection="last",
        recipe={"data": {"train": data, "split_seed": split_seed}},
    )
    return write_bundle(
        root,
        name="plain",
        version="1",
        description="untrained",
        input=spec or InputSpec(channels=1, height=height, width=width),
        labels=tuple("abcdefghij"[: model.classes]),
        networks={
            "victim": NetworkSource(
                module=module,
                architecture=architecture,
                normalisation=normalisation,
                training=training,
            )
        },
    )


def test_a_reference_tells_what_is_lost_and_kept(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    bundle = plain_bundle(tmp_path / "bundles", model)
    with serve(Stub(model)) as url:
        more = ("--budget", "40", "--reference", str(bundle))
        result = run(knockoff(url, npz_root, tmp_path / "run", *more))
    assert result.exit_code == 0, result.output
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert row.victim_accuracy is not None
    assert row.victim_accuracy < 0.9
    assert row.benign_l1 is not None
    assert row.benign_l1 > 0.1
    assert row.fidelity is not None


def test_the_test_set_is_the_references_own(serve: Serve, npz_root: Path, tmp_path: Path) -> None:
    model = LinearModel(SHAPE, 10)
    spec = InputSpec(channels=1, height=8, width=8, resize="nearest")
    bundle = plain_bundle(tmp_path / "bundles", model, spec=spec, data="digits", split_seed=3)
    stub = Stub(model)
    with serve(stub) as url:
        arguments = knockoff(url, npz_root, tmp_path / "run", "--budget", "20")
        arguments += ["--test", "digits", "--reference", str(bundle)]
        refused = sentence(run([*arguments, "--split-seed", "0"]))
        assert "trained on digits split by 3" in refused
        assert not stub.requests
        result = run(arguments)
    assert result.exit_code == 0, result.output
    honest = {image for _, images in stub.honest for image in images}
    own = fit_arrays(load_dataset("digits", split_seed=3).test_images, spec)
    assert honest == {hashlib.sha256(image.tobytes()).hexdigest() for image in own}


def test_a_split_is_drawn_as_told_for_pool_and_test_set(
    serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    model = LinearModel((1, 28, 28), 10)
    stub = Stub(model)
    with serve(stub) as url:
        arguments = knockoff(url, npz_root, tmp_path / "run", "--budget", "200")
        result = run([*arguments, "--test", "digits", "--pool", "digits", "--split-seed", "5"])
    assert result.exit_code == 0, result.output
    digits = load_dataset("digits", split_seed=5)
    for asked, images in ((stub.thefts, digits.train_images), (stub.honest, digits.test_images)):
        known = {hashlib.sha256(image.tobytes()).hexdigest() for image in images}
        seen = {image for _, many in asked for image in many}
        assert seen
        assert seen <= known


def test_an_allowed_factory_may_be_the_references(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from models.architectures.cnn_small import cnn_small\n"
        "def make(*, channels, size, outputs):\n"
        "    return cnn_small(channels=channels, size=size, outputs=outputs)\n"
    )
    bundle = plain_bundle(tmp_path / "bundles", model, architecture=f"{file}:make")
    stub = Stub(model)
    with serve(stub) as url:
        arguments = knockoff(url, npz_root, tmp_path / "run", "--budget", "20")
        arguments += ["--reference", str(bundle)]
        assert "--allow-factory" in sentence(run(arguments))
        assert not stub.requests
        result = run([*arguments, "--allow-factory", f"{file}:make"])
    assert result.exit_code == 0, result.output
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert row.fidelity is not None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--budget", "601"), "pool noise has 600 images"),
        (("--budget", "0"), "every budget must be at least 1"),
        (("--budget", "many"), "give a number"),
        (("--budget", "5", "--labels", "firm"), "give soft, hard or soft,hard"),
        (("--budget", "5", "--pool", "nosuch"), "nosuch"),
        (("--budget", "5", "--clone", "alexnet"), "alexnet"),
        (("--budget", "5", "--model", "other"), "check --model"),
        (("--budget", "5", "--set", "speed=3"), "no option 'speed'"),
        (("--budget", "5", "--set", "speed"), "NAME=VALUE"),
        (("--budget", "5", "--set", "x=["), "'x=[': the value is not YAML"),
        (("--budget", "5", "--set", "x=2026-13-45"), "the value is not YAML"),
        (("--budget", "5", "--shape", "6x6"), "CxHxW"),
        (("--budget", "5", "--device", "tpu"), "device"),
        (("--budget", "5", "--reference", "/nowhere"), "/nowhere"),
        (("--budget", "5", "--url", "victim"), "http://HOST:PORT"),
    ],
)
def test_a_mistake_is_one_sentence(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    expected: str,
) -> None:
    with serve(Stub(model)) as url:
        result = run([*knockoff(url, npz_root, tmp_path / "run"), *more])
    assert expected in sentence(result)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--reference", "{root}/nope"), "is not a bundle"),
        (("--reference", "{root}/wide/plain/1"), "the victim images of (1, 8, 8) into 5"),
        (("--clone", "{root}/mine.py:nope", "--allow-factory", "{root}/mine.py:nope"), "nope"),
        (("--clone", "{root}/mine.py:odd", "--allow-factory", "{root}/mine.py:odd"), "logits"),
        (("--holdout", "0.001"), "holds out no answer"),
        (("--budget", "300,9", "--holdout", "0.1"), "a budget of 9"),
        (("--operator-key", "wrong"), "401"),
        (("--operator-key", "two\nlines"), "printable ASCII"),
        (("--url", "http://xn--a"), "is not a URL: Codepoint U+0080"),
        (("--url", "http://a\x01b"), "no spaces and no control characters"),
        (("--model", "a\udcffb"), "the model's name"),
        (("--price-per-thousand", "inf"), "'--price-per-thousand': inf is not in the range"),
        (("--price-per-thousand", "nan"), "'--price-per-thousand': 'nan' is not a finite number"),
        (("--holdout", "nan"), "'--holdout': 'nan' is not a finite number"),
        (("--adapt", "recover:samples=100000.0"), "samples must be a whole number"),
    ],
)
def test_a_mistake_is_found_before_the_first_query(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    expected: str,
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef odd(*, channels, size, outputs):\n    return nn.Flatten()\n"
    )
    plain_bundle(tmp_path / "wide", LinearModel((1, 12, 12)))
    stub = Stub(model, key="thief")
    with serve(stub) as url:
        arguments = knockoff(url, npz_root, tmp_path / "run", "--budget", "300")
        arguments += [part.format(root=tmp_path) for part in more]
        result = run(arguments, INTAGLIO_API_KEY="thief")
    assert expected in sentence(result)
    assert not stub.requests
    assert not (tmp_path / "run").exists()


def test_a_request_is_tried_again_for_as_long_as_one_says(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    busy = Fault(status=503, headers=(("retry-after", "0"),))
    with serve(stub) as url:
        arguments = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        stub.faults.extend([busy] * 11)
        assert "503" in sentence(run([*arguments, "--patience", "0"]))
        assert len(stub.requests) == 1
        result = run([*arguments, "--resume", "--patience", "60"])
    assert result.exit_code == 0, result.output
    assert len(stub.thefts) == 12


def test_an_answer_is_waited_for_as_long_as_one_says(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model, delay_s=2.0)
    with serve(stub) as url:
        arguments = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        result = run([*arguments, "--timeout", "0.5", "--patience", "0"])
        assert re.search(r"does not answer \(\w+Timeout\)", sentence(result))
        for flag in ("--timeout", "--patience"):
            assert f"Invalid value for '{flag}'" in sentence(run([*arguments, flag, "nan"]))
        refused = sentence(run([*arguments, "--timeout", "0"]))
    assert "0.0 is not in the range 0.0<x<=86400.0" in refused


@pytest.mark.parametrize(
    "name", ["transfer/meta.json", "honest/*.npz", "report.json", "curves.png"]
)
def test_a_full_disk_is_one_sentence(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    out = tmp_path / "run"
    write = Path.open

    def opened(path: Path, *how: Any, **more: Any) -> Any:
        whole = path.with_name(path.name.removeprefix(".").rsplit(".", 2)[0])
        full = path.suffix == ".tmp" and whole.relative_to(out).match(name)
        return write(Path("/dev/full") if full else path, *how, **more)

    with serve(Stub(model)) as url:
        arguments = knockoff(url, npz_root, out, "--budget", "40")
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", opened)
            result = run(arguments)
        assert result.exit_code == 2, result.output
        written = " ".join(result.output.split())
        assert re.search(
            rf"Error: \S+/{name.replace('*', '[0-9a-f]+')}: No space left on device .*--resume",
            written,
        ), written
        result = run([*arguments, "--resume"])
        assert result.exit_code == 0, result.output


def test_a_key_that_cannot_be_sent_is_not_printed(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model, key="thief")) as url:
        result = run(
            knockoff(url, npz_root, tmp_path / "run", "--budget", "5"),
            INTAGLIO_API_KEY="supersecret\nx",
        )
    assert "printable ASCII" in sentence(result)
    assert "supersecret" not in result.output


def test_a_missing_key_is_one_sentence(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model, key="thief")) as url:
        result = run(knockoff(url, npz_root, tmp_path / "run", "--budget", "5"))
    assert "INTAGLIO_API_KEY" in sentence(result)


def test_an_unknown_attack_is_one_sentence() -> None:
    assert "No such command" in sentence(run(["nosuch"]))
