"""
Forebay's control API over HTTP. Knows nothing of Airflow.

Guarantee: a request is tried again only when the API is away (no answer, 429, 502, 503, 504) and only within its patience; every other refusal is
raised at once, with what the API says about it. Each request here may be sent twice without harm: a run's key and attempt mean one run.
Not guaranteed: that a request that was given up has not been carried out.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Run: TypeAlias = dict[str, Any]
"""A run as `GET /v1/runs/{id}` answers it: `id`, `key`, `attempt`, `state`, `terminal`, `counts`, `ranges`, `error`, and more."""

LONG_POLL_SECONDS = 30.0
"""How long the API may hold an answer back until a run changes."""
AWAY = frozenset({429, 502, 503, 504})
"""Answers of an API, or of a proxy before it, that is not there at the moment."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
EXCERPT = 300


class ForebayError(Exception):
    """A request that did not get what it asked for. `retryable`: the same request may get it later. `away`: so may one in a moment."""

    retryable = True
    away = False
    retry_after = 0.0


class ForebayUnavailable(ForebayError):
    """The API did not answer."""

    away = True


class ForebayRefused(ForebayError):
    """The API answered that it won't: a problem after RFC 9457, or what can be made of another answer."""

    def __init__(self, request: Request, answer: httpx.Response) -> None:
        """Read the problem from an answer."""
        problem = _object(answer)
        self.status = answer.status_code
        self.kind = str(problem.get("type", ""))
        self.away = self.status in AWAY
        self.retryable = bool(problem.get("retryable")) or self.away or self.status >= 500
        self.retry_after = _seconds(answer.headers.get("Retry-After"))
        words = [str(problem.get("title") or answer.reason_phrase or "refused"), str(problem.get("detail") or answer.text[:EXCERPT])]
        if remedy := problem.get("remedy"):
            words.append(f"remedy: {remedy}")
        said = "; ".join(word for word in words if word)
        super().__init__(f"{request.method} {answer.url} answered {self.status}{f' {self.kind}' if self.kind else ''}: {said}")


@dataclass(frozen=True)
class Endpoint:
    """Where a control API is and how to speak to it."""

    url: str
    token: str | None = field(default=None, repr=False)
    verify: bool | str = True
    timeout_seconds: float = 10.0
    link: str | None = None

    def run_url(self, run_id: str) -> str:
        """Give the address of a run for people, whose browser may reach the API under another name (`link`)."""
        return f"{(self.link or self.url).rstrip('/')}/v1/runs/{run_id}"

    def options(self) -> dict[str, Any]:
        """Make the arguments of an httpx client; reads certificates from the disk."""
        headers = {"Accept": "application/json", "User-Agent": "airflow-provider-forebay"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        verify: bool | ssl.SSLContext = False
        if self.url.startswith("https:") and self.verify:
            verify = ssl.create_default_context(cafile=self.verify if isinstance(self.verify, str) else None)
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout_seconds, "verify": verify}


@dataclass(frozen=True)
class Request:
    """A request, not yet sent. `wait_seconds` is how long the API may hold the answer back."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    wait_seconds: float = 0.0

    def arguments(self, timeout_seconds: float) -> dict[str, Any]:
        """Make the arguments of `httpx.Client.request`."""
        timeout = httpx.Timeout(timeout_seconds, read=timeout_seconds + self.wait_seconds)
        return {"method": self.method, "url": self.path, "params": dict(self.query), "json": self.body, "timeout": timeout}


def start_run(
    pipeline: str,
    key: str,
    attempt: int,
    *,
    params: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    lease_seconds: int | None = None,
    read: str | None = None,
    max_rejected: int | str | None = None,
) -> Request:
    """Ask for a run, or for the one that this key and attempt mean already, or for the open one of an earlier attempt."""
    body: dict[str, Any] = {"attempt": attempt}
    if params:
        body["params"] = dict(params)
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
    """Ask for a run; with `wait_seconds`, for its next change, or how it is after so long."""
    query = {"wait": f"{max(1, round(wait_seconds))}s"} if wait_seconds > 0 else {}
    return Request("GET", f"/v1/runs/{quote(run_id, safe='')}", query=query, wait_seconds=wait_seconds)


def cancel_run(run_id: str, reason: str) -> Request:
    """Call a run off; a run that has ended stays as it is."""
    return Request("POST", f"/v1/runs/{quote(run_id, safe='')}/cancel", body={"reason": reason})


def get_records(partition: int, offset: int, limit: int) -> Request:
    """Ask for records of the topic."""
    return Request("GET", "/v1/records", query={"partition": str(partition), "from": str(offset), "limit": str(limit)})


def get_dead_letters(limit: int) -> Request:
    """Ask for the newest records that did not get into the table, with the reason of each."""
    return Request("GET", "/v1/dlq", query={"limit": str(limit)})


class Patience:
    """How long one goes on when the API is away: doubling pauses with jitter, within a bound."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random) -> None:
        """Begin now."""
        self._clock, self._jitter = clock, jitter
        self._until = clock() + seconds
        self._pause = FIRST_PAUSE_SECONDS

    def pause(self, error: ForebayError) -> float:
        """Give the seconds to wait before the next try; raises the error when another try makes no sense."""
        left = self._until - self._clock()
        if not error.away or left <= 0:
            raise error
        pause = max(self._pause * (1 + self._jitter()) / 2, error.retry_after)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        return min(pause, left)


class ForebayClient:
    """A client for threads."""

    def __init__(self, endpoint: Endpoint, transport: httpx.BaseTransport | None = None) -> None:
        """Connect at the first request."""
        self.endpoint = endpoint
        self._http = httpx.Client(**endpoint.options(), transport=transport)

    def send(self, request: Request, patience_seconds: float = 0.0) -> dict[str, Any]:
        """Send a request and give the object that the API answers; an API that is away is waited for so long."""
        patience = Patience(patience_seconds)
        while True:
            try:
                return _answer(request, self._http.request(**request.arguments(self.endpoint.timeout_seconds)))
            except httpx.TransportError as cause:
                pause = patience.pause(_unavailable(self.endpoint, cause))
            except ForebayError as error:
                pause = patience.pause(error)
            time.sleep(pause)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close its connections."""
        self._http.close()


class AsyncForebayClient:
    """A client for an event loop. `async with` it: its certificates are read beside the loop."""

    def __init__(self, endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Connect at the first request."""
        self.endpoint = endpoint
        self._transport = transport

    async def send(self, request: Request, patience_seconds: float = 0.0) -> dict[str, Any]:
        """Send a request and give the object that the API answers; an API that is away is waited for so long."""
        patience = Patience(patience_seconds)
        while True:
            try:
                return _answer(request, await self._http.request(**request.arguments(self.endpoint.timeout_seconds)))
            except httpx.TransportError as cause:
                pause = patience.pause(_unavailable(self.endpoint, cause))
            except ForebayError as error:
                pause = patience.pause(error)
            await asyncio.sleep(pause)

    async def events(self, after: int | None) -> AsyncIterator[tuple[int, str]]:
        """
        Follow the journal: the sequence and the JSON of each event after the one given, or of what happens from now on.

        Ends when the API closes the stream; raises when it can't be had or breaks.
        """
        request = Request("GET", "/v1/events")
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
        # The API says at least something every 15 seconds.
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
        """Give itself, ready."""
        options = await asyncio.to_thread(self.endpoint.options)
        self._http = httpx.AsyncClient(**options, transport=self._transport)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close its connections."""
        await self._http.aclose()


def _answer(request: Request, answer: httpx.Response) -> dict[str, Any]:
    found = _object(answer)
    if not answer.is_success or not found:  # a page of a proxy is no answer of Forebay, whatever its status
        raise ForebayRefused(request, answer)
    return found


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unavailable(endpoint: Endpoint, cause: httpx.TransportError) -> ForebayUnavailable:
    return ForebayUnavailable(
        f"Forebay at {endpoint.url} does not answer: {cause or type(cause).__name__}; see that it runs and is reachable"
    )


def _seconds(text: str | None) -> float:
    """Read `Retry-After`, which may be a date also; that is no number of seconds and counts as none."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
