"""
A run of a Forebay pipeline by the stock HTTP provider, without this package.

The run's key says which task it is and the attempt which try, so a request that is repeated, by a retry or by a triggerer that was restarted,
starts nothing twice. What this package adds: the run is cancelled when the task is killed, failures say whether a retry makes sense, links, assets.

The connection `forebay_http` is of the type HTTP: host `http://forebay`, port 7070, extra `{"Authorization": "Bearer TOKEN"}`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import dag

# urlencode leaves / as it is, but the key is one part of the path.
KEY = "{{ (dag.dag_id ~ '/' ~ run_id ~ '/ask') | urlencode | replace('/', '%2F') }}"


def has_ended(response) -> bool:
    """Say whether the run has succeeded; fails when it has ended otherwise."""
    run = response.json()
    if run["terminal"] and run["state"] != "succeeded":
        raise RuntimeError(f"run {run['id']} {run['state']}: {run.get('error') or run.get('cancelled')}")
    return run["terminal"]


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["forebay", "example"])
def example_forebay_http() -> None:
    """Ask, then wait."""
    ask = HttpOperator(
        task_id="ask",
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
        endpoint="v1/runs/{{ ti.xcom_pull('ask') }}",
        request_params={"wait": "30s"},
        response_check=has_ended,
        poke_interval=1,
        timeout=3600,
    )
    ask >> wait


example_forebay_http()
