"""
A run of a Forebay pipeline with the stock HTTP provider, without this package.

The run's key identifies the task and the attempt its try, so a repeated request, by a retry or a
restarted triggerer, starts nothing twice. This package adds: a killed task cancels its run,
failures say whether a retry is useful, links, assets.

The connection `forebay_http` has the type HTTP: host `http://forebay`, port 7070, extra
`{"Authorization": "Bearer TOKEN"}`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import dag

# urlencode keeps /, but the key is one segment of the path.
KEY = "{{ (dag.dag_id ~ '/' ~ run_id ~ '/request') | urlencode | replace('/', '%2F') }}"


def has_ended(response) -> bool:
    """Whether the run has succeeded; raises if it ended otherwise."""
    run = response.json()
    if run["terminal"] and run["state"] != "succeeded":
        raise RuntimeError(f"run {run['id']} {run['state']}: {run.get('error') or run.get('cancelled')}")
    return run["terminal"]


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["forebay", "example"])
def example_forebay_http() -> None:
    """Request a run, then wait for it."""
    request = HttpOperator(
        task_id="request",
        http_conn_id="forebay_http",
        method="PUT",
        endpoint=f"v1/pipelines/users/runs/{KEY}",
        headers={"Content-Type": "application/json"},
        data='{"attempt": {{ ti.try_number }}, "labels": {"dag_id": "{{ dag.dag_id }}"}}',
        response_filter=lambda response: response.json()["id"],
        retries=2,
        retry_delay=timedelta(seconds=10),
    )
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="forebay_http",
        endpoint="v1/runs/{{ ti.xcom_pull('request') }}",
        request_params={"wait": "30s"},
        response_check=has_ended,
        poke_interval=1,
        timeout=3600,
    )
    request >> wait


example_forebay_http()
