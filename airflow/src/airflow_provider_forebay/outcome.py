"""What the end of a run means for its task. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_provider_forebay.client import ForebayError, Run
from airflow_provider_forebay.compat import AirflowException, AirflowFailException

PERMANENT_STOPS = frozenset({"no_next", "same_cursor", "cursor_cycle", "same_page"})
"""Reasons of a cut-short run for which the next run would stop at the same point."""


def summary(run: Run, url: str, attempt: int | None = None) -> dict[str, Any]:
    """
    Summarise a run, as JSON for XCom and for asset events.

    `reattached`: the run is that of an earlier try of the task, which this try joined.
    """
    requested, ended = run.get("requested_at"), run.get("ended_at")
    seconds = (_time(ended) - _time(requested)).total_seconds() if requested and ended else None
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
        "requested_at": requested,
        "ended_at": ended,
        "seconds": seconds,
    }


def conclude(run: Run, *, retry_cancelled: bool = False, accept_cut_short: bool = False) -> None:
    """
    Raise the exception that an unsuccessful run means for its task.

    * AirflowFailException if a retry is useless: the run failed permanently, or a person cancelled
      it.
    * AirflowException, which Airflow may retry, otherwise: the failure is transient, the run's
      lease expired, or the run was cut short at a point where the next run continues.

    A run that was cut short succeeded with what it read, and the source has more. The task succeeds
    only if it accepts that.
    """
    state = run["state"]
    if state == "succeeded":
        stop = run.get("stop") or {}
        if stop.get("complete", True) or accept_cut_short:
            return
        message = f"run {run['id']} was cut short, {stop.get('reason', '?')}: {stop.get('detail') or 'the source has more'}"
        raise (AirflowFailException if stop.get("reason") in PERMANENT_STOPS else AirflowException)(message)
    if state == "failed":
        error = run.get("error") or {}
        message = f"run {run['id']} failed at {error.get('stage', '?')}: {error.get('message', 'no reason given')}"
        raise (AirflowException if error.get("retryable") else AirflowFailException)(message)
    if state == "cancelled":
        cancelled = run.get("cancelled") or {}
        by, reason = cancelled.get("by") or "somebody", cancelled.get("reason")
        message = f"run {run['id']} was cancelled by {by}{f': {reason}' if reason else ''}"
        raise (AirflowException if retry_cancelled or by == "lease" else AirflowFailException)(message)
    raise AirflowException(f"run {run['id']} ended as {state!r}, which this version of the provider does not know")


def superseded(run: Run, attempt: int) -> bool:
    """Whether the run of an earlier try was cancelled because of that try, as a clear does."""
    return run["state"] == "cancelled" and run.get("attempt", attempt) < attempt


def failure(error: ForebayError) -> AirflowException:
    """Convert a failed request into the task's exception."""
    return (AirflowException if error.retryable else AirflowFailException)(str(error))


def _time(text: str) -> datetime:
    """Parse a time of the API: Python before 3.11 supports neither `Z` nor nanoseconds."""
    whole, _, rest = text.replace("Z", "+00:00").partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(f"{whole}.{digits[:6]:0<6}{rest[len(digits) :]}" if digits else whole)
