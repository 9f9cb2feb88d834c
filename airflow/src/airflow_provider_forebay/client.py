"""
A client of Forebay's control API. Does not depend on Airflow.

Guarantees:

* A request is retried only while the API is unavailable (no response, 429, 502, 503, 504), for at
  most `retry_seconds`. Every other refusal is raised at once, with the API's explanation.
* Every request is idempotent: a run's key and attempt identify one run.

Does not guarantee that a request that was given up has not been executed.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Run: TypeAlias = dict[str, Any]
"""
A run as `GET /v1/runs/{id}` returns it: `id`, `key`, `attempt`, `state`, `terminal`, `counts`, …
"""

LONG_POLL_SECONDS = 30.0
"""How long the API may hold a response until the run changes."""
UNAVAILABLE_STATUSES = frozenset({429, 502, 503, 504})
"""Status codes of an API, or of a proxy in front of it, that is temporarily unavailable."""
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 15.0
MAX_EXCERPT_CHARS = 300


class ForebayError(Exception):
    """
    A request failed.

    `retryable`: the same request may succeed later. `unavailable`: it may succeed in a moment.
    """

    retryable = True
    unavailable = False
    retry_after = 0.0

    @property
    def away(self) -> bool:
        """The former name of `unavailable`."""
        return self.unavailable


class ForebayUnavailable(ForebayError):
    """The API did not respond."""

    unavailable = True


class ForebayRefused(ForebayError):
    """The API refused: an RFC 9457 problem, or as much as can be read from another response."""

    def __init__(self, request: Request, answer: httpx.Response) -> None:
        """Read the problem from a response."""
        problem = _object(answer)
        self.status = answer.status_code
        self.kind = str(problem.get("type", ""))
        self.unavailable = self.status in UNAVAILABLE_STATUSES
        self.retryable = bool(problem.get("retryable")) or self.unavailable or self.status >= 500
        self.retry_after = _seconds(answer.headers.get("Retry-After"))
        parts = [
            str(problem.get("title") or answer.reason_phrase or "refused"),
            str(problem.get("detail") or answer.text[:MAX_EXCERPT_CHARS]),
        ]
        if remedy := problem.get("remedy"):
            parts.append(f"remedy: {remedy}")
        text = "; ".join(part for part in parts if part)
        super().__init__(f"{request.method} {answer.url} answered {self.status}{f' {self.kind}' if self.kind else ''}: {text}")


@dataclass(frozen=True)
class Endpoint:
    """The address of a control API, and how to connect to it."""

    url: str
    token: str | None = field(default=None, repr=False)
    verify: bool | str = True
    timeout_seconds: float = 10.0
    link: str | None = None

    def run_url(self, run_id: str) -> str:
        """Return the URL of a run for people, whose browser may need another host name (`link`)."""
        return f"{(self.link or self.url).rstrip('/')}/v1/runs/{run_id}"

    def options(self) -> dict[str, Any]:
        """Return the arguments of an httpx client; reads certificates from disk."""
        headers = {"Accept": "application/json", "User-Agent": "airflow-provider-forebay"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        verify: bool | ssl.SSLContext = False
        if self.url.startswith("https:") and self.verify:
            verify = ssl.create_default_context(cafile=self.verify if isinstance(self.verify, str) else None)
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout_seconds, "verify": verify}


@dataclass(frozen=True)
class Request:
    """A request, not yet sent. `wait_seconds` is how long the API may hold the response."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    wait_seconds: float = 0.0

    def arguments(self, timeout_seconds: float) -> dict[str, Any]:
        """Return the arguments of `httpx.Client.request`."""
        timeout = httpx.Timeout(timeout_seconds, read=timeout_seconds + self.wait_seconds)
        return {"method": self.method, "url": self.path, "params": dict(self.query), "json": self.body, "timeout": timeout}


def start_run(
    pipeline: str,
    key: str,
    attempt: int,
    *,
    params: Mapping[str, str] | None = None,
    window: tuple[datetime, datetime] | None = None,
    labels: Mapping[str, str] | None = None,
    lease_seconds: int | None = None,
    read: str | None = None,
    max_rejected: int | str | None = None,
) -> Request:
    """
    Request a run: a new one, the one of this key and attempt, or the open one of an earlier
    attempt. `window` is its start and its end, both with a time zone.
    """
    body: dict[str, Any] = {"attempt": attempt}
    if params:
        body["params"] = dict(params)
    if window is not None:
        body["window"] = {"start": window[0].isoformat(), "end": window[1].isoformat()}
    if labels:
        body["labels"] = dict(labels)
    if lease_seconds is not None:
        body["lease_seconds"] = lease_seconds
    if read is not None:
        body["read"] = read
    if max_rejected is not None:
        body["max_rejected"] = max_rejected
    return Request("PUT", f"/v1/pipelines/{quote(pipeline, safe='')}/runs/{quote(key, safe='')}", body=body)


def get_run(run_id: str, wait_seconds: float = 0.0) -> Request:
    """Get a run; with `wait_seconds`, at its next change or after that time."""
    query = {"wait": f"{max(1, round(wait_seconds))}s"} if wait_seconds > 0 else {}
    return Request("GET", f"/v1/runs/{quote(run_id, safe='')}", query=query, wait_seconds=wait_seconds)


def cancel_run(run_id: str, reason: str) -> Request:
    """Cancel a run; a run that has ended does not change."""
    return Request("POST", f"/v1/runs/{quote(run_id, safe='')}/cancel", body={"reason": reason})


def get_records(partition: int, offset: int, limit: int) -> Request:
    """Get records of the topic."""
    return Request("GET", "/v1/records", query={"partition": str(partition), "from": str(offset), "limit": str(limit)})


def get_dead_letters(limit: int) -> Request:
    """Get the newest dead letters, each with its reason."""
    return Request("GET", "/v1/dlq", query={"limit": str(limit)})


class RetryPolicy:
    """
    How to retry while the API is unavailable: exponential back-off with jitter, up to a deadline.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random) -> None:
        """Start the deadline."""
        self._clock, self._jitter = clock, jitter
        self._deadline = clock() + seconds
        self._backoff = MIN_BACKOFF_SECONDS

    def delay(self, error: ForebayError) -> float:
        """Return the seconds until the next try; raises the error if it should not be retried."""
        left = self._deadline - self._clock()
        if not error.unavailable or left <= 0:
            raise error
        delay = max(self._backoff * (1 + self._jitter()) / 2, error.retry_after)
        self._backoff = min(self._backoff * 2, MAX_BACKOFF_SECONDS)
        return min(delay, left)


class ForebayClient:
    """A blocking client."""

    def __init__(self, endpoint: Endpoint, transport: httpx.BaseTransport | None = None) -> None:
        """Prepare a client; it connects at the first request."""
        self.endpoint = endpoint
        self._http = httpx.Client(**endpoint.options(), transport=transport)

    def send(self, request: Request, retry_seconds: float = 0.0, *, patience_seconds: float = 0.0) -> dict[str, Any]:
        """
        Send a request and return the response's object; retry for this long while the API is
        unavailable. `patience_seconds` is the former name of `retry_seconds`.
        """
        retry = RetryPolicy(retry_seconds or patience_seconds)
        while True:
            try:
                return _answer(request, self._http.request(**request.arguments(self.endpoint.timeout_seconds)))
            except httpx.TransportError as cause:
                delay = retry.delay(_unavailable(self.endpoint, cause))
            except ForebayError as error:
                delay = retry.delay(error)
            time.sleep(delay)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()


class AsyncForebayClient:
    """
    A client for an event loop. Use it with `async with`, which reads certificates in a thread.
    """

    def __init__(self, endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Prepare a client; it connects at the first request."""
        self.endpoint = endpoint
        self._transport = transport

    async def send(self, request: Request, retry_seconds: float = 0.0, *, patience_seconds: float = 0.0) -> dict[str, Any]:
        """
        Send a request and return the response's object; retry for this long while the API is
        unavailable. `patience_seconds` is the former name of `retry_seconds`.
        """
        retry = RetryPolicy(retry_seconds or patience_seconds)
        while True:
            try:
                return _answer(request, await self._http.request(**request.arguments(self.endpoint.timeout_seconds)))
            except httpx.TransportError as cause:
                delay = retry.delay(_unavailable(self.endpoint, cause))
            except ForebayError as error:
                delay = retry.delay(error)
            await asyncio.sleep(delay)

    async def events(self, after: int | None) -> AsyncIterator[tuple[int, str]]:
        """
        Yield the sequence and the JSON of each event after the given one, or of new events.

        Ends when the API closes the stream; raises if the stream can't be opened or breaks.
        """
        request = Request("GET", "/v1/events")
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
        # The API sends at least a comment every 15 seconds.
        timeout = httpx.Timeout(self.endpoint.timeout_seconds, read=45.0)
        try:
            async with self._http.stream("GET", request.path, headers=headers, timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise ForebayRefused(request, answer)
                sequence = None
                async for line in answer.aiter_lines():
                    if line.startswith("id:"):
                        sequence = int(line[3:])
                    elif line.startswith("data:") and sequence is not None:
                        yield sequence, line[5:].strip()
        except httpx.TransportError as cause:
            raise _unavailable(self.endpoint, cause) from cause

    async def __aenter__(self) -> Self:
        """Connect and return itself."""
        options = await asyncio.to_thread(self.endpoint.options)
        self._http = httpx.AsyncClient(**options, transport=self._transport)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self._http.aclose()


def _answer(request: Request, answer: httpx.Response) -> dict[str, Any]:
    found = _object(answer)
    if not answer.is_success or not found:  # a proxy's page is not a response of Forebay, whatever its status
        raise ForebayRefused(request, answer)
    return found


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unavailable(endpoint: Endpoint, cause: httpx.TransportError) -> ForebayUnavailable:
    remedy = "check that it runs and is reachable"
    if "CERTIFICATE_VERIFY_FAILED" in str(cause):
        remedy = "set `verify` in the extra of the connection to the PEM file of its CA"
    return ForebayUnavailable(f"Forebay at {endpoint.url} does not respond: {cause or type(cause).__name__}; {remedy}")


def _seconds(text: str | None) -> float:
    """Parse `Retry-After` in seconds; a date counts as 0."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
