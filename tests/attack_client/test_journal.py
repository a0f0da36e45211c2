"""The journal: written before a request leaves, whatever the disk is doing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from attack_client.appending import append as write
from attack_client.errors import TransferSetError
from attack_client.provenance import Provenance
from attack_client.transfer_set import TransferSet
from tests.attack_client.stub import LinearModel


def test_a_request_leaves_while_an_answer_is_being_forced_to_disk(
    tmp_path: Path, provenance: Provenance, model: LinearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = model.images(2)
    syncing, noted = threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        syncing.set()
        assert noted.wait(30), "the journal waited for the disk"

    with TransferSet.create(tmp_path, provenance) as stolen:
        monkeypatch.setattr("attack_client.transfer_set.os.fsync", fsync)
        recording = threading.Thread(target=stolen.append, args=(0, images, model(images)))
        recording.start()
        assert syncing.wait(30)
        stolen.note_sent(2, 3)
        noted.set()
        recording.join()
        assert (stolen.recorded, stolen.sent()) == (2, 3)


def test_a_full_disk_leaves_whole_lines_and_a_sentence(
    tmp_path: Path, provenance: Provenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> None:
        write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with TransferSet.create(tmp_path, provenance) as stolen:
        stolen.note_sent(0, 4)
        whole = (tmp_path / "sent.log").read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr("attack_client.journal.append", full)
            with pytest.raises(TransferSetError, match=r"sent\.log: No space left on device"):
                stolen.note_sent(4, 4)
        assert (tmp_path / "sent.log").read_bytes() == whole
        assert stolen.sent() == 4
        stolen.note_sent(4, 4)
    with TransferSet.read(tmp_path) as stolen:
        assert stolen.sent() == 8
