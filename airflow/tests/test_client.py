"""Requests, retries and refusals."""

from __future__ import annotations

import asyncio
import time

import pytest
from conftest import TOKEN, FakeForebay, problem

from airflow_provider_forebay import client
from airflow_provider_forebay.client import AsyncForebayClient, Endpoint, ForebayClient, ForebayRefused, ForebayUnavailable, RetryPolicy


def endpoint(fake: FakeForebay) -> Endpoint:
    return Endpoint(f"http://127.0.0.1:{fake.port}", TOKEN, timeout_seconds=5)


def test_a_key_is_one_path_segment_whatever_it_contains(forebay: FakeForebay) -> None:
    with ForebayClient(endpoint(forebay)) as api:
        run = api.send(client.start_run("users", "a/b?c+d%2F é", 1))
    assert run["key"] == "a/b?c+d%2F é"


def test_a_refusal_has_a_reason_and_a_remedy_and_is_not_retried(forebay: FakeForebay) -> None:
    forebay.refusals = [problem(422, "run.payload_mismatch", "the key has another body", "take another key")]
    with (
        ForebayClient(endpoint(forebay)) as api,
        pytest.raises(ForebayRefused, match="422 run.payload_mismatch.*take another key") as caught,
    ):
        api.send(client.start_run("users", "k", 1), retry_seconds=60)
    assert not caught.value.retryable and len(forebay.requests) == 1


def test_a_paused_pipeline_fails_at_once_and_airflow_may_retry(forebay: FakeForebay) -> None:
    forebay.refusals = [problem(409, "pipeline.paused", "it is paused", retryable=True)]
    with ForebayClient(endpoint(forebay)) as api, pytest.raises(ForebayRefused) as caught:
        api.send(client.start_run("users", "k", 1), retry_seconds=60)
    assert caught.value.retryable and not caught.value.unavailable


@pytest.mark.parametrize("status", sorted(client.UNAVAILABLE_STATUSES))
def test_both_clients_wait_for_an_unavailable_api(forebay: FakeForebay, status: int) -> None:
    async def send() -> dict:
        async with AsyncForebayClient(endpoint(forebay)) as api:
            return await api.send(client.start_run("users", "k", 1), retry_seconds=30)

    forebay.refusals = [(status, "<html>gateway</html>")]
    with ForebayClient(endpoint(forebay)) as api:
        first = api.send(client.start_run("users", "k", 1), retry_seconds=30)
    forebay.refusals = [(status, "<html>gateway</html>")]
    assert asyncio.run(send())["id"] == first["id"]


def test_the_former_names_still_work(forebay: FakeForebay) -> None:
    forebay.refusals = [problem(503, "kafka.unavailable", "kafka is unavailable", retryable=True)] * 2
    with ForebayClient(endpoint(forebay)) as api:
        with pytest.raises(ForebayRefused) as caught:
            api.send(client.start_run("users", "k", 1))
        assert caught.value.away
        api.send(client.start_run("users", "k", 1), patience_seconds=20)
    assert len(forebay.requests) == 3


def test_retries_end_at_the_deadline() -> None:
    started = time.monotonic()
    with (
        ForebayClient(Endpoint("http://127.0.0.1:1")) as api,
        pytest.raises(ForebayUnavailable, match="http://127.0.0.1:1 does not respond"),
    ):
        api.send(client.get_run("x"), retry_seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 5


def test_the_backoff_doubles_up_to_a_limit_and_honours_retry_after() -> None:
    now = [0.0]
    retry = RetryPolicy(100, clock=lambda: now[0], jitter=lambda: 1.0)
    unavailable = ForebayUnavailable("unavailable")
    assert [retry.delay(unavailable) for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]
    unavailable.retry_after = 40
    assert retry.delay(unavailable) == 40
    now[0] = 95
    assert retry.delay(unavailable) == 5
    now[0] = 100
    with pytest.raises(ForebayUnavailable):
        retry.delay(unavailable)


def test_a_proxy_page_is_not_a_response(forebay: FakeForebay) -> None:
    forebay.refusals = [(200, "<html>log in</html>")]
    with ForebayClient(endpoint(forebay)) as api, pytest.raises(ForebayRefused, match="log in"):
        api.send(client.get_run("x"))


def test_the_token_is_not_in_the_repr() -> None:
    assert TOKEN not in repr(Endpoint("http://x", TOKEN))
