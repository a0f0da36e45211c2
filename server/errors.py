"""What the service answers when it does not answer with a prediction.

    ServiceError                     status
    ├── BadRequest                   400   undecodable, or of a wrong shape
    ├── Unauthorized                 401   no valid key
    ├── Forbidden                    403   a key without the scope
    ├── NotFound                     404   no such model, version or path
    ├── RequestTimeout               408   the body did not arrive in time
    ├── Conflict                     409   an Idempotency-Key that belongs to another request
    ├── TooLarge                     413   over a limit; names it
    ├── UnsupportedMedia             415   wrong media type or content coding
    ├── CallerOverLimit              429   this caller is over its limit; Retry-After
    ├── CallerGone                   499   the caller hung up; nobody reads this
    ├── InternalFailure              500   opaque
    ├── Unsupported                  501   a protocol extension that is not implemented
    ├── Unavailable                  503   the server cannot take it now; Retry-After
    │   ├── QueueFull                      its queue is full
    │   ├── Draining                       it is shutting down, or not ready yet
    │   └── StoreAway                      keys, limits or budgets cannot be looked up
    └── DeadlinePassed               504   not computed in time

No status, since no caller is answered with them:

    ConfigurationError               stops the start with one sentence
    KeyStoreError                    the place where keys are kept cannot be used
    WorkerError                      what was called on the engine's thread raised

Every body is ``{"error": message}``. Messages name fields and limits, never a defense,
and never depend on what a defense decided.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BadRequest",
    "CallerGone",
    "CallerOverLimit",
    "ConfigurationError",
    "Conflict",
    "DeadlinePassed",
    "Draining",
    "Forbidden",
    "InternalFailure",
    "KeyStoreError",
    "NotFound",
    "QueueFull",
    "RequestTimeout",
    "ServiceError",
    "StoreAway",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Unsupported",
    "UnsupportedMedia",
    "WorkerError",
]


class ConfigurationError(Exception):
    """The configuration cannot be served; the message names the key."""


class KeyStoreError(Exception):
    """The store cannot be used; one sentence that names it, without secrets."""


class WorkerError(Exception):
    """What was called raised; ``__cause__`` holds it."""


class ServiceError(Exception):
    """An error with an HTTP status. ``str(error)`` is what the caller reads.

    Attributes:
        status: HTTP status code.
        reason: under which it is counted (``server.metrics.REASONS``).
        retry_after: seconds to wait before trying again, where that makes sense.
    """

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "other"
    default: ClassVar[str] = "internal error"

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message or self.default)
        self.retry_after = retry_after


class BadRequest(ServiceError):
    """The request cannot be decoded or has a wrong shape."""

    status = 400
    reason = "bad-request"
    default = "bad request"


class Unauthorized(ServiceError):
    """No valid key was given."""

    status = 401
    reason = "unauthorized"
    default = "a valid API key is required: send it as 'Authorization: Bearer KEY'"


class Forbidden(ServiceError):
    """The key lacks the scope."""

    status = 403
    reason = "forbidden"
    default = "this API key does not allow that"


class NotFound(ServiceError):
    """There is no such model, version or path."""

    status = 404
    reason = "not-found"
    default = "not found"


class RequestTimeout(ServiceError):
    """The body of the request did not arrive in time."""

    status = 408
    default = "the request did not arrive in time"


class Conflict(ServiceError):
    """The request contradicts an earlier one."""

    status = 409
    reason = "conflict"
    default = "this Idempotency-Key was used for another request"


class TooLarge(ServiceError):
    """The request is over a limit; the message names the limit."""

    status = 413
    reason = "too-large"
    default = "request too large"


class UnsupportedMedia(ServiceError):
    """The media type or content coding is not understood."""

    status = 415
    reason = "unsupported"
    default = "unsupported media type"


class CallerOverLimit(ServiceError):
    """This caller is over its own limit."""

    status = 429
    reason = "over-limit"
    default = "over the limit of this API key"


class CallerGone(ServiceError):
    """The caller hung up; the status is for the metrics only, in nginx's vocabulary."""

    status = 499
    reason = "cancelled"
    default = "the caller hung up"


class InternalFailure(ServiceError):
    """Something failed on our side; says nothing about what."""

    status = 500
    reason = "failed"
    default = "internal error"


class Unsupported(ServiceError):
    """A protocol extension that is not implemented."""

    status = 501
    reason = "unsupported"
    default = "not supported"


class Unavailable(ServiceError):
    """The server cannot take the request now."""

    status = 503
    default = "unavailable"


class QueueFull(Unavailable):
    """The queue holds as many samples as it may."""

    reason = "queue-full"
    default = "the server is full, try again later"


class Draining(Unavailable):
    """The server is shutting down or not ready yet."""

    reason = "draining"
    default = "the server is not ready"


class StoreAway(Unavailable):
    """Whatever knows callers and their budgets does not answer; nobody is let in unchecked."""

    reason = "store-away"
    default = "API keys and budgets cannot be checked now, try again later"


class DeadlinePassed(ServiceError):
    """The request was not computed before its deadline."""

    status = 504
    reason = "deadline"
    default = "deadline passed"
