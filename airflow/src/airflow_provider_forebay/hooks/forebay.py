"""The connection type `forebay`."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from airflow_provider_forebay.client import AsyncForebayClient, Endpoint, ForebayClient, ForebayError, Request
from airflow_provider_forebay.compat import BaseHook

DEFAULT_PORT = 7070


class ForebayHook(BaseHook):
    """
    Connects to the control API of a Forebay process.

    Connection: host, port (7070), schema (`http` or `https`), password (the token, if the API needs
    one), and in extra

    - `verify`: `false`, or the path of a CA bundle, for https;
    - `timeout`: seconds per request, default 10;
    - `link`: the API's address for people, for links in Airflow's UI; default: that of the
      connection.

    :param forebay_conn_id: the connection.
    """

    conn_name_attr = "forebay_conn_id"
    default_conn_name = "forebay_default"
    conn_type = "forebay"
    hook_name = "Forebay"

    def __init__(self, forebay_conn_id: str = default_conn_name) -> None:
        """Prepare a hook; it reads the connection when it is first needed."""
        super().__init__()
        self.forebay_conn_id = forebay_conn_id
        self._endpoint: Endpoint | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of the connection."""
        if self._endpoint is None:
            self._endpoint = endpoint(self.get_connection(self.forebay_conn_id))
        return self._endpoint

    async def aendpoint(self) -> Endpoint:
        """Return the endpoint, in an event loop."""
        if self._endpoint is None:
            # A coroutine in 3.1 and later.
            get = getattr(self, "aget_connection", None) or sync_to_async(self.get_connection)
            self._endpoint = endpoint(await get(self.forebay_conn_id))
        return self._endpoint

    def get_conn(self) -> ForebayClient:
        """Return a client, for use in a `with` statement."""
        return ForebayClient(self.endpoint)

    async def get_async_conn(self) -> AsyncForebayClient:
        """Return a client for an event loop, for use in an `async with` statement."""
        return AsyncForebayClient(await self.aendpoint())

    def send(self, request: Request, retry_seconds: float = 0.0, *, patience_seconds: float = 0.0) -> dict[str, Any]:
        """
        Send one request; retry for this long while the API is unavailable. `patience_seconds` is the
        former name of `retry_seconds`.
        """
        with self.get_conn() as client:
            return client.send(request, retry_seconds or patience_seconds)

    def test_connection(self) -> tuple[bool, str]:
        """Check who responds and what the token may do; the test button of the connection."""
        try:
            version = self.send(Request("GET", "/v1/version"))
            who = self.send(Request("GET", "/v1/whoami"))
        except (ForebayError, ValueError) as error:
            return False, str(error)
        name = version.get("name")
        if name != "forebay":
            return False, f"{self.endpoint.url} is not Forebay but {name!r}"
        if who.get("role") == "viewer":
            return False, f"{self.endpoint.url} is Forebay, but the token may only read; runs need a token with the role operator"
        return True, f"Forebay {version.get('version')} at {self.endpoint.url}, as {who.get('role')}"

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return which fields the connection form shows."""
        return {
            "hidden_fields": ["login"],
            "relabeling": {"schema": "Scheme", "password": "Token"},
            "placeholders": {
                "host": "forebay",
                "port": str(DEFAULT_PORT),
                "schema": "http",
                "password": "with the role operator; empty if the API needs none",
                "extra": '{"link": "http://localhost:7070"}',
            },
        }


def endpoint(connection: Any) -> Endpoint:
    """Read an endpoint from a connection; raises ValueError if the connection is not valid."""
    host = (connection.host or "").strip()
    if not host:
        raise ValueError(f"the connection {connection.conn_id!r} has no host; set it to the host of Forebay's control API")
    scheme = connection.schema or "http"
    if "://" in host:
        scheme, host = host.split("://", 1)
    if scheme not in ("http", "https"):
        raise ValueError(f"the connection {connection.conn_id!r} has the schema {scheme!r}; it must be http or https")
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
