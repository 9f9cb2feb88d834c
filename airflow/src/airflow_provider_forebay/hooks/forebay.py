"""The connection type `forebay`."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from airflow_provider_forebay.client import AsyncForebayClient, Endpoint, ForebayClient, ForebayError, Request
from airflow_provider_forebay.compat import BaseHook

DEFAULT_PORT = 7070


class ForebayHook(BaseHook):
    """
    Speaks to the control API of a Forebay process.

    Connection: host, port (7070), schema (`http` or `https`), password (the token, where the API wants one), and in extra

    - `verify`: `false`, or the path of a file of certificates, for https;
    - `timeout`: seconds for one request, 10 unless told;
    - `link`: the address under which people reach the API, for links in Airflow's pages; that of the connection unless told.

    :param forebay_conn_id: the connection.
    """

    conn_name_attr = "forebay_conn_id"
    default_conn_name = "forebay_default"
    conn_type = "forebay"
    hook_name = "Forebay"

    def __init__(self, forebay_conn_id: str = default_conn_name) -> None:
        """Look at the connection when it is first needed."""
        super().__init__()
        self.forebay_conn_id = forebay_conn_id
        self._endpoint: Endpoint | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where the API is."""
        if self._endpoint is None:
            self._endpoint = endpoint(self.get_connection(self.forebay_conn_id))
        return self._endpoint

    async def aendpoint(self) -> Endpoint:
        """Give the same in an event loop."""
        if self._endpoint is None:
            # 3.1 and later have it as a coroutine.
            get = getattr(self, "aget_connection", None) or sync_to_async(self.get_connection)
            self._endpoint = endpoint(await get(self.forebay_conn_id))
        return self._endpoint

    def get_conn(self) -> ForebayClient:
        """Give a client; close it, or use it in a `with`."""
        return ForebayClient(self.endpoint)

    async def get_async_conn(self) -> AsyncForebayClient:
        """Give a client for an event loop, to be used in an `async with`."""
        return AsyncForebayClient(await self.aendpoint())

    def send(self, request: Request, patience_seconds: float = 0.0) -> dict[str, Any]:
        """Send one request; an API that is away is waited for so long."""
        with self.get_conn() as client:
            return client.send(request, patience_seconds)

    def test_connection(self) -> tuple[bool, str]:
        """Ask who answers and what the token may do: the button of the connection's page."""
        try:
            version = self.send(Request("GET", "/v1/version"))
            who = self.send(Request("GET", "/v1/whoami"))
        except (ForebayError, ValueError) as error:
            return False, str(error)
        name = version.get("name")
        if name != "forebay":
            return False, f"{self.endpoint.url} is no Forebay but {name!r}"
        if who.get("role") == "viewer":
            return False, f"{self.endpoint.url} is Forebay, but the token may only look; runs need a token of the role operator"
        return True, f"Forebay {version.get('version')} at {self.endpoint.url}, as {who.get('role')}"

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say which fields the connection's page shows."""
        return {
            "hidden_fields": ["login"],
            "relabeling": {"schema": "Scheme", "password": "Token"},
            "placeholders": {
                "host": "forebay",
                "port": str(DEFAULT_PORT),
                "schema": "http",
                "password": "of the role operator; empty where the API is on this machine and wants none",
                "extra": '{"link": "http://localhost:7070"}',
            },
        }


def endpoint(connection: Any) -> Endpoint:
    """Read an endpoint from a connection; a connection that can't be one raises ValueError."""
    host = (connection.host or "").strip()
    if not host:
        raise ValueError(f"the connection {connection.conn_id!r} names no host; set it to where Forebay's control API listens")
    scheme = connection.schema or "http"
    if "://" in host:
        scheme, host = host.split("://", 1)
    if scheme not in ("http", "https"):
        raise ValueError(f"the connection {connection.conn_id!r} has the schema {scheme!r}; it is http or https")
    host = host.rstrip("/")
    if ":" in host and not host.startswith("["):  # an IPv6 address
        host = f"[{host}]"
    extra = connection.extra_dejson
    return Endpoint(
        url=f"{scheme}://{host}:{connection.port or DEFAULT_PORT}",
        token=connection.password or None,
        verify=extra.get("verify", True),
        timeout_seconds=float(extra.get("timeout", 10)),
        link=extra.get("link"),
    )
