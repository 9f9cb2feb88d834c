"""What the end of a run means for a task: pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_provider_forebay.client import ForebayError, Run
from airflow_provider_forebay.compat import AirflowException, AirflowFailException

SAME_AGAIN = frozenset({"no_next", "same_cursor", "cursor_cycle"})
"""Why a run was cut short where another one would be cut short at the same place."""


def summary(run: Run, url: str, attempt: int | None = None) -> dict[str, Any]:
    """
    Say what a run came to, as JSON for XCom and for asset events.

    `reattached` says that the run is that of an earlier try of the task, which this one joined.
    """
    asked, ended = run.get("requested_at"), run.get("ended_at")
    seconds = (_time(ended) - _time(asked)).total_seconds() if asked and ended else None
    return {
        "run_id": run["id"],
        "run_url": url,
        "key": run.get("key"),
        "attempt": run.get("attempt"),
        "reattached": attempt is not None and run.get("attempt", attempt) < attempt,
        "state": run["state"],
        "stop": run.get("stop"),
        "counts": run.get("counts", {}),
        "offsets": {partition: [range_["from"], range_["to"]] for partition, range_ in (run.get("ranges") or {}).items()},
        "requested_at": asked,
        "ended_at": ended,
        "seconds": seconds,
    }


def conclude(run: Run, *, retry_cancelled: bool = False, accept_cut_short: bool = False) -> None:
    """
    Raise what a run that has ended without success means for its task.

    AirflowFailException when a try again makes no sense: the run failed for good, or a person called it off. AirflowException, which Airflow may
    retry, when it does: the failure is a passing one, the run's lease ended while nobody looked, or the run was cut short where the next one goes
    on. A run that was cut short has succeeded with what it read, and the source has more: that is no success of a task that does not accept it.
    """
    state = run["state"]
    if state == "succeeded":
        stop = run.get("stop") or {}
        if stop.get("complete", True) or accept_cut_short:
            return
        said = f"run {run['id']} was cut short, {stop.get('reason', '?')}: {stop.get('detail') or 'the source has more'}"
        raise (AirflowFailException if stop.get("reason") in SAME_AGAIN else AirflowException)(said)
    if state == "failed":
        error = run.get("error") or {}
        said = f"run {run['id']} failed at {error.get('stage', '?')}: {error.get('message', 'no reason is given')}"
        raise (AirflowException if error.get("retryable") else AirflowFailException)(said)
    if state == "cancelled":
        cancelled = run.get("cancelled") or {}
        by, reason = cancelled.get("by") or "somebody", cancelled.get("reason")
        said = f"run {run['id']} was cancelled by {by}{f': {reason}' if reason else ''}"
        raise (AirflowException if retry_cancelled or by == "lease" else AirflowFailException)(said)
    raise AirflowException(f"run {run['id']} ended as {state!r}, which this version of the provider does not know; it is no success")


def superseded(run: Run, attempt: int) -> bool:
    """Say whether a run that an earlier try of the task began was called off for that try's sake, as a clear does, and not for this one's."""
    return run["state"] == "cancelled" and run.get("attempt", attempt) < attempt


def failure(error: ForebayError) -> AirflowException:
    """Make a task's exception of a request that failed."""
    return (AirflowException if error.retryable else AirflowFailException)(str(error))


def _time(text: str) -> datetime:
    """Read a time as the API writes it: Python before 3.11 knows neither `Z` nor nanoseconds."""
    whole, _, rest = text.replace("Z", "+00:00").partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(f"{whole}.{digits[:6]:0<6}{rest[len(digits) :]}" if digits else whole)
