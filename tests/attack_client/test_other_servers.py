"""Servers that announce a batch of their own, or answer with logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client import v2
from attack_client.errors import ProtocolError
from attack_client.report import read_json
from attack_client.transfer_set import TransferSet
from attack_client.v2_metadata import ModelSignature, read_signature
from tests.attack_client.conftest import FORMS, Serve
from tests.attack_client.stub import LinearModel, Stub
from tests.attack_client.test_cli import knockoff, run, sentence

SIGNATURE = ModelSignature("images", "UINT8", (1, 2, 3), "probabilities", 3)


@pytest.mark.parametrize(("announced", "batch"), [(-1, None), (0, None), (1, 1), (8, 8)])
def test_an_announced_batch_is_known(announced: int, batch: int | None) -> None:
    pixels = {"name": "images", "datatype": "UINT8", "shape": [announced, 1, 2, 3]}
    answer = {"name": "probabilities", "datatype": "FP32", "shape": [announced, 3]}
    assert read_signature({"inputs": [pixels], "outputs": [answer]}).batch == batch


@pytest.mark.parametrize("most", [1, 7])
def test_no_request_holds_more_images_than_the_model_takes(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, most: int
) -> None:
    stub = Stub(model, most=most)
    with serve(stub) as url:
        result = run(knockoff(url, npz_root, tmp_path / "run", "--budget", "20"))
        assert result.exit_code == 0, result.output
        said = f"the model's metadata says a batch of {most}: --batch 64 is lowered"
        assert said in " ".join(result.output.split())
        assert max(len(images) for _, images in stub.requests) == most
        own = run(knockoff(url, npz_root, tmp_path / "own", "--budget", "20", "--batch", "1"))
    assert own.exit_code == 0, own.output
    assert "is lowered" not in own.output


def told(values: NDArray[np.float32]) -> bytes:
    tensor = {"name": "probabilities", "datatype": "FP32", "shape": list(values.shape)}
    return json.dumps({"outputs": [{**tensor, "data": values.ravel().tolist()}]}).encode()


def test_probabilities_are_made_of_logits_of_any_size() -> None:
    logits = np.array([[0.0, 1.0, 2.0], [1000.0, -1000.0, 0.0]], dtype=np.float32)
    said = v2.decode_answer(SIGNATURE, {}, told(logits), count=2, softmax=True)
    assert said.dtype == np.float32
    np.testing.assert_allclose(said[0], [0.0900306, 0.2447285, 0.6652409], rtol=1e-5)
    assert said[1].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ProtocolError, match="begin anew with --softmax and another --out"):
        v2.decode_answer(SIGNATURE, {}, told(logits), count=2)
    broken = np.array([[np.inf, 0.0, 0.0]], dtype=np.float32)
    with pytest.raises(ProtocolError, match="not finite"):
        v2.decode_answer(SIGNATURE, {}, told(broken), count=1, softmax=True)


@pytest.mark.parametrize("row", [[0.98, 0.01, 0.01], [0.0, 0.0, 1.0], [0.333, 0.333, 0.333]])
def test_probabilities_that_are_called_logits_are_refused(row: list[float]) -> None:
    sure = np.array([row, [0.5, 0.25, 0.25]], dtype=np.float32)
    with pytest.raises(ProtocolError, match="probabilities already: leave out --softmax"):
        v2.decode_answer(SIGNATURE, {}, told(sure), count=2, softmax=True)


@pytest.mark.parametrize("row", [[0.5, 0.3, 0.19], [-0.25, 0.25, 1.0], [1.25, -0.25, 0.0]])
def test_logits_that_resemble_probabilities_are_taken(row: list[float]) -> None:
    logits = np.array([[1.0, 0.0, 0.0], row], dtype=np.float32)
    said = v2.decode_answer(SIGNATURE, {}, told(logits), count=2, softmax=True)
    np.testing.assert_allclose(said[0], [0.5761169, 0.2119416, 0.2119416], rtol=1e-5)


@FORMS
def test_a_server_of_logits_is_stolen_from_where_one_says_so(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, form: dict[str, bool]
) -> None:
    stub, out = Stub(model, logits=True, **form), tmp_path / "run"  # type: ignore[arg-type]
    with serve(stub) as url:
        command = knockoff(url, npz_root, out, "--budget", "40", "--labels", "soft,hard")
        assert "begin anew with --softmax" in sentence(run(command))
        fresh = knockoff(url, npz_root, tmp_path / "soft", "--budget", "40", "--softmax")
        done = run([*fresh, "--labels", "soft,hard"])
        assert done.exit_code == 0, done.output
        again = [part for part in fresh if part != "--softmax"]
        assert "softmax was True, not False" in sentence(run([*again, "--resume"]))
        assert run([*fresh, "--resume"]).exit_code == 0
    soft, hard = read_json(tmp_path / "soft" / "report.json").rows[:2]
    assert (soft.labels, hard.labels) == ("soft", "hard")
    assert soft.benign_accuracy == 1.0
    with TransferSet.read(tmp_path / "soft" / "transfer") as stolen:
        images, answers = stolen.prefix(40)
    shares = model(images).astype(np.float64) ** 10
    wanted = shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers, wanted, atol=1e-4)
    assert "logits, made probabilities" in run(["show", str(tmp_path / "soft")]).output


def test_a_set_of_probabilities_is_written_as_before(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model)) as url:
        assert run(knockoff(url, npz_root, tmp_path, "--budget", "8", "--no-honest")).exit_code == 0
    assert "softmax" not in (tmp_path / "transfer" / "meta.json").read_text()
