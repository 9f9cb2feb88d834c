"""Requests, what is tried again, and what a refusal says."""

from __future__ import annotations

import asyncio
import time

import pytest
from conftest import TOKEN, FakeForebay, problem

from airflow_provider_forebay import client
from airflow_provider_forebay.client import AsyncForebayClient, Endpoint, ForebayClient, ForebayRefused, ForebayUnavailable, Patience


def endpoint(fake: FakeForebay) -> Endpoint:
    return Endpoint(f"http://127.0.0.1:{fake.port}", TOKEN, timeout_seconds=5)


def test_a_key_is_one_part_of_the_path_whatever_is_in_it(forebay: FakeForebay) -> None:
    with ForebayClient(endpoint(forebay)) as api:
        run = api.send(client.start_run("users", "a/b?c+d%2F é", 1))
    assert run["key"] == "a/b?c+d%2F é"


def test_a_refusal_says_what_and_what_to_do_and_is_not_tried_again(forebay: FakeForebay) -> None:
    forebay.refusals = [problem(422, "run.payload_mismatch", "the key has another body", "take another key")]
    with (
        ForebayClient(endpoint(forebay)) as api,
        pytest.raises(ForebayRefused, match="422 run.payload_mismatch.*take another key") as caught,
    ):
        api.send(client.start_run("users", "k", 1), patience_seconds=60)
    assert not caught.value.retryable and len(forebay.requests) == 1


def test_a_paused_pipeline_is_said_at_once_and_may_be_retried_by_airflow(forebay: FakeForebay) -> None:
    forebay.refusals = [problem(409, "pipeline.paused", "it is paused", retryable=True)]
    with ForebayClient(endpoint(forebay)) as api, pytest.raises(ForebayRefused) as caught:
        api.send(client.start_run("users", "k", 1), patience_seconds=60)
    assert caught.value.retryable and not caught.value.away


@pytest.mark.parametrize("status", sorted(client.AWAY))
def test_an_api_that_is_away_is_waited_for_in_threads_and_in_loops(forebay: FakeForebay, status: int) -> None:
    async def send() -> dict:
        async with AsyncForebayClient(endpoint(forebay)) as api:
            return await api.send(client.start_run("users", "k", 1), patience_seconds=30)

    forebay.refusals = [(status, "<html>gateway</html>")]
    with ForebayClient(endpoint(forebay)) as api:
        first = api.send(client.start_run("users", "k", 1), patience_seconds=30)
    forebay.refusals = [(status, "<html>gateway</html>")]
    assert asyncio.run(send())["id"] == first["id"]


def test_patience_ends() -> None:
    started = time.monotonic()
    with (
        ForebayClient(Endpoint("http://127.0.0.1:1")) as api,
        pytest.raises(ForebayUnavailable, match="http://127.0.0.1:1 does not answer"),
    ):
        api.send(client.get_run("x"), patience_seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 5


def test_pauses_double_up_to_a_bound_and_heed_the_api() -> None:
    now = [0.0]
    patience = Patience(100, clock=lambda: now[0], jitter=lambda: 1.0)
    away = ForebayUnavailable("away")
    assert [patience.pause(away) for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]
    away.retry_after = 40
    assert patience.pause(away) == 40
    now[0] = 95
    assert patience.pause(away) == 5
    now[0] = 100
    with pytest.raises(ForebayUnavailable):
        patience.pause(away)


def test_a_page_of_a_proxy_is_no_answer(forebay: FakeForebay) -> None:
    forebay.refusals = [(200, "<html>log in</html>")]
    with ForebayClient(endpoint(forebay)) as api, pytest.raises(ForebayRefused, match="log in"):
        api.send(client.get_run("x"))


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(Endpoint("http://x", TOKEN))
