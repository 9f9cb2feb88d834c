"""DAGs for what `real_time_pipeline` does not do: a task that waits in its worker, one with little patience, and one with a short lease."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from airflow_provider_forebay.operators.forebay import ForebayRunOperator

RETRIED = {"retries": 9, "retry_delay": timedelta(seconds=1)}


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def in_worker() -> None:
    """Wait without a triggerer."""
    ForebayRunOperator(task_id="fetch", pipeline="users", deferrable=False, **RETRIED)


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def impatient() -> None:
    """Fail, and be retried, as soon as Forebay is away."""
    ForebayRunOperator(task_id="fetch", pipeline="users", outage=timedelta(0), eager=timedelta(0), **RETRIED)


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def leased() -> None:
    """Leave the run to its lease as soon as nobody asks for it."""
    ForebayRunOperator(task_id="fetch", pipeline="users", lease=timedelta(seconds=10), eager=timedelta(0))


in_worker()
impatient()
leased()
