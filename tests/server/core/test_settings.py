"""Where settings come from, which source wins, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import ConfigurationError
from server.settings import Settings, load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text("model_dir: /from/file\nport: 1111\nbatching: {max_batch_size: 11}\n")
    return path


def test_defaults() -> None:
    settings = load_settings(model_dir=Path("/m"))
    assert settings.port == 8000
    assert settings.host == settings.admin_host == "127.0.0.1"
    assert settings.batching.max_batch_size == 64


def test_the_file_beats_the_defaults(config: Path) -> None:
    settings = load_settings(config)
    assert settings.port == 1111
    assert settings.batching.max_batch_size == 11
    assert settings.batching.queue_samples == 1024


def test_the_environment_beats_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAGLIO_PORT", "2222")
    monkeypatch.setenv("INTAGLIO_BATCHING__MAX_BATCH_SIZE", "22")
    settings = load_settings(config)
    assert (settings.port, settings.batching.max_batch_size) == (2222, 22)
    assert settings.model_dir == Path("/from/file")


def test_flags_beat_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAGLIO_PORT", "2222")
    monkeypatch.setenv("INTAGLIO_BATCHING__MAX_BATCH_SIZE", "22")
    settings = load_settings(config, port=3333, batching={"deadline_s": 3.0}, host=None)
    assert (settings.port, settings.host) == (3333, "127.0.0.1")
    assert settings.batching.deadline_s == 3.0
    assert settings.batching.max_batch_size == 22


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 80", "prot: there is no such setting"),
        ("batching: {size: 3}", "batching.size: there is no such setting"),
        ("models: {d: {defences: []}}", "models.d.defences: there is no such setting"),
        ("models: {d: {defenses: {kind: top-k}}}", "models.d.defenses: must be a list of mappings"),
        ("models: {d: {defenses: [top-k]}}", "models.d.defenses: must be a list of mappings, as"),
        ("models: {d: {defenses: top-k}}", "as in - {kind: top-k, k: 3}"),
        ("models: {d: {tighten: [top-k]}}", "models.d.tighten: must be a list of mappings"),
        ("port: eighty", "port: Input should be a valid integer"),
        ("port: 70000", "port: Input should be less than or equal to 65535"),
        ("batching: {queue_samples: 3}", "batching.queue_samples must be at least"),
        ("- a list", "a mapping of settings to values"),
        ("a: [", "config: .* in line 1"),
        ("device: tpu", "device: "),
        ("device: cuda:99999999999999999999", "device: "),
        ("threads: 1000000000000", "threads: Input should be less than or equal to 1024"),
        ("host: a..b", "host: must be an address, or a name with 1 to 63 characters between"),
        ("admin_host: 127.0.0..1", "admin_host: must be an address, or a name"),
        (f"host: {64 * 'x'}.example", "host: must be an address, or a name"),
        (r'audit: {directory: "a\0b"}', r"audit\.directory: .* cannot hold the character NUL"),
        (r'state_dir: "a\0b"', "state_dir: .* cannot hold the character NUL"),
        (r'callers: {store: file, file: "a\0b"}', r"callers\.file: .* cannot hold"),
        (
            "tracing: {endpoint: nonsense}",
            r"tracing\.endpoint: must begin with http:// or https://",
        ),
        ("tracing: {endpoint: 'ftp://h/v1'}", r"tracing\.endpoint: must begin with http://"),
        ("tracing: {endpoint: ''}", r"tracing\.endpoint: must begin with http://"),
        ("tracing: {endpoint: 'http://'}", r"tracing\.endpoint: this is not an address"),
        ("tracing: {endpoint: 'http://a..b/v1'}", r"tracing\.endpoint: this is not an address"),
        ("tracing: {endpoint: 'http://h:99999/v1'}", r"tracing\.endpoint: this is not an address"),
        ("tracing: {endpoint: 'http://[::1/v1'}", r"tracing\.endpoint: this is not an address"),
        (r'host: "h\n"', "host: must be an address, or a name"),
        ("api_keys: ['']", r"api_keys\.0: a key must be printable, not empty"),
        ("api_keys: [good, 'KEY ']", r"api_keys\.1: a key must be printable, not empty"),
        (r'api_keys: ["KEY\n"]', r"api_keys\.0: a key must be printable, not empty"),
        ("models: {m: {versions: ['']}}", r"models\.m\.versions\.0: '' is not a name"),
        (f"models: {{m: {{versions: ['{5000 * '9'}']}}}}", r"models\.m\.versions\.0: '9"),
        ("port: 1\nhost: localhost\nport: 2", "config: .*the key 'port' is given twice in line 3"),
        ("batching: {deadline_s: 1, deadline_s: 2}", "'deadline_s' is given twice in line 1"),
        ("1: 2", "a mapping of settings to values"),
        ("host: h\nport: 2026-99-99", "cannot be used: a value cannot be read as .* in line 2"),
        (5000 * "[", "config: .* cannot be used: it is nested too deeply"),
        ("_env_file: x", "_env_file: there is no such setting"),
        ("limits: {max_buffered_bytes: 100}", "limits.max_buffered_bytes must be at least twice"),
        (
            "limits: {max_caller_buffered_bytes: 100}",
            "limits.max_caller_buffered_bytes must be at least twice",
        ),
        (
            "limits: {max_request_pixels: 100}",
            "limits: max_request_pixels must be at least max_image_pixels",
        ),
        ("models: {a/b: {victim: digits}}", r"models\.a/b: 'a/b' is not a name: it must match"),
        ("models: {..: {victim: digits}}", r"models\.\.\.: '\.\.' is not a name"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as refused:
        load_settings(path, model_dir=Path("/m"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["_env_file", "_secrets_dir", "config", "prot", "model_config"])
def test_a_flag_that_is_no_setting_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{key}: there is no such setting$"):
        load_settings(None, model_dir=Path("/m"), **{key: "x"})


def test_a_clients_key_in_the_environment_is_not_taken_for_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INTAGLIO_API_KEY", "hunter2")
    with pytest.raises(ConfigurationError, match="set INTAGLIO_API_KEYS=") as refused:
        load_settings(model_dir=Path("/m"))
    assert "hunter2" not in str(refused.value)
    assert load_settings(model_dir=Path("/m"), api_keys=["other"]).api_keys
    monkeypatch.setenv("INTAGLIO_API_KEY", "")
    load_settings(model_dir=Path("/m"))


@pytest.mark.parametrize("host", ["", "::1", "fe80::1%eth0", "localhost", "a.example.", "bücher"])
def test_what_a_resolver_takes_is_a_host(host: str) -> None:
    assert load_settings(model_dir=Path("/m"), host=host).host == host


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"config: there is no file .*missing\.yaml"):
        load_settings(tmp_path / "missing.yaml")


def test_an_empty_file_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.touch()
    assert load_settings(path, model_dir=Path("/m")).port == 8000


def test_a_variable_that_is_nested_too_deeply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAGLIO_MODELS", 100_000 * "[")
    with pytest.raises(ConfigurationError, match=r"INTAGLIO_\.\.\. is nested too deeply"):
        load_settings(model_dir=Path("/m"))


def test_what_is_required_is_named() -> None:
    with pytest.raises(ConfigurationError, match="model_dir: this setting is required"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("INTAGLIO_PROT", "INTAGLIO_PROT: there is no such setting"),
        ("INTAGLIO_BATCHING__SIZE", "batching.size: there is no such setting"),
        ("INTAGLIO_API_KEYS", "INTAGLIO_API_KEYS: must be JSON"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named_but_not_quoted(
    monkeypatch: pytest.MonkeyPatch, variable: str, message: str
) -> None:
    monkeypatch.setenv(variable, "hunter2")
    with pytest.raises(ConfigurationError, match=message) as refused:
        load_settings(model_dir=Path("/m"))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "variable", ["INTAGLIO_DATA_ROOT", "INTAGLIO_SERVICE_HOST", "INTAGLIO_PORT_8000_TCP_ADDR"]
)
def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "something")
    load_settings(model_dir=Path("/m"))


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAGLIO_API_KEYS", '["hunter2", "hunter3"]')
    settings = load_settings(model_dir=Path("/m"), secret="hunter2 hunter2 hunter2")
    assert len(settings.api_keys) == 2
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "hunter" not in shown


def test_settings_cannot_be_changed() -> None:
    settings = Settings(model_dir=Path("/m"))
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
