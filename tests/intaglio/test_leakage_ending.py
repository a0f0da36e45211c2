"""A pipeline can tell a leak from a mistake, a bug and a reader that left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from intaglio.commands.leakage_ending import ending
from intaglio.leakage.errors import MatrixError
from models.sentence import Sentence

LIST = "from intaglio.cli import main; main(['leakage', '--list'])"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (RuntimeError("CUDA error: no memory"), 3)]
)
def test_what_is_no_verdict_has_a_status_of_its_own(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, ending("matrix.yaml"):
        raise error
    assert ended.value.code == status
    assert ("CUDA error: no memory" in capsys.readouterr().err) == (status == 3)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MatrixError("seeds: none"), "seeds: none"),
        (OSError(errno.ENOSPC, "No space left on device"), "matrix.yaml: No space left on device"),
        (Sentence("as it was"), "as it was"),
    ],
)
def test_what_a_person_can_act_on_is_a_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(Sentence) as ended, ending("matrix.yaml"):
        raise error
    assert (ended.value.message, ended.value.exit_code) == (sentence, 2)


def test_a_reader_that_left_is_no_leak() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", LIST], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert ended.returncode == 141, ended.stderr
