"""
Waits for the end of a run in the triggerer.

Guarantees:

* The trigger only reads, so it can be stopped, moved and restarted at any time. It waits for a
  Forebay that restarts.
* The run is cancelled when a user kills the task, and only then: not when the triggerer stops or
  hands the trigger over.

Does not guarantee, before Airflow 3.3, that a kill is noticed if the triggerer dies at the same
moment. The run's lease then expires.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_forebay import client
from airflow_provider_forebay.client import LONG_POLL_SECONDS, AsyncForebayClient, ForebayError
from airflow_provider_forebay.compat import TRIGGERS_HAVE_ON_KILL
from airflow_provider_forebay.hooks.forebay import ForebayHook

POLL_INTERVAL_SECONDS = 0.5
MIN_DEFERRAL_SECONDS = 8.0
"""
The trigger does not fire sooner. The scheduler must first see that the task was deferred, or it
counts the task as failed (observed with Airflow 3.1.3), and the worker may take 5 seconds
(`[workers] min_heartbeat_interval`) to notice that the task's process has ended.
"""
CANCEL_TIMEOUT_SECONDS = 20.0
_BACKGROUND_TASKS: set[asyncio.Task[None]] = set()
"""Work that outlives its trigger; an event loop holds only weak references to tasks."""


class ForebayRunTrigger(BaseTrigger):
    """
    Fires once, when a run has ended or when waiting for it failed.

    The event is `{"status", "run_id", "deadline"}` with the status `ended` (and `run`), `timeout`,
    or `away` (both with `message` and `retryable`).

    :param run_id: the run.
    :param forebay_conn_id: the connection.
    :param deadline: when to give up, as a Unix time; None: never.
    :param outage_seconds: how long the API may be unavailable.
    :param cancel_on_kill: cancel the run when a user kills the task.
    """

    def __init__(
        self,
        run_id: str,
        forebay_conn_id: str = ForebayHook.default_conn_name,
        deadline: float | None = None,
        outage_seconds: float = 300.0,
        cancel_on_kill: bool = True,
    ) -> None:
        """Store the arguments."""
        super().__init__()
        self.run_id = run_id
        self.forebay_conn_id = forebay_conn_id
        self.deadline = deadline
        self.outage_seconds = outage_seconds
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that re-create this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "run_id": self.run_id,
                "forebay_conn_id": self.forebay_conn_id,
                "deadline": self.deadline,
                "outage_seconds": self.outage_seconds,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the run's end, then fire."""
        hook = ForebayHook(self.forebay_conn_id)
        earliest = time.monotonic() + MIN_DEFERRAL_SECONDS
        try:
            async with await hook.get_async_conn() as api:
                event = await self._follow(api)
            await asyncio.sleep(max(0.0, earliest - time.monotonic()))
        except asyncio.CancelledError:
            if self.cancel_on_kill and not TRIGGERS_HAVE_ON_KILL:
                await _run_shielded(self._cancel_if_killed(hook))
            raise
        yield TriggerEvent({"run_id": self.run_id, "deadline": self.deadline, **event})

    async def on_kill(self) -> None:
        """Cancel the run. Airflow 3.3 and later call this when a user kills the task."""
        if self.cancel_on_kill:
            await _run_shielded(self._cancel(ForebayHook(self.forebay_conn_id)))

    async def _follow(self, api: AsyncForebayClient) -> dict[str, Any]:
        """Wait for the end of the run, and return the event."""
        while True:
            left = self.deadline - time.time() if self.deadline else LONG_POLL_SECONDS
            if left <= 0:
                return {"status": "timeout", "message": f"run {self.run_id} has not ended in time and is cancelled", "retryable": True}
            retry_seconds = min(left, self.outage_seconds) if self.deadline else self.outage_seconds
            try:
                run = await api.send(client.get_run(self.run_id, min(left, LONG_POLL_SECONDS)), retry_seconds)
            except ForebayError as error:
                if error.unavailable and self.deadline and self.deadline <= time.time():
                    continue  # the deadline came first
                # A run that is unknown was lost with its journal: a retry starts a new one.
                lost = getattr(error, "kind", "") == "run.unknown"
                return {"status": "away", "message": str(error), "retryable": error.retryable or lost}
            if run["terminal"]:
                return {"status": "ended", "run": run}
            await asyncio.sleep(POLL_INTERVAL_SECONDS)

    async def _cancel_if_killed(self, hook: ForebayHook) -> None:
        """
        Cancel the run if the task no longer waits: before Airflow 3.3 only that reveals a kill.
        """
        try:
            state = await self._task_state()
        except Exception as error:  # noqa: BLE001 (anything may fail while the triggerer stops)
            self.log.warning("unknown why the trigger of run %s was cancelled; the lease decides: %s", self.run_id, error)
            return
        if state is not None and state != "deferred":
            self.log.info("the task is %s and no longer waits for run %s", state, self.run_id)
            await self._cancel(hook)

    async def _task_state(self) -> str | None:
        """
        Return the task's state; "none" if it no longer exists or has no state, as after a clear.
        """
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti = self.task_instance
        mapped = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=mapped
        )
        found = list(states.get(ti.run_id, {}).values())
        return str(found[0]) if found and found[0] else "none"

    async def _cancel(self, hook: ForebayHook) -> None:
        try:
            async with await hook.get_async_conn() as api:
                await api.send(client.cancel_run(self.run_id, "the Airflow task was killed"), CANCEL_TIMEOUT_SECONDS)
            self.log.info("cancelled run %s", self.run_id)
        except ForebayError as error:
            self.log.warning("could not cancel run %s; its lease will expire: %s", self.run_id, error)


async def _run_shielded(work: Coroutine[Any, Any, None]) -> None:
    """Finish the work even if the caller is cancelled again: the triggerer cancels every second."""
    task = asyncio.ensure_future(work)
    _BACKGROUND_TASKS.add(task)
    task.add_done_callback(_BACKGROUND_TASKS.discard)
    await asyncio.shield(task)
