"""Who may operate the server over its second port."""

from __future__ import annotations

from collections.abc import Mapping

from server.admission import Admission, Caller
from server.errors import Forbidden

__all__ = ["AdminAuthority"]


class AdminAuthority:
    """Lets through whoever presents a key with the scope ``admin``.

    Args:
        admission: knows the keys; None where nobody has one with scopes, and nobody gets through:
            a port on loopback is open to every program, and every web page, on the machine.
    """

    def __init__(self, admission: Admission | None) -> None:
        self._admission = admission

    async def authorise(self, headers: Mapping[str, str]) -> Caller:
        """Say who operates.

        Args:
            headers: of the request, names in lower case.

        Raises:
            Unauthorized: no valid key.
            Forbidden: a key without the scope, or there can be none.
            StoreAway: it cannot be told now.
        """
        if self._admission is None:
            raise Forbidden(
                "administration needs an API key with the scope 'admin': set callers.store to file "
                "or redis, then run 'intaglio keys create --scope admin'"
            )
        caller = await self._admission.identify(headers)
        caller.require("admin")
        return caller
