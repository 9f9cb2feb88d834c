"""Waits for a run that something else requested."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_forebay import client
from airflow_provider_forebay.client import ForebayError, Run
from airflow_provider_forebay.compat import AirflowException, AirflowFailException, AirflowSensorTimeout
from airflow_provider_forebay.hooks.forebay import ForebayHook
from airflow_provider_forebay.outcome import conclude, failure, summary
from airflow_provider_forebay.triggers.forebay import ForebayRunTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class ForebayRunSensor(BaseSensorOperator):
    """
    Succeeds when a run has succeeded, and otherwise fails as ForebayRunOperator does.

    It never cancels the run.

    The return value (XCom) is the dict that ForebayRunOperator returns.

    :param run_id: the run, for example the XCom `run_id` of a ForebayRunOperator with `wait=False`.
        (templated)
    :param forebay_conn_id: the connection.
    :param deferrable: wait in the triggerer, not in a worker slot.
    :param accept_cut_short: treat a run that was cut short as success, as ForebayRunOperator does.
    """

    template_fields: Sequence[str] = ("run_id", "forebay_conn_id")
    ui_color = "#d5e8e4"

    def __init__(
        self,
        *,
        run_id: str,
        forebay_conn_id: str = ForebayHook.default_conn_name,
        deferrable: bool = True,
        accept_cut_short: bool = False,
        **kwargs: Any,
    ) -> None:
        """Store the arguments."""
        super().__init__(**kwargs)
        self.run_id = run_id
        self.forebay_conn_id = forebay_conn_id
        self.deferrable = deferrable
        self.accept_cut_short = accept_cut_short

    def execute(self, context: Context) -> Any:
        """Check once, then wait in the triggerer; or poll in the worker."""
        if not self.deferrable:
            return super().execute(context)
        run = self._get_run()
        if run["terminal"]:
            return self._end(run)
        deadline = time.time() + self.timeout if self.timeout else None
        trigger = ForebayRunTrigger(run["id"], self.forebay_conn_id, deadline=deadline, cancel_on_kill=False)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Resume with the trigger's event."""
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(f"run {event['run_id']} has not ended within {self.timeout:.0f} s; it continues")
        if event["status"] != "ended":
            raise (AirflowException if event.get("retryable", True) else AirflowFailException)(event["message"])
        return self._end(event["run"])

    def poke(self, context: Context) -> PokeReturnValue:
        """Check whether the run has ended."""
        run = self._get_run()
        return PokeReturnValue(is_done=run["terminal"], xcom_value=self._end(run) if run["terminal"] else None)

    def _get_run(self) -> Run:
        try:
            return ForebayHook(self.forebay_conn_id).send(client.get_run(self.run_id), retry_seconds=30.0)
        except ForebayError as error:
            raise failure(error) from error

    def _end(self, run: Run) -> dict[str, Any]:
        conclude(run, accept_cut_short=self.accept_cut_short)
        return summary(run, ForebayHook(self.forebay_conn_id).endpoint.run_url(run["id"]))
