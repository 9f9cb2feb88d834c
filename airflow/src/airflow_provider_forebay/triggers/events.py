"""
Ended runs as events that schedule DAGs.

    Asset("users", watchers=[AssetWatcher(name="forebay", trigger=ForebayRunEventTrigger(pipeline="users"))])

Guarantee: each event has the sequence of Forebay's journal as its `event_id`, and comes in that order. With Airflow 3.3 and later, which keep the
place reached with the asset, none is left out across restarts of the triggerer, and the last one before it may come twice.
Not guaranteed, before Airflow 3.3: runs that end while no triggerer looks are not told of. A DAG that is scheduled by this and asks the same
pipeline for a run schedules itself for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_forebay import client
from airflow_provider_forebay.client import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
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
    Fires for each run that ends, whoever asked for it.

    The payload is the dict that ForebayRunOperator returns, with `event_id`, `pipeline` and the run's `labels`.

    :param pipeline: the pipeline's name. It is checked nowhere, since a process of Forebay has one pipeline; it is part of the payload.
    :param states: which ends count: `succeeded`, `failed`, `cancelled`.
    :param forebay_conn_id: the connection.
    """

    def __init__(self, pipeline: str, states: Sequence[str] = ("succeeded",), forebay_conn_id: str = ForebayHook.default_conn_name) -> None:
        """Take what to look for."""
        super().__init__()
        unknown = sorted(set(states) - set(STATES.values()))
        if unknown or not states:
            raise ValueError(f"states are {list(states)}; they are some of {sorted(STATES.values())}")
        self.pipeline = pipeline
        self.states = sorted(states)  # Airflow knows a watcher by these arguments: one order
        self.forebay_conn_id = forebay_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what makes the same trigger elsewhere."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"pipeline": self.pipeline, "states": self.states, "forebay_conn_id": self.forebay_conn_id},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the journal for ever."""
        hook = ForebayHook(self.forebay_conn_id)
        place = await self._kept_place()
        pause = FIRST_PAUSE_SECONDS
        async with await hook.get_async_conn() as api:
            while True:
                try:
                    if place is None:
                        place = (await api.send(Request("GET", "/v1/snapshot"))).get("seq") or None
                        await self._keep_place(place)
                    async for sequence, text in api.events(place):
                        pause = FIRST_PAUSE_SECONDS
                        if payload := await self._payload(api, sequence, json.loads(text)):
                            yield TriggerEvent(payload)
                            await self._keep_place(sequence)
                        place = sequence
                except ForebayError as error:
                    self.log.warning("the events of %s can't be followed; another try in %.0f s: %s", self.pipeline, pause, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _payload(self, api: AsyncForebayClient, sequence: int, event: dict[str, Any]) -> dict[str, Any] | None:
        """Tell of a run that has ended so; None for all else."""
        if STATES.get(event.get("type", "")) not in self.states:
            return None
        run_id = event["data"]["run"]
        try:
            run = await api.send(client.get_run(run_id))
        except ForebayRefused as error:
            if error.status != 404:
                raise
            return None  # a fetch that nobody asked for, or a run forgotten since
        about = summary(run, api.endpoint.run_url(run_id))
        return {"event_id": sequence, "pipeline": self.pipeline, "labels": run.get("labels", {}), **about}

    @property
    def _place_key(self) -> str:
        return f"forebay/{self.forebay_conn_id}/{self.pipeline}"

    async def _kept_place(self) -> int | None:
        """Give the last event that was told of, where Airflow keeps such things."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        found = await store.aget(self._place_key)
        return int(found) if found is not None else None

    async def _keep_place(self, sequence: int | None) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is not None and sequence is not None:
            await store.aset(self._place_key, sequence)
