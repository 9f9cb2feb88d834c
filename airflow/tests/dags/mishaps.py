"""
DAGs for failure tests: a task that waits in its worker, one without outage time, one with a short
lease.
"""

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
    """Fail, and be retried, as soon as Forebay is unavailable."""
    ForebayRunOperator(task_id="fetch", pipeline="users", outage=timedelta(0), eager=timedelta(0), **RETRIED)


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def leased() -> None:
    """Let the run's lease expire as soon as nobody requests its state."""
    ForebayRunOperator(task_id="fetch", pipeline="users", lease=timedelta(seconds=10), eager=timedelta(0))


in_worker()
impatient()
leased()
