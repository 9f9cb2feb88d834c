"""
### API → Kafka → SQL → Cassandra, with Forebay

1. **fetch** requests a run of the pipeline from Forebay, which fetches from the API into the topic
   and writes through the SQL into the table. The task succeeds when all of that is readable in
   Cassandra.
2. **check_rows** takes a sample of the run's records from the topic and looks each up in the table
   by its key.
3. **report** reports the result, in the log and as XCom.

Connections: `forebay_default` (type Forebay) and `cassandra_default` (host, port, login, password).
The environment variable `FOREBAY_TABLE` names the table as `cassandra://host:port/keyspace/table`;
it is also the asset that this DAG updates.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import Asset, Param, dag, task

from airflow_provider_forebay.client import ForebayClient, get_dead_letters, get_records
from airflow_provider_forebay.compat import AirflowException, BaseHook
from airflow_provider_forebay.hooks.forebay import ForebayHook
from airflow_provider_forebay.operators.forebay import ForebayRunOperator

log = logging.getLogger(__name__)

TABLE = Asset(os.environ.get("FOREBAY_TABLE", "cassandra://cassandra:9042/forebay/users_stream"))
KEY, TIMESTAMP_COLUMN = "id", "email"
"""The table's primary key, which is also the records' key, and a column with the write time."""
MAX_DEAD_LETTERS = 1000
RETRY_SECONDS = 60.0
"""How long Forebay may be unavailable or busy when records are read from it."""


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    render_template_as_native_obj=True,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["forebay"],
    doc_md=__doc__,
    params={
        "pipeline": Param("users", type="string", minLength=1, description="The pipeline's name in its file."),
        "fetch_params": Param(
            {},
            type="object",
            description='Query parameters of the API for this fetch, such as {"nat": "ch"}, out of those that `[fetcher] params` names.',
        ),
        "sample": Param(20, type="integer", minimum=1, maximum=1000, description="How many records to look up in the table."),
        "count_table": Param(
            True, type="boolean", description="Count the whole table. Turn it off for a table with many millions of rows."
        ),
    },
)
def real_time_pipeline() -> None:
    """Fetch, check, report."""
    fetch = ForebayRunOperator(
        task_id="fetch",
        pipeline="{{ params.pipeline }}",
        fetch_params="{{ params.fetch_params }}",
        outlets=[TABLE],
        execution_timeout=timedelta(hours=1),
    )

    @task(execution_timeout=timedelta(minutes=10))
    def check_rows(run: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Look up a sample of the run's records; fails if one is neither in the table nor a dead
        letter.
        """
        with ForebayHook().get_conn() as api:
            records = sample_records(api, run, params["sample"])
            letters = api.send(get_dead_letters(MAX_DEAD_LETTERS), RETRY_SECONDS)["letters"]
        dead = {tuple(letter["origin"]): letter["reason"] for letter in letters if letter.get("origin")}
        keyspace, table = urlsplit(TABLE.uri).path.strip("/").split("/")
        with cassandra() as session:
            lookup = session.prepare(
                f'SELECT "{KEY}", "{TIMESTAMP_COLUMN}", WRITETIME("{TIMESTAMP_COLUMN}") AS written FROM "{keyspace}"."{table}" WHERE "{KEY}" = ?'
            )
            found, rejected = [], []
            for record in records:
                at = f"{record['partition']}:{record['offset']}"
                row = session.execute(lookup, [uuid.UUID(record["key"])]).one()
                # The row is of this record or a newer one: a write has its record's time, or a
                # later one.
                if row is not None and (row.written is None or row.written >= record["timestamp_ms"] * 1000):
                    found.append(str(getattr(row, KEY)))
                elif reason := dead.get((record["partition"], record["offset"])):
                    rejected.append({"at": at, "reason": reason})
                else:
                    raise AirflowException(f"record {at} of run {run['run_id']}, key {record['key']}, is not in {keyspace}.{table}")
            rows = session.execute(f'SELECT count(*) FROM "{keyspace}"."{table}"', timeout=300).one()[0] if params["count_table"] else None
        if not found and not rejected and run["counts"]["produced"]:
            raise AirflowException(f"run {run['run_id']} produced {run['counts']['produced']} records, but none is in the topic")
        return {"found": found, "rejected": rejected, "rows_in_table": rows}

    @task
    def report(run: dict[str, Any], checked: dict[str, Any]) -> dict[str, Any]:
        """Report the result."""
        counts, looked_up = run["counts"], len(checked["found"]) + len(checked["rejected"])
        log.info(
            "run %s: %s records from the API, %s into the topic, %s rejected",
            run["run_id"],
            *(counts[k] for k in ("fetched", "produced", "rejected")),
        )
        log.info("offsets per partition: %s", run["offsets"])
        log.info("request to readable: %.3f s", run["seconds"])
        log.info(
            "%s of %s sampled records are in the table, the others are dead letters: %s",
            len(checked["found"]),
            looked_up,
            checked["rejected"],
        )
        log.info("rows in the table: %s; some of this run: %s", checked["rows_in_table"], checked["found"][:5])
        return {
            **run,
            "sample": checked["found"][:5],
            "looked_up": looked_up,
            "rejected": checked["rejected"],
            "rows_in_table": checked["rows_in_table"],
        }

    run = fetch.output
    report(run, check_rows(run))


def sample_records(api: ForebayClient, run: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """
    Read up to `size` of a run's records, evenly spaced over its offsets, without those of other
    runs.
    """
    ranges = [(int(partition), start, end) for partition, (start, end) in sorted(run["offsets"].items())]
    total = sum(end - start for _, start, end in ranges)
    positions = {n * total // size for n in range(min(size, total))}
    records = []
    for partition, start, end in ranges:
        for position in sorted(position for position in positions if position < end - start):
            page = api.send(get_records(partition, start + position, 1), RETRY_SECONDS)["records"]
            records += [record for record in page if record["headers"].get("forebay-run") == run["run_id"] and record["offset"] < end]
        positions = {position - (end - start) for position in positions if position >= end - start}
    return records


@contextmanager
def cassandra() -> Iterator[Any]:
    """Connect to Cassandra for the duration of the block."""
    from cassandra.auth import PlainTextAuthProvider  # slow to import, so not when the DAG is parsed
    from cassandra.cluster import Cluster

    connection = BaseHook.get_connection("cassandra_default")
    login = PlainTextAuthProvider(connection.login, connection.password) if connection.login else None
    cluster = Cluster([connection.host], port=connection.port or 9042, auth_provider=login, connect_timeout=30)
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


real_time_pipeline()
