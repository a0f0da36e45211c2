"""Every setting of the server: one typed object, built at start and passed down.

Sources, strongest first: flags, environment (``INTAGLIO_`` prefix, ``__`` between levels),
the YAML file, the defaults below. Unknown keys are refused by name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from models.card import Name
from server.errors import ConfigurationError
from server.settings_callers import (
    AuditSettings,
    CallerSettings,
    IdempotencySettings,
    RedisSettings,
)
from server.settings_file import read_settings
from server.settings_sections import (
    BatchingSettings,
    CacheSettings,
    ExplanationSettings,
    LimitSettings,
    ModelLimitSettings,
    ModelSettings,
    MonitorSettings,
    Seconds,
    TierSettings,
    TracingSettings,
)
from server.settings_values import ApiKey, Host, Place

__all__ = [
    "BatchingSettings",
    "CacheSettings",
    "ExplanationSettings",
    "LimitSettings",
    "ModelLimitSettings",
    "ModelSettings",
    "MonitorSettings",
    "Settings",
    "TierSettings",
    "TracingSettings",
    "load_settings",
]

NOT_OURS = frozenset({"API_KEY", "DATA_ROOT", "OPERATOR_KEY"})
"""Variables with our prefix that other commands read."""

INJECTED = re.compile(r"SERVICE_(HOST|PORT).*|PORT_\d+_.*")
"""What Kubernetes puts into the environment for a service that is called ``intaglio``."""


class Settings(BaseSettings):
    """The whole configuration of one server process."""

    model_config = SettingsConfigDict(
        env_prefix="INTAGLIO_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    model_dir: Place
    """Directory of bundles, ``NAME/VERSION/card.json``."""

    models: dict[Name, ModelSettings] = Field(default_factory=dict)
    """What is served. Empty: every bundle under ``model_dir``, undefended, under its own name.
    Otherwise exactly these names, so that no weights are served by accident."""

    host: Host = "127.0.0.1"
    """Address of the callers' port."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The callers' port; 0 takes a free one."""

    admin_host: Host = "127.0.0.1"
    """Address of the operator's port: metrics for all, the rest for keys with the scope admin."""

    admin_port: Annotated[int, Field(ge=0, le=65_535)] = 8001
    """The operator's port; 0 takes a free one."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")] = "auto"
    """Where forward pass and chain run: ``auto``, ``cpu`` or ``cuda:N``."""

    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of one forward pass; 0 leaves it to PyTorch. Small networks, and machines whose
    cores are busy otherwise, are served fastest with 1."""

    api_keys: tuple[ApiKey, ...] = ()
    """Keys without limits, of which callers must present one; none, and ``callers.store: open``:
    anybody may ask."""

    state_dir: Place = Path(platformdirs.user_state_dir("intaglio"))
    """Where one process keeps what outlives it: callers' keys and budgets."""

    secret: SecretStr | None = None
    """Keys the per-image seeds; required to be the same in every process that serves a model."""

    secret_file: Place = Path(platformdirs.user_state_dir("intaglio")) / "secret"
    """Where a secret is generated once (mode 0600) if ``secret`` is not given."""

    allow_factories: tuple[str, ...] = ()
    """Factories named by cards that may be called: ``package.module:name`` or ``file.py:name``."""

    limits: LimitSettings = LimitSettings()
    """What a single request may ask for, and what all of them together may hold."""

    batching: BatchingSettings = BatchingSettings()
    """How queries become batches."""

    callers: CallerSettings = CallerSettings()
    """Who may ask: where keys are kept that have scopes, limits and budgets."""

    idempotency: IdempotencySettings = IdempotencySettings()
    """Requests that are sent again under one Idempotency-Key: charged and answered once."""

    redis: RedisSettings = RedisSettings()
    """The Redis that replicas share: keys, limits and budgets of callers."""

    audit: AuditSettings = AuditSettings()
    """A record of every request: who asked how much of what, and what came of it."""

    monitor: MonitorSettings = MonitorSettings()
    """Whether somebody watches how callers ask, and what the watcher may remember."""

    cache: CacheSettings = CacheSettings()
    """Answers that are kept for who asks about the same image again."""

    drain_s: Seconds = 30.0
    """How long a stopping server finishes what it accepted."""

    tracing: TracingSettings = TracingSettings()
    """Whether requests are traced, and where traces go (OpenTelemetry, OTLP over HTTP)."""

    docs: bool = True
    """Whether the callers' port has the OpenAPI page under /docs."""

    log_level: Annotated[str, Field(pattern=r"^(debug|info|warning|error)$")] = "info"
    """Least severe message that is logged."""

    log_format: Annotated[str, Field(pattern=r"^(plain|json)$")] = "plain"
    """How messages are written to standard error: for people, or one JSON object a line."""

    @model_validator(mode="after")
    def _the_largest_request_fits(self) -> Settings:
        if self.batching.queue_samples < self.limits.max_request_samples:
            raise ValueError(
                "batching.queue_samples must be at least limits.max_request_samples, "
                "or the largest request could never be accepted"
            )
        # A compressed body is there twice while it is unpacked.
        if self.limits.max_buffered_bytes < 2 * self.limits.max_body_bytes:
            raise ValueError(
                "limits.max_buffered_bytes must be at least twice limits.max_body_bytes, "
                "or the largest request could never be accepted"
            )
        if self.limits.caller_buffered_bytes < 2 * self.limits.max_body_bytes:
            raise ValueError(
                "limits.max_caller_buffered_bytes must be at least twice limits.max_body_bytes, "
                "or the largest request could never be accepted"
            )
        if self.cache.backend == "redis" and self.redis.url is None:
            raise ValueError("cache.backend is redis, which needs redis.url")
        if self.callers.store == "redis" and self.redis.url is None:
            raise ValueError("callers.store is redis, which needs redis.url")
        for name, model in self.models.items():
            self._fits(f"models.{name}", model)
        return self

    def _fits(self, key: str, model: ModelSettings) -> None:
        limits, most = model.limits, self.limits.max_request_samples
        for limit, above in (
            ("max_request_samples", most),
            ("queue_samples", self.batching.queue_samples),
            ("deadline_s", self.batching.deadline_s),
        ):
            given = getattr(limits, limit)
            if given is not None and given > above:
                raise ValueError(f"{key}.limits.{limit} must be at most the server's own, {above}")
        most = limits.max_request_samples or most
        if (limits.queue_samples or self.batching.queue_samples) < most:
            raise ValueError(
                f"{key}.limits.queue_samples must be at least the {most} samples of the largest "
                "request, or that could never be accepted"
            )
        for tier, offer in model.offers.items():
            place = f"{key}.tiers.{tier}" if model.tiers else key
            if offer.tighten is not None and not self.monitor.enabled:
                raise ValueError(f"{place}.tighten needs monitor.enabled, or nobody would see it")
            if offer.explanations and offer.explanations.cost > most:
                raise ValueError(
                    f"{place}.explanations.cost must be at most limits.max_request_samples, "
                    "or not one image could be explained"
                )

    @property
    def open_to_all(self) -> bool:
        """Whether anybody may ask."""
        return not self.api_keys and self.callers.store == "open"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment; ``load_settings`` puts the file behind them."""
        del settings_cls, dotenv_settings, file_secret_settings
        return (init_settings, env_settings)


def load_settings(config: Path | None = None, /, **flags: Any) -> Settings:
    """Build the settings from ``config`` (YAML), the environment and ``flags`` (None: not given).

    Raises:
        ConfigurationError: one sentence that names the first offending key.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    # Pydantic would take keywords of its own here, such as _env_file.
    if unknown := given.keys() - Settings.model_fields.keys():
        raise ConfigurationError(f"{min(unknown)}: there is no such setting")
    _refuse_unknown_variables()
    from_file = read_settings(config) if config is not None else {}

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            stronger = super().settings_customise_sources(settings_cls, *sources, **named)
            return (*stronger, InitSettingsSource(settings_cls, from_file))

    try:
        settings = Layered(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        parts = [str(part) for part in first["loc"] if part != "[key]"]
        raise ConfigurationError(
            f"{'.'.join(parts)}: {_sentence(first)}".removeprefix(": ")
        ) from None
    except SettingsError as error:
        # The cause may quote the value, and that may be a secret.
        field = str(error).partition('"')[2].partition('"')[0]
        raise ConfigurationError(f"INTAGLIO_{field.upper()}: must be JSON") from None
    except RecursionError:
        raise ConfigurationError("a variable INTAGLIO_... is nested too deeply") from None
    if os.environ.get("INTAGLIO_API_KEY") and settings.open_to_all:
        raise ConfigurationError(
            "INTAGLIO_API_KEY: that is the key a client sends, and this server would ask for none: "
            "set INTAGLIO_API_KEYS='[\"KEY\"]' (or api_keys), or unset it to serve anybody"
        )
    return settings


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    if error["type"] == "missing":
        return "this setting is required"
    return error["msg"].removeprefix("Value error, ")


def _refuse_unknown_variables() -> None:
    """Refuse ``INTAGLIO_PROT=80``, which would otherwise be read by nobody."""
    prefix = Settings.model_config["env_prefix"]
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(prefix)
        if name == variable.upper() or name in NOT_OURS or INJECTED.fullmatch(name):
            continue
        if name.partition("__")[0].lower() not in Settings.model_fields:
            raise ConfigurationError(f"{variable}: there is no such setting")
