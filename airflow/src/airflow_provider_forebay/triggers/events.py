"""
Ended runs as events that schedule DAGs.

    Asset("users", watchers=[AssetWatcher(name="forebay", trigger=ForebayRunEventTrigger(pipeline="users"))])

Guarantees:

* Events arrive in the order of Forebay's journal, whose sequence number is their `event_id`.
* With Airflow 3.3 and later, which store the position with the asset, a restart of the triggerer
  skips no event. The last event before the restart may arrive twice.

Does not guarantee, before Airflow 3.3, that a run that ends while no triggerer is active fires.

A DAG that is scheduled by this trigger and requests a run of the same pipeline schedules itself
forever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_forebay import client
from airflow_provider_forebay.client import (
    MAX_BACKOFF_SECONDS,
    MIN_BACKOFF_SECONDS,
    AsyncForebayClient,
    ForebayError,
    ForebayRefused,
    Request,
)
from airflow_provider_forebay.hooks.forebay import ForebayHook
from airflow_provider_forebay.outcome import summary

STATES = {"RunSucceeded": "succeeded", "RunFailed": "failed", "RunCancelled": "cancelled"}


class ForebayRunEventTrigger(BaseEventTrigger):
    """
    Fires for each run that ends, whether or not a DAG requested it.

    The payload is the dict that ForebayRunOperator returns, with `event_id`, `pipeline` and the
    run's `labels`.

    :param pipeline: the pipeline's name, for the payload. It is not checked: a Forebay process has
        one pipeline.
    :param states: which ends count: `succeeded`, `failed`, `cancelled`.
    :param forebay_conn_id: the connection.
    """

    def __init__(self, pipeline: str, states: Sequence[str] = ("succeeded",), forebay_conn_id: str = ForebayHook.default_conn_name) -> None:
        """Store the arguments."""
        super().__init__()
        unknown = sorted(set(states) - set(STATES.values()))
        if unknown or not states:
            raise ValueError(f"states are {list(states)}; they must be some of {sorted(STATES.values())}")
        self.pipeline = pipeline
        self.states = sorted(states)  # Airflow identifies a watcher by these arguments, so their order is fixed
        self.forebay_conn_id = forebay_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that re-create this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"pipeline": self.pipeline, "states": self.states, "forebay_conn_id": self.forebay_conn_id},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the journal forever."""
        hook = ForebayHook(self.forebay_conn_id)
        position = await self._load_position()
        delay = MIN_BACKOFF_SECONDS
        async with await hook.get_async_conn() as api:
            while True:
                try:
                    if position is None:
                        position = (await api.send(Request("GET", "/v1/snapshot"))).get("seq") or None
                        await self._store_position(position)
                    async for sequence, text in api.events(position):
                        delay = MIN_BACKOFF_SECONDS
                        if payload := await self._payload(api, sequence, json.loads(text)):
                            yield TriggerEvent(payload)
                            await self._store_position(sequence)
                        position = sequence
                except ForebayError as error:
                    self.log.warning("can't follow the events of %s; retrying in %.0f s: %s", self.pipeline, delay, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_BACKOFF_SECONDS)

    async def _payload(self, api: AsyncForebayClient, sequence: int, event: dict[str, Any]) -> dict[str, Any] | None:
        """Return the payload of a run that ended in one of the states; None for other events."""
        if STATES.get(event.get("type", "")) not in self.states:
            return None
        run_id = event["data"]["run"]
        try:
            run = await api.send(client.get_run(run_id))
        except ForebayRefused as error:
            if error.status != 404:
                raise
            return None  # a scheduled fetch, or a run that is no longer kept
        about = summary(run, api.endpoint.run_url(run_id))
        return {"event_id": sequence, "pipeline": self.pipeline, "labels": run.get("labels", {}), **about}

    @property
    def _position_key(self) -> str:
        return f"forebay/{self.forebay_conn_id}/{self.pipeline}"

    async def _load_position(self) -> int | None:
        """Return the last event that fired, if Airflow stores it."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        found = await store.aget(self._position_key)
        return int(found) if found is not None else None

    async def _store_position(self, sequence: int | None) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is not None and sequence is not None:
            await store.aset(self._position_key, sequence)
