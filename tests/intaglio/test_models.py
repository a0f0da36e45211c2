"""``intaglio models``: what an operator sees of bundles, without running anything of theirs."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from intaglio.cli import main
from tests.models.builders import edit_card, source, tiny_bundle


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments], catch_exceptions=False)


def test_list_shows_every_bundle_and_what_is_wrong(tmp_path: Path) -> None:
    assert f"There is no bundle under {tmp_path}" in run(
        "list", "--models", str(tmp_path)
    ).stdout.replace("\n", "")
    tiny_bundle(tmp_path, victim=source(), misinformation=source(1))
    tiny_bundle(tmp_path, version="2")
    listed = run("list", "--models", str(tmp_path))
    assert listed.exit_code == 0
    assert listed.stdout.index("toy/1") < listed.stdout.index("toy/2")
    assert "50.00% on toy" in listed.stdout
    edit_card(tmp_path / "toy" / "1", lambda card: card.pop("labels"))
    broken = run("list", "--models", str(tmp_path))
    assert broken.exit_code == 2
    assert "toy/2" in broken.stdout
    assert "labels: field required" in broken.stderr


def test_show_tells_what_the_card_says(tmp_path: Path) -> None:
    tiny_bundle(tmp_path, victim=source(), misinformation=source(1))
    shown = run("show", "toy", "--models", str(tmp_path))
    assert shown.exit_code == 0
    for fact in ("toy/1", "Three classes of noise.", "1x8x8", "a, b, c", "misinformation"):
        assert fact in shown.stdout
    card = json.loads(run("show", "toy/1", "--models", str(tmp_path), "--json").stdout)
    assert card["networks"]["victim"]["architecture"] == "cnn-small"


def test_show_checks_files_but_runs_no_code(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path)
    trap = tmp_path / "trap.py"
    trap.write_text(f"import os\nos.mkdir({str(tmp_path / 'sprung')!r})\n")
    edit_card(path, lambda card: card["networks"]["victim"].update(architecture=f"{trap}:factory"))
    assert run("show", "toy", "--models", str(tmp_path)).exit_code == 0
    assert not (tmp_path / "sprung").exists()
    (path / "victim.safetensors").write_bytes(b"\0")
    refused = run("show", "toy", "--models", str(tmp_path))
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: ")
    assert "is not the file its card describes" in refused.stderr
    absent = run("show", "mnist", "--models", str(tmp_path))
    assert (absent.exit_code, "which holds toy/1" in absent.stderr) == (2, True)
