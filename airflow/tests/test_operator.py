"""Tasks and their runs: retries, clears, kills, failures."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowException
from conftest import FakeForebay, Task, problem

from airflow_provider_forebay.compat import AirflowFailException, AirflowSensorTimeout
from airflow_provider_forebay.operators import forebay as module
from airflow_provider_forebay.operators.forebay import ForebayRunOperator, task_key, task_labels
from airflow_provider_forebay.sensors.forebay import ForebayRunSensor
from airflow_provider_forebay.triggers.forebay import ForebayRunTrigger

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred


def operator(**more: Any) -> ForebayRunOperator:
    return ForebayRunOperator(
        **{"task_id": "fetch", "pipeline": "users", "deferrable": False, "outage": timedelta(seconds=5), "eager": timedelta(0)} | more
    )


def ended(fake: FakeForebay, run: str) -> dict[str, Any]:
    return {"status": "ended", "run_id": run, "run": fake.runs[run], "deadline": None}


def test_a_successful_run_is_summarised(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1")
    task = Task()
    result = operator(fetch_params={"nat": "ch", "seed": 7, "share": 7.0, "lego": True, "page": None}, labels={"team": "data"}).execute(
        task.context()
    )
    assert result["state"] == "succeeded" and result["offsets"] == {"0": [3, 10]} and result["counts"]["produced"] == 7
    assert (result["run_id"], result["attempt"], result["reattached"], result["seconds"]) == ("run-1", 1, False, 1.623456)
    assert result["run_url"] == "http://shown/v1/runs/run-1"
    assert task.pushed == {"run_id": "run-1", "run_url": result["run_url"]}
    assert json.loads(json.dumps(result)) == result
    [body] = forebay.asked("PUT", "/runs/")
    labels = {"dag_id": "pipe", "run_id": task.run_id, "task_id": "fetch", "team": "data"}
    assert body == {
        "attempt": 1,
        "params": {"nat": "ch", "seed": "7", "share": "7", "lego": "true"},
        "labels": labels,
        "lease_seconds": 900,
    }


def test_the_read_mode_is_sent_only_if_it_is_set(forebay: FakeForebay) -> None:
    for attempt, read in enumerate(["again", "continue", None, ""], 1):
        forebay.end_soon(f"run-{attempt}")
        operator(read=read).execute(Task(try_number=attempt).context())
    assert [(body or {}).get("read") for body in forebay.asked("PUT", "/runs/")] == ["again", "continue", None, None]
    with pytest.raises(AirflowFailException, match="'twice'; it must be one of continue, again, or None"):
        operator(read="twice").execute(Task(try_number=5).context())


def test_a_key_identifies_the_task_and_not_the_try() -> None:
    assert task_key(Task().context()) == "pipe/manual__2026-01-01T00:00:00+00:00/fetch"
    assert task_key(Task(try_number=3, map_index=2).context()) == task_key(Task(map_index=2).context())
    assert task_key(Task(map_index=0).context()).endswith("/fetch/0")
    assert task_labels(Task(try_number=1).context()) == task_labels(Task(try_number=2).context())
    keys = {task_key(Task(run_id="é" * 250 + end).context()) for end in "ab"}
    assert len(keys) == 2 and all(len(key.encode()) <= 512 for key in keys)


def test_a_try_after_a_dead_worker_joins_the_open_run(forebay: FakeForebay) -> None:
    with pytest.raises(TaskDeferred):
        operator(deferrable=True).execute(Task().context())
    forebay.end_soon("run-1", asked=2)
    result = operator().execute(Task(try_number=2).context())
    assert (result["run_id"], result["attempt"], result["reattached"]) == ("run-1", 1, True)
    assert len(forebay.runs) == 1


def test_a_try_after_a_failure_and_a_cleared_task_are_new_runs(forebay: FakeForebay) -> None:
    for attempt in (1, 2):
        forebay.end_soon(f"run-{attempt}")
        result = operator().execute(Task(try_number=attempt).context())
        assert (result["run_id"], result["attempt"]) == (f"run-{attempt}", attempt)


def test_two_dag_runs_are_two_runs(forebay: FakeForebay) -> None:
    for n in (1, 2):
        forebay.end_soon(f"run-{n}")
        assert operator().execute(Task(run_id=f"manual__{n}").context())["run_id"] == f"run-{n}"


def test_a_permanent_failure_is_not_retried_and_has_its_reason(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1", "failed", error={"stage": "fetch", "message": "the API answered 404", "retryable": False})
    with pytest.raises(AirflowFailException, match="run run-1 failed at fetch: the API answered 404"):
        operator().execute(Task().context())


def test_a_transient_failure_may_be_retried(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1", "failed", error={"stage": "fetch", "message": "the API is unavailable", "retryable": True})
    with pytest.raises(AirflowException, match="the API is unavailable") as caught:
        operator().execute(Task().context())
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(("by", "retried"), [("operator", False), ("lease", True)])
def test_a_cancelled_run_is_retried_only_if_its_lease_expired(forebay: FakeForebay, by: str, retried: bool) -> None:
    forebay.end_soon("run-1", "cancelled", cancelled={"by": by, "reason": "since"})
    with pytest.raises(AirflowException, match=f"cancelled by {by}: since") as caught:
        operator().execute(Task().context())
    assert isinstance(caught.value, AirflowFailException) is not retried


def cut_short(reason: str) -> dict[str, Any]:
    return {"reason": reason, "complete": False, "cursor": "7", "detail": "2 pages were read"}


def test_a_cut_short_run_fails_the_task_and_the_next_try_is_a_new_run(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1", stop=cut_short("max_pages"))
    with pytest.raises(AirflowException, match="run run-1 was cut short, max_pages: 2 pages were read") as caught:
        operator().execute(Task().context())
    assert not isinstance(caught.value, AirflowFailException)
    forebay.end_soon("run-2", stop={"reason": "no_next", "complete": True})
    result = operator().execute(Task(try_number=2).context())
    assert (result["run_id"], result["attempt"], result["stop"]) == ("run-2", 2, {"reason": "no_next", "complete": True})


def test_a_cut_short_run_succeeds_if_the_task_accepts_it(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1", stop=cut_short("empty_page"))
    result = operator(accept_cut_short=True).execute(Task().context())
    assert result["stop"] == cut_short("empty_page")


@pytest.mark.parametrize("reason", ["cursor_cycle", "same_cursor", "no_next"])
def test_a_cut_short_run_that_a_retry_would_repeat_is_not_retried(forebay: FakeForebay, reason: str) -> None:
    forebay.end_soon("run-1", stop=cut_short(reason))
    with pytest.raises(AirflowFailException, match=reason):
        operator().execute(Task().context())


def test_the_sensor_handles_a_cut_short_run_as_the_operator_does(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1", stop=cut_short("max_pages"))
    run_id = operator(wait=False).execute(Task().context())["run_id"]
    with pytest.raises(AirflowException, match="was cut short"):
        ForebayRunSensor(task_id="wait", run_id=run_id, deferrable=False, poke_interval=0.1, timeout=10).execute(Task().context())
    sensor = ForebayRunSensor(task_id="wait", run_id=run_id, deferrable=False, poke_interval=0.1, timeout=10, accept_cut_short=True)
    assert sensor.execute(Task().context())["stop"]["reason"] == "max_pages"


def test_an_unknown_final_state_is_a_failure(forebay: FakeForebay) -> None:
    forebay.end_soon("run-1", "evaporated")
    with pytest.raises(AirflowException, match="evaporated"):
        operator().execute(Task().context())


@pytest.mark.parametrize("kind", ["run.payload_mismatch", "pipeline.unknown", "auth.token"])
def test_a_permanent_refusal_is_not_retried(forebay: FakeForebay, kind: str) -> None:
    forebay.refusals = [problem(422, kind, "no")]
    with pytest.raises(AirflowFailException, match=kind):
        operator().execute(Task().context())


def test_a_transient_refusal_may_be_retried(forebay: FakeForebay) -> None:
    forebay.refusals = [problem(409, "pipeline.paused", "it is paused", "resume it", retryable=True)]
    with pytest.raises(AirflowException, match="resume it") as caught:
        operator().execute(Task().context())
    assert not isinstance(caught.value, AirflowFailException)


def test_the_task_waits_for_an_api_that_is_down_at_first(forebay: FakeForebay) -> None:
    forebay.refusals = [(503, ""), (503, "")]
    forebay.end_soon("run-1")
    assert operator().execute(Task().context())["state"] == "succeeded"


def test_a_deferred_task_resumes_with_the_event_of_its_trigger(forebay: FakeForebay) -> None:
    outlet = Asset("cassandra://db:9042/forebay/users")
    task, op = Task(), operator(deferrable=True, outlets=[outlet])
    with pytest.raises(TaskDeferred) as deferred:
        op.execute(task.context())
    trigger = deferred.value.trigger
    assert isinstance(trigger, ForebayRunTrigger) and deferred.value.method_name == "execute_complete" and deferred.value.timeout is None
    assert task.pushed["run_id"] == trigger.run_id == "run-1"
    forebay.end("run-1")
    context = task.context()
    result = operator(deferrable=True, outlets=[outlet]).execute_complete(context, ended(forebay, "run-1"))
    assert result["state"] == "succeeded" and context["outlet_events"][outlet].extra == result


def test_a_short_run_needs_no_trigger(forebay: FakeForebay) -> None:
    threading.Timer(0.5, forebay.end, ["run-1"]).start()
    assert operator(deferrable=True, eager=timedelta(seconds=20)).execute(Task().context())["state"] == "succeeded"
    with pytest.raises(TaskDeferred):
        operator(deferrable=True, eager=timedelta(seconds=0.3)).execute(Task(run_id="slow").context())


def test_a_run_that_has_already_ended_needs_no_trigger(forebay: FakeForebay) -> None:
    with pytest.raises(TaskDeferred):
        operator(deferrable=True).execute(Task().context())
    forebay.end("run-1")
    assert operator(deferrable=True).execute(Task().context())["run_id"] == "run-1"


def test_a_try_whose_joined_run_is_cancelled_requests_another(forebay: FakeForebay) -> None:
    # Cleared during the run: the new try has joined the run when the kill of the old try arrives.
    for attempt in (1, 2):
        with pytest.raises(TaskDeferred):
            operator(deferrable=True).execute(Task(try_number=attempt).context())
    forebay.end("run-1", "cancelled", cancelled={"by": "operator"})
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute_complete(Task(try_number=2).context(), ended(forebay, "run-1"))
    assert deferred.value.trigger.run_id == "run-2"
    forebay.end("run-2", "cancelled", cancelled={"by": "operator"})
    with pytest.raises(AirflowFailException):
        operator(deferrable=True).execute_complete(Task(try_number=2).context(), ended(forebay, "run-2"))


@pytest.mark.parametrize("retryable", [True, False])
def test_a_trigger_that_gives_up_fails_the_task(forebay: FakeForebay, retryable: bool) -> None:
    event = {"status": "away", "run_id": "run-1", "message": "no response", "retryable": retryable}
    with pytest.raises(AirflowException, match="no response") as caught:
        operator().execute_complete(Task().context(), event)
    assert isinstance(caught.value, AirflowFailException) is not retryable


def test_a_run_that_times_out_is_cancelled_with_and_without_a_trigger(forebay: FakeForebay) -> None:
    with pytest.raises(AirflowException, match="not ended in time"):
        operator(timeout=timedelta(seconds=0.3)).execute(Task().context())
    assert forebay.runs["run-1"]["state"] == "cancelled"
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True, execution_timeout=timedelta(seconds=60)).execute(Task(run_id="other").context())
    assert 50 < deferred.value.trigger.deadline - time.time() < 61
    event = {"status": "timeout", "run_id": "run-2", "message": "too long", "retryable": True}
    with pytest.raises(AirflowException, match="too long"):
        operator(deferrable=True).execute_complete(Task(run_id="other").context(), event)
    assert forebay.runs["run-2"]["state"] == "cancelled"


def test_a_killed_task_cancels_its_run_and_may_be_retried(forebay: FakeForebay) -> None:
    op = operator()
    threading.Timer(0.3, op.on_kill).start()
    with pytest.raises(AirflowException, match="was killed") as caught:
        op.execute(Task().context())
    # A worker that shuts down also kills its tasks, and those are retried.
    assert not isinstance(caught.value, AirflowFailException)
    assert forebay.runs["run-1"]["state"] == "cancelled"
    assert forebay.asked("POST", "/cancel") == [{"reason": f"the Airflow task {op.dag_id}.fetch was killed"}]


def test_a_kill_without_a_run_or_without_the_api_is_harmless(forebay: FakeForebay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_TIMEOUT_SECONDS", 0.1)
    op = operator(wait=False)
    op.on_kill()
    assert op.execute(Task().context())["state"] == "running"
    forebay.server.shutdown()
    forebay.server.server_close()
    op.on_kill()


def test_a_task_that_does_not_wait_has_no_lease(forebay: FakeForebay) -> None:
    assert operator(wait=False).execute(Task().context())["state"] == "running"
    assert "lease_seconds" not in forebay.asked("PUT", "/runs/")[0]


def test_max_rejected_is_sent_as_a_number_or_a_share(forebay: FakeForebay) -> None:
    cases = [("5%", "5%"), (10, 10), ("10", 10), (0, 0), (None, None), ("", None)]
    for given, _ in cases:
        operator(wait=False, max_rejected=given).execute(Task().context())
    assert [body.get("max_rejected") for body in forebay.asked("PUT", "/runs/")] == [expected for _, expected in cases]


def test_the_data_interval_is_the_window_of_the_run(forebay: FakeForebay) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    interval = {"data_interval_start": start, "data_interval_end": start + timedelta(days=1)}
    operator(wait=False, window=True).execute(Task().context(**interval))
    operator(wait=False).execute(Task(run_id="none").context(**interval))
    windows = [(body or {}).get("window") for body in forebay.asked("PUT", "/runs/")]
    assert windows == [{"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-02T00:00:00+00:00"}, None]
    for none in ({}, {"data_interval_start": start, "data_interval_end": start}, interval | {"data_interval_end": None}):
        with pytest.raises(AirflowFailException, match="needs a data interval.*CronDataIntervalTimetable"):
            operator(window=True).execute(Task(run_id="other").context(**none))


def test_a_window_is_a_datetime_or_its_text_with_a_time_zone(forebay: FakeForebay) -> None:
    assert {"window_start", "window_end"} <= set(ForebayRunOperator.template_fields)
    cases = [
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        ("2026-01-01", "2026-01-01T00:00:00+00:00"),
        (" 2026-01-01T06:00:00Z ", "2026-01-01T06:00:00+00:00"),
        ("2026-01-01 00:00:00+01:00", "2026-01-01T00:00:00+01:00"),
    ]
    for given, _ in cases:
        operator(wait=False, window_start=given, window_end="2026-01-02").execute(Task().context())
    sent = [(body or {})["window"] for body in forebay.asked("PUT", "/runs/")]
    assert sent == [{"start": expected, "end": "2026-01-02T00:00:00+00:00"} for _, expected in cases]
    for wrong, says in [
        ("2026-01-01T00:00:00", "without a time zone"),
        ("yesterday", "ISO 8601"),
        ("", "ISO 8601"),
        (datetime(2026, 1, 1), "time zone"),
    ]:
        with pytest.raises(AirflowFailException, match=f"window_start.*{says}"):
            operator(window_start=wrong, window_end="2026-01-02").execute(Task().context())


def test_bad_arguments_are_refused(forebay: FakeForebay) -> None:
    with pytest.raises(ValueError, match="10 seconds to a day"):
        operator(lease=timedelta(seconds=9))
    with pytest.raises(ValueError, match="belong together"):
        operator(window_start="2026-01-01")
    with pytest.raises(ValueError, match="remove it"):
        operator(window=True, window_start="2026-01-01", window_end="2026-01-02")
    with pytest.raises(AirflowFailException, match="fetch_params.*render_template_as_native_obj"):
        operator(fetch_params="{'nat': 'ch'}").execute(Task().context())


def test_a_sensor_waits_for_a_run_and_never_cancels_it(forebay: FakeForebay) -> None:
    operator(wait=False).execute(Task().context())
    here = ForebayRunSensor(task_id="wait", run_id="run-1", deferrable=False, poke_interval=0.1, timeout=30)
    deferred = ForebayRunSensor(task_id="wait", run_id="run-1", timeout=60)
    with pytest.raises(TaskDeferred) as caught:
        deferred.execute(Task().context())
    assert caught.value.trigger.cancel_on_kill is False and caught.value.trigger.deadline > time.time()
    with pytest.raises(AirflowSensorTimeout, match="it continues"):
        deferred.execute_complete(Task().context(), {"status": "timeout", "run_id": "run-1"})
    assert not here.poke(Task().context()).is_done
    forebay.end("run-1")
    assert here.poke(Task().context()).xcom_value["state"] == "succeeded"
    assert deferred.execute(Task().context())["state"] == "succeeded"
    forebay.runs["run-1"] |= {"state": "failed", "error": {"stage": "fetch", "message": "no", "retryable": False}}
    with pytest.raises(AirflowFailException, match="failed at fetch: no"):
        deferred.execute_complete(Task().context(), ended(forebay, "run-1"))
    assert not forebay.asked("POST", "/cancel")
