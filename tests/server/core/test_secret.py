"""The secret: private, generated once, the same for everybody who starts."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.errors import ConfigurationError
from server.secret import load_secret
from server.settings import Settings

Build = Callable[..., Settings]


def test_a_configured_secret_is_taken_and_no_file_is_touched(
    settings: Build, tmp_path: Path
) -> None:
    given = settings(secret="x" * 16, secret_file=tmp_path / "secret")
    assert load_secret(given) == b"x" * 16
    assert list(tmp_path.iterdir()) == []


def test_it_is_generated_once_into_a_private_file(settings: Build, tmp_path: Path) -> None:
    path = tmp_path / "state" / "secret"
    given = settings(secret=None, secret_file=path)
    first = load_secret(given)
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_secret(given) == first
    assert list(path.parent.iterdir()) == [path]


def test_those_that_start_together_agree(settings: Build, tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def load(attempt: int) -> bytes:
        given = settings(secret=None, secret_file=tmp_path / f"secret-{attempt}")
        together.wait()
        return load_secret(given)

    with ThreadPoolExecutor(8) as pool:
        for attempt in range(20):
            assert len(set(pool.map(load, [attempt] * 8))) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_use_is_refused(settings: Build, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * 64)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"secret_file: .* 'chmod 600"):
        load_secret(settings(secret=None, secret_file=path))


@pytest.mark.parametrize("content", ["", "short", "   \n"])
def test_a_short_secret_is_refused(settings: Build, tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="secret_file: must hold at least 16 bytes"):
        load_secret(settings(secret=None, secret_file=path))
    with pytest.raises(ConfigurationError, match=r"^secret: must hold at least 16 bytes"):
        load_secret(settings(secret=f"{content}!"))


def test_a_place_that_cannot_be_written_is_named(settings: Build, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"secret_file: .*INTAGLIO_SECRET"):
        load_secret(settings(secret=None, secret_file=tmp_path / "file" / "secret"))


def test_a_directory_is_no_secret(settings: Build, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="secret_file: "):
        load_secret(settings(secret=None, secret_file=tmp_path))


@pytest.mark.parametrize(("mounted", "ours"), [(True, False), (True, True), (False, False)])
def test_who_mounts_a_secret_decides_who_may_read_it(
    settings: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mounted: bool,
    ours: bool,
) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * 64)
    path.chmod(0o440)  # as Kubernetes shows a secret of mode 0400 to a group of its own
    flags = os.ST_RDONLY if mounted else 0
    seen = SimpleNamespace(f_flag=flags)
    monkeypatch.setattr("server.secret.os.fstatvfs", lambda _: seen)
    owner = path.stat().st_uid
    monkeypatch.setattr("server.secret.os.geteuid", lambda: owner if ours else owner + 1)
    given = settings(secret=None, secret_file=path)
    if mounted and not ours:
        assert load_secret(given) == b"x" * 64
    else:
        with pytest.raises(ConfigurationError, match="open to others"):
            load_secret(given)
