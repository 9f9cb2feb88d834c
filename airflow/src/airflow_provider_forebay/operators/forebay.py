"""
Runs of a Forebay pipeline as tasks.

Guarantees:

* A task is one run, however often it is retried, its worker dies or a response is lost: the run's
  key identifies the task, and its attempt the try.
* The task succeeds when all records of the run are readable in Cassandra or are dead letters.
* A killed task cancels its run. Where Airflow does not report the kill, the run's lease expires.

Does not guarantee that a record is fetched once. A cleared task reads again what its first try
read; the table still has one row per key.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset, BaseOperator

from airflow_provider_forebay import client
from airflow_provider_forebay.client import LONG_POLL_SECONDS, ForebayClient, ForebayError, Run
from airflow_provider_forebay.compat import AirflowException, AirflowFailException
from airflow_provider_forebay.hooks.forebay import ForebayHook
from airflow_provider_forebay.links import RUN_URL, ForebayRunLink
from airflow_provider_forebay.outcome import conclude, failure, summary, superseded
from airflow_provider_forebay.triggers.forebay import ForebayRunTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_KEY_BYTES = 512
MAX_LABEL_BYTES = 256
LEASE_SECONDS = range(10, 86_401)
READ_MODES = ("continue", "again")
CANCEL_TIMEOUT_SECONDS = 4.0
"""The limit for `on_kill`: Airflow kills the process 5 seconds after it asked it to stop."""
POLL_INTERVAL_SECONDS = 0.5
"""The pause between two long polls: each page changes the run."""


class ForebayRunOperator(BaseOperator):
    """
    Request a run of a Forebay pipeline, and wait until its records are readable in the table.

    The return value (XCom) is a dict: `run_id`, `run_url`, `key`, `attempt`, `reattached`, `state`,
    `stop` (why the run requested no further page, and whether it was cut short), `counts`,
    `offsets` (`{partition: [from, to]}`), `requested_at`, `ended_at`, `seconds`. `run_id` and
    `run_url` are also XComs of their own as soon as the run is requested. Each asset in `outlets`
    gets an event with the same dict as its extra.

    :param pipeline: the pipeline's name. (templated)
    :param fetch_params: values for the requests of this run, out of those that `[fetcher] params`
        names; numbers and booleans are sent as their text. (templated)
    :param window: read the data interval of the DAG run: its start and end become the window of the
        run, `{{ window.start }}` and `{{ window.end }}` in the pipeline file.
    :param window_start: the start of the window, instead of the data interval's: a datetime, or its
        text in ISO 8601 with a time zone; a date is its midnight in UTC. (templated)
    :param window_end: the end of the window, which is no part of it. (templated)
    :param read: for an API with cursors: `continue` continues at the cursor of the read (the source
        with these `fetch_params` and this window), `again` starts at its first page. None:
        continue, and a task that is cleared after success reads again from where its first try
        began. (templated)
    :param labels: labels of the run in addition to `dag_id`, `run_id`, `task_id` and `map_index`.
        They must be the same for each try. (templated)
    :param run_key: the run's key, if it should not be the task's: the same key is the same run,
        also for requests from outside Airflow. (templated)
    :param forebay_conn_id: the connection.
    :param deferrable: wait in the triggerer, not in a worker slot.
    :param eager: before that, wait this long in the worker. A run that ends sooner needs no
        triggerer, and avoids a defect of Airflow: if a trigger fires before the scheduler has seen
        that its task was deferred, the scheduler counts the task as failed.
    :param wait: wait until the run has ended. If False, the task succeeds when the run is accepted;
        wait for it with ForebayRunSensor.
    :param timeout: cancel the run and fail after this long. Default: `execution_timeout`, else
        never.
    :param outage: how long the control API may be unavailable, at first or later, before the task
        fails. A retry then joins the run.
    :param lease: Forebay cancels the run if nobody has requested its state for this long, 10 s to a
        day; None: never. It should exceed the time from a dead worker to the task's next try, or
        that try starts over.
    :param max_rejected: the maximum number of dead letters in the run, as a number or as a share of
        the fetched records such as `"5%"`. With more, the run and the task fail permanently. None:
        `[fetcher] max_rejected` of the pipeline, else fail if all are rejected. (templated)
    :param cancel_on_kill: cancel the run when the task is killed: marked as failed or as success,
        or cleared.
    :param accept_cut_short: treat a run that was cut short (for example by `max_pages`) as success.
        Otherwise the task fails, and its next try continues where the run ended.
    """

    template_fields: Sequence[str] = (
        "pipeline",
        "fetch_params",
        "window_start",
        "window_end",
        "read",
        "labels",
        "run_key",
        "max_rejected",
        "forebay_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"fetch_params": "json", "labels": "json"}
    operator_extra_links = (ForebayRunLink(),)
    ui_color = "#d5e8e4"

    def __init__(
        self,
        *,
        pipeline: str,
        fetch_params: Mapping[str, Any] | str | None = None,
        window: bool = False,
        window_start: datetime | str | None = None,
        window_end: datetime | str | None = None,
        read: str | None = None,
        labels: Mapping[str, Any] | None = None,
        run_key: str | None = None,
        forebay_conn_id: str = ForebayHook.default_conn_name,
        deferrable: bool = True,
        eager: timedelta = timedelta(seconds=5),
        wait: bool = True,
        timeout: timedelta | None = None,
        outage: timedelta = timedelta(minutes=5),
        lease: timedelta | None = timedelta(minutes=15),
        max_rejected: int | str | None = None,
        cancel_on_kill: bool = True,
        accept_cut_short: bool = False,
        **kwargs: Any,
    ) -> None:
        """Store the arguments; nothing is requested yet."""
        super().__init__(**kwargs)
        if lease is not None and int(lease.total_seconds()) not in LEASE_SECONDS:
            raise ValueError(f"lease is {lease}; it must be 10 seconds to a day, or None")
        if (window_start is None) != (window_end is None):
            raise ValueError("window_start and window_end belong together; for the data interval of the DAG run, set window=True")
        if window and window_start is not None:
            raise ValueError("window=True is the data interval of the DAG run; remove it, or window_start and window_end")
        self.pipeline = pipeline
        self.fetch_params = fetch_params
        self.window = window
        self.window_start = window_start
        self.window_end = window_end
        self.read = read
        self.labels = labels
        self.run_key = run_key
        self.forebay_conn_id = forebay_conn_id
        self.deferrable = deferrable
        self.eager = eager
        self.wait = wait
        self.timeout = timeout
        self.outage = outage
        self.lease = lease
        self.max_rejected = max_rejected
        self.cancel_on_kill = cancel_on_kill
        self.accept_cut_short = accept_cut_short
        self._hook: ForebayHook | None = None
        self._run_id: str | None = None
        self._killed = False

    @property
    def hook(self) -> ForebayHook:
        """The hook; it reads its connection once."""
        if self._hook is None:
            self._hook = ForebayHook(self.forebay_conn_id)
        return self._hook

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the run, and wait for its end here or in the triggerer."""
        limit = self.timeout or self.execution_timeout
        deadline = time.time() + limit.total_seconds() if limit else None
        run = self._request(context)
        if not self.wait:
            return summary(run, self.hook.endpoint.run_url(run["id"]), _attempt(context))
        return self._end(context, self._wait(run, deadline), deadline)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Resume with the trigger's event."""
        status, run_id = event["status"], event["run_id"]
        if status == "timeout":
            self._give_up(run_id)
        if status != "ended":
            raise (AirflowException if event.get("retryable", True) else AirflowFailException)(event["message"])
        return self._end(context, event["run"], event.get("deadline"))

    def on_kill(self) -> None:
        """
        Cancel the run.

        Runs in a signal handler, so it uses neither Airflow's channel to the supervisor nor a
        client that may be in use.
        """
        self._killed = True
        if not (self.cancel_on_kill and self._run_id and self._hook):
            return
        try:
            with ForebayClient(self._hook.endpoint) as api:
                api.send(
                    client.cancel_run(self._run_id, f"the Airflow task {self.dag_id}.{self.task_id} was killed"), CANCEL_TIMEOUT_SECONDS
                )
            self.log.info("cancelled run %s", self._run_id)
        except ForebayError as error:
            self.log.warning("could not cancel run %s; its lease will expire: %s", self._run_id, error)

    def _request(self, context: Context) -> Run:
        """Request the run of this task and try."""
        key, attempt = self.run_key or task_key(context), _attempt(context)
        request = client.start_run(
            self.pipeline,
            key,
            attempt,
            params=_strings("fetch_params", self.fetch_params),
            window=self._window(context),
            labels=task_labels(context) | _strings("labels", self.labels),
            lease_seconds=int(self.lease.total_seconds()) if self.lease and self.wait else None,
            read=_read(self.read),
            max_rejected=_max_rejected(self.max_rejected),
        )
        try:
            run = self.hook.send(request, self.outage.total_seconds())
        except ForebayError as error:
            raise failure(error) from error
        self._run_id = run["id"]
        url = self.hook.endpoint.run_url(run["id"])
        joined = f", started by try {run['attempt']}" if run["attempt"] < attempt else ""
        self.log.info("run %s of %s is %s%s: %s", run["id"], self.pipeline, run["state"], joined, url)
        context["ti"].xcom_push(key="run_id", value=run["id"])
        context["ti"].xcom_push(key=RUN_URL, value=url)
        return run

    def _window(self, context: Context) -> tuple[datetime, datetime] | None:
        """Return the window of the run: the data interval, or what the arguments say."""
        if not self.window:
            given = self.window_start, self.window_end
            return None if given == (None, None) else (_moment("window_start", given[0]), _moment("window_end", given[1]))
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        if start is None or end is None or start >= end:
            raise AirflowFailException(
                f"window=True needs a data interval, and that of this DAG run is {start} to {end}; "
                "schedule the DAG with a CronDataIntervalTimetable or a DeltaDataIntervalTimetable, or set window_start and window_end"
            )
        return start, end

    def _wait(self, run: Run, deadline: float | None) -> Run:
        """Wait for the run's end in this process, or briefly here and then in the triggerer."""
        run = self._follow(run, deadline, self.eager.total_seconds() if self.deferrable else None)
        if not run["terminal"]:
            trigger = ForebayRunTrigger(
                run_id=run["id"],
                forebay_conn_id=self.forebay_conn_id,
                deadline=deadline,
                outage_seconds=self.outage.total_seconds(),
                cancel_on_kill=self.cancel_on_kill,
            )
            # Airflow's own timeout would end the trigger without notice; the trigger has the
            # deadline instead.
            self.defer(trigger=trigger, method_name="execute_complete", timeout=None)
        return run

    def _follow(self, run: Run, deadline: float | None, seconds: float | None) -> Run:
        """Poll the run until it has ended, or for this many seconds."""
        until = time.monotonic() + seconds if seconds is not None else None
        with self.hook.get_conn() as api:
            while not run["terminal"]:
                left = deadline - time.time() if deadline else LONG_POLL_SECONDS
                if left <= 0:
                    self._give_up(run["id"])
                    raise AirflowException(f"run {run['id']} has not ended in time and was cancelled")
                wait = until - time.monotonic() if until is not None else LONG_POLL_SECONDS
                if wait <= 0:
                    break
                try:
                    run = api.send(client.get_run(run["id"], min(left, wait, LONG_POLL_SECONDS)), self.outage.total_seconds())
                except ForebayError as error:
                    raise failure(error) from error
                if not run["terminal"]:
                    time.sleep(POLL_INTERVAL_SECONDS)
        return run

    def _end(self, context: Context, run: Run, deadline: float | None) -> dict[str, Any]:
        """Turn the ended run into the task's result."""
        attempt = _attempt(context)
        if superseded(run, attempt) and not self._killed:
            self.log.info("run %s was cancelled with try %s of the task; this is try %s", run["id"], run["attempt"], attempt)
            run = self._wait(self._request(context), deadline)
        conclude(run, retry_cancelled=self._killed, accept_cut_short=self.accept_cut_short)
        result = summary(run, self.hook.endpoint.run_url(run["id"]), attempt)
        for outlet in self.outlets or ():
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = result
        return result

    def _give_up(self, run_id: str) -> None:
        """Cancel a run that has timed out."""
        if self.cancel_on_kill:
            try:
                self.hook.send(
                    client.cancel_run(run_id, f"the Airflow task {self.dag_id}.{self.task_id} timed out"), CANCEL_TIMEOUT_SECONDS
                )
            except ForebayError as error:
                self.log.warning("could not cancel run %s; its lease will expire: %s", run_id, error)


def task_key(context: Context) -> str:
    """
    Return the key of a task's run: `dag/run/task[/map index]`. A long key ends in a hash instead.
    """
    ti = context["ti"]
    key = "/".join([ti.dag_id, ti.run_id, ti.task_id, *_index(ti)])
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{_cut(key, MAX_KEY_BYTES - len(digest) - 1)}~{digest}"


def task_labels(context: Context) -> dict[str, str]:
    """Return the labels that identify the task; the same for each try."""
    ti = context["ti"]
    labels = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
    if index := _index(ti):
        labels["map_index"] = index[0]
    return {name: _cut(value, MAX_LABEL_BYTES) for name, value in labels.items()}


def _index(ti: Any) -> list[str]:
    """Return the index of a mapped task as a list; empty for another task."""
    return [str(ti.map_index)] if ti.map_index is not None and ti.map_index >= 0 else []


def _attempt(context: Context) -> int:
    return max(1, context["ti"].try_number)


def _read(mode: str | None) -> str | None:
    """Check the read mode; an empty template counts as None."""
    if not mode:
        return None
    if mode not in READ_MODES:
        raise AirflowFailException(f"read is {mode!r}; it must be one of {', '.join(READ_MODES)}, or None")
    return mode


def _moment(name: str, value: datetime | str | None) -> datetime:
    """Convert a templated moment: a datetime or its text, with a time zone; or a date, in UTC."""
    moment = value if isinstance(value, datetime) else _parsed((value or "").strip())
    if moment is None:
        raise AirflowFailException(f"{name} is {value!r}; it must be a date or a time in ISO 8601, such as 2026-01-01T00:00:00Z")
    if moment.tzinfo is None:
        raise AirflowFailException(f"{name} is {value!r}, without a time zone; add one, such as 2026-01-01T00:00:00Z")
    return moment


def _parsed(text: str) -> datetime | None:
    """Parse a date, which is its midnight in UTC, or a time."""
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    except ValueError:
        pass
    try:
        # Python 3.10 does not know the Z.
        return datetime.fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z"))
    except ValueError:
        return None


def _cut(text: str, size: int) -> str:
    """Truncate a text to this many bytes, at a character boundary."""
    return text.encode()[:size].decode(errors="ignore")


def _max_rejected(max_rejected: int | str | None) -> int | str | None:
    """Convert a templated limit: a number, or a share such as `5%`."""
    if isinstance(max_rejected, str) and max_rejected.isdecimal():
        return int(max_rejected)
    return None if max_rejected == "" else max_rejected


def _strings(name: str, values: Any) -> dict[str, str]:
    """Convert templated query parameters or labels to strings."""
    if not values:
        return {}
    if not isinstance(values, Mapping):
        raise AirflowFailException(
            f"{name} is {values!r}; it must be a dict (set render_template_as_native_obj=True for a template that renders one)"
        )
    return {str(key): _text(value) for key, value in values.items() if value is not None}


def _text(value: Any) -> str:
    """Convert a value to its text, as Forebay stores it: `true`, and `7` for `7.0`."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
