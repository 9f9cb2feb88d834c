"""Waits for a run that someone else has asked for."""

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
    Succeeds when a run has succeeded, and fails as ForebayRunOperator does when it ends otherwise. It never cancels the run.

    The return value (XCom) is the dict that ForebayRunOperator returns.

    :param run_id: the run, such as the XCom `run_id` of a ForebayRunOperator with `wait=False`. (templated)
    :param forebay_conn_id: the connection.
    :param deferrable: wait in the triggerer, not in a worker slot.
    :param accept_cut_short: take a run that was cut short for a success, as ForebayRunOperator does by the argument of that name.
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
        """Take what to wait for."""
        super().__init__(**kwargs)
        self.run_id = run_id
        self.forebay_conn_id = forebay_conn_id
        self.deferrable = deferrable
        self.accept_cut_short = accept_cut_short

    def execute(self, context: Context) -> Any:
        """Look once, then wait in the triggerer; or look again and again here."""
        if not self.deferrable:
            return super().execute(context)
        run = self._look()
        if run["terminal"]:
            return self._end(run)
        deadline = time.time() + self.timeout if self.timeout else None
        trigger = ForebayRunTrigger(run["id"], self.forebay_conn_id, deadline=deadline, cancel_on_kill=False)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on when the triggerer says how the waiting ended."""
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(f"run {event['run_id']} has not ended within {self.timeout:.0f} s; it goes on")
        if event["status"] != "ended":
            raise (AirflowException if event.get("retryable", True) else AirflowFailException)(event["message"])
        return self._end(event["run"])

    def poke(self, context: Context) -> PokeReturnValue:
        """Look whether the run has ended."""
        run = self._look()
        return PokeReturnValue(is_done=run["terminal"], xcom_value=self._end(run) if run["terminal"] else None)

    def _look(self) -> Run:
        try:
            return ForebayHook(self.forebay_conn_id).send(client.get_run(self.run_id), patience_seconds=30.0)
        except ForebayError as error:
            raise failure(error) from error

    def _end(self, run: Run) -> dict[str, Any]:
        conclude(run, accept_cut_short=self.accept_cut_short)
        return summary(run, ForebayHook(self.forebay_conn_id).endpoint.run_url(run["id"]))
