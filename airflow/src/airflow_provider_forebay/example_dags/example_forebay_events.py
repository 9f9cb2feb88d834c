"""A DAG that starts when runs of a Forebay pipeline succeed, requested by Airflow or not."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_forebay.triggers.events import ForebayRunEventTrigger

RUNS = Asset("forebay_users_runs", watchers=[AssetWatcher(name="forebay", trigger=ForebayRunEventTrigger(pipeline="users"))])


@dag(schedule=[RUNS], start_date=datetime(2026, 1, 1), catchup=False, tags=["forebay", "example"])
def example_forebay_events() -> None:
    """Print the runs."""

    @task
    def show(triggering_asset_events: dict | None = None) -> list[dict]:
        """Return the runs that this DAG run is for: several, if they ended close together."""
        events = [event.extra["payload"] for event in (triggering_asset_events or {})[RUNS]]
        for event in events:
            print(f"run {event['run_id']} of {event['pipeline']}: {event['counts']['produced']} records, event {event['event_id']}")
        return events

    show()


example_forebay_events()
