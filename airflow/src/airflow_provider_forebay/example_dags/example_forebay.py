"""Runs of a Forebay pipeline: in one task, in two tasks, and one per item of a list."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import dag

from airflow_provider_forebay.assets.cassandra import create_asset
from airflow_provider_forebay.operators.forebay import ForebayRunOperator
from airflow_provider_forebay.sensors.forebay import ForebayRunSensor

USERS = create_asset(host="cassandra", keyspace="forebay", table="users_stream")


@dag(schedule="@hourly", start_date=datetime(2026, 1, 1), catchup=False, tags=["forebay", "example"])
def example_forebay() -> None:
    """Fetch users in three ways."""
    # Succeeds when the records are readable in the table; DAGs scheduled by the asset then start.
    ForebayRunOperator(task_id="fetch", pipeline="users", outlets=[USERS], retries=2, execution_timeout=timedelta(minutes=30))

    # Requests a run in one task and waits in another, with other work in between.
    requested = ForebayRunOperator(task_id="request", pipeline="users", wait=False)
    ForebayRunSensor(task_id="wait", run_id="{{ ti.xcom_pull('request', key='run_id') }}").set_upstream(requested)

    # One run per country, two at once; the pipeline file has `[fetcher] params = ["nat"]`.
    nations = ForebayRunOperator.partial(task_id="fetch_nation", pipeline="users", max_active_tis_per_dag=2)
    nations.expand(fetch_params=[{"nat": nat} for nat in ("ch", "es", "gb")])


example_forebay()
