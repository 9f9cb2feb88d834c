"""Waiting in the triggerer, kills, and events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from conftest import FakeForebay

from airflow_provider_forebay.triggers import forebay as module
from airflow_provider_forebay.triggers.events import ForebayRunEventTrigger
from airflow_provider_forebay.triggers.forebay import ForebayRunTrigger


@pytest.fixture(autouse=True)
def _no_minimum_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_DEFERRAL_SECONDS", 0.0)


def start(fake: FakeForebay) -> str:
    return fake._ask("k", {"attempt": 1})[1]["id"]


async def first(trigger: ForebayRunTrigger) -> dict[str, Any]:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("no event")


@pytest.mark.parametrize(
    "trigger",
    [
        ForebayRunTrigger("run-1", "other", deadline=1.5, outage_seconds=7, cancel_on_kill=False),
        ForebayRunEventTrigger("users", ("failed", "cancelled"), "other"),
    ],
)
def test_a_trigger_survives_serialisation(trigger: Any) -> None:
    from airflow.serialization.serialized_objects import BaseSerialization

    path, arguments = trigger.serialize()
    module_name, _, name = path.rpartition(".")
    again = getattr(import_module(module_name), name)(**BaseSerialization.deserialize(BaseSerialization.serialize(arguments)))
    assert type(again) is type(trigger) and again.serialize() == trigger.serialize()


def test_it_fires_once_when_the_run_has_ended(forebay: FakeForebay) -> None:
    run = start(forebay)
    forebay.end_soon(run)
    event = asyncio.run(first(ForebayRunTrigger(run)))
    assert (event["status"], event["run"]["state"], event["run_id"]) == ("ended", "succeeded", run)


def test_it_does_not_fire_before_the_scheduler_has_seen_the_task_deferred(forebay: FakeForebay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_DEFERRAL_SECONDS", 0.5)
    run = start(forebay)
    forebay.end(run)
    started = time.monotonic()
    assert asyncio.run(first(ForebayRunTrigger(run)))["status"] == "ended"
    assert time.monotonic() - started >= 0.5


def test_it_waits_for_a_forebay_that_restarts(forebay: FakeForebay) -> None:
    run = start(forebay)
    forebay.refusals = [(503, ""), (502, "<html>")]
    forebay.end_soon(run)
    assert asyncio.run(first(ForebayRunTrigger(run)))["status"] == "ended"


def test_an_unavailable_forebay_and_an_unknown_run_are_reported(forebay: FakeForebay, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(forebay)
    forebay.refusals = [(404, {"type": "run.unknown", "title": "no such run", "status": 404})]
    event = asyncio.run(first(ForebayRunTrigger(run)))
    assert (event["status"], event["retryable"]) == ("away", True) and "no such run" in event["message"]
    monkeypatch.setenv("AIRFLOW_CONN_NOBODY", "forebay://127.0.0.1:1")
    event = asyncio.run(first(ForebayRunTrigger(run, "nobody", outage_seconds=0.1)))
    assert (event["status"], event["retryable"]) == ("away", True) and "does not respond" in event["message"]
    event = asyncio.run(first(ForebayRunTrigger(run, "nobody", outage_seconds=0.1, deadline=1.0)))
    assert event["status"] == "timeout"


def test_it_fires_at_its_deadline(forebay: FakeForebay) -> None:
    event = asyncio.run(first(ForebayRunTrigger(start(forebay), deadline=time.time() + 0.5)))
    assert event["status"] == "timeout" and event["retryable"]


async def cancelled(trigger: ForebayRunTrigger, times: int = 1) -> None:
    """Cancel it as the triggerer does: repeatedly, until it has ended."""
    task = asyncio.ensure_future(first(trigger))
    await asyncio.sleep(0.3)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    while module._BACKGROUND_TASKS:
        await asyncio.sleep(0.01)


def task_states(state: str | Exception) -> Callable[..., dict[str, dict[str, str]]]:
    def states(dag_id: str, task_ids: list[str], run_ids: list[str], map_index: int | None) -> dict[str, dict[str, str]]:
        if isinstance(state, Exception):
            raise state
        return {run_ids[0]: {task_ids[0]: state} if state else {}}

    return states


@pytest.mark.parametrize(
    ("state", "cancels"),
    [("failed", True), ("success", True), ("", True), ("scheduled", True), ("running", True), ("deferred", False), (EOFError(), False)],
)
@pytest.mark.parametrize("times", [1, 3])
def test_before_3_3_the_task_s_state_distinguishes_a_kill_from_a_stopped_triggerer(
    forebay: FakeForebay, monkeypatch: pytest.MonkeyPatch, state: Any, cancels: bool, times: int
) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(module, "TRIGGERS_HAVE_ON_KILL", False)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(task_states(state)))
    run = start(forebay)
    trigger = ForebayRunTrigger(run)
    trigger.task_instance = SimpleNamespace(dag_id="pipe", task_id="fetch", run_id="r", map_index=-1)
    asyncio.run(cancelled(trigger, times))
    assert forebay.runs[run]["state"] == ("cancelled" if cancels else "running")


def test_since_3_3_only_on_kill_cancels_the_run(forebay: FakeForebay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIGGERS_HAVE_ON_KILL", True)
    run = start(forebay)
    trigger = ForebayRunTrigger(run)
    asyncio.run(cancelled(trigger))
    assert forebay.runs[run]["state"] == "running"
    asyncio.run(ForebayRunTrigger(run, cancel_on_kill=False).on_kill())
    assert forebay.runs[run]["state"] == "running"
    asyncio.run(trigger.on_kill())
    assert forebay.runs[run]["state"] == "cancelled"


class Store(dict):
    """The store in which Airflow 3.3 keeps a watcher's position."""

    async def aget(self, key: str) -> Any:
        return self.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = value


async def some(trigger: ForebayRunEventTrigger, count: int) -> list[dict[str, Any]]:
    events: list[TriggerEvent] = []
    async for event in trigger.run():
        events.append(event)
        if len(events) == count:
            break
    return [event.payload for event in events]


def test_ended_runs_are_events_in_order_and_a_restart_resumes_after_the_last(forebay: FakeForebay) -> None:
    runs = []
    for n in range(3):
        runs.append(forebay._ask(f"k{n}", {"attempt": 1, "labels": {"team": "data"}})[1]["id"])
        forebay.end(runs[-1])
    kinds = [
        ("RunStarted", runs[0]),
        ("RunSucceeded", runs[0]),
        ("RunFailed", runs[1]),
        ("RunSucceeded", "of-nobody"),
        ("RunSucceeded", runs[2]),
    ]
    forebay.events = [{"seq": 10 + n, "type": kind, "data": {"run": run}} for n, (kind, run) in enumerate(kinds)]
    forebay.runs["of-nobody"] = {"terminal": True}
    trigger = ForebayRunEventTrigger("users")
    trigger.asset_state_store = Store()
    forebay.runs.pop("of-nobody")
    got = asyncio.run(some(trigger, 2))
    assert [(event["event_id"], event["run_id"]) for event in got] == [(11, runs[0]), (14, runs[2])]
    assert got[0]["labels"] == {"team": "data"} and got[0]["counts"]["produced"] == 7 and got[0]["pipeline"] == "users"
    again = ForebayRunEventTrigger("users")
    again.asset_state_store = trigger.asset_state_store
    assert [event["event_id"] for event in asyncio.run(some(again, 1))] == [14], "the last event may arrive twice, none is skipped"


def test_a_watcher_is_identified_by_its_states_in_any_order() -> None:
    hashes = {
        BaseEventTrigger.hash(*ForebayRunEventTrigger("users", states).serialize())
        for states in [("failed", "succeeded"), ("succeeded", "failed")]
    }
    assert len(hashes) == 1
    with pytest.raises(ValueError, match="some of"):
        ForebayRunEventTrigger("users", ("done",))
