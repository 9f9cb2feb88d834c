"""What moved between Airflow 3.0 and now, from where it is in the Airflow that is installed. The rest of the package imports it from here."""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger

try:  # 3.2 and later
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout
except ImportError:
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout

try:  # 3.1 and later
    from airflow.sdk import BaseHook
except ImportError:
    from airflow.hooks.base import BaseHook

TRIGGERS_HAVE_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Since Airflow 3.3 a trigger is told when a user kills its task. Before, all it sees is that it is cancelled."""

__all__ = ["TRIGGERS_HAVE_ON_KILL", "AirflowException", "AirflowFailException", "AirflowSensorTimeout", "BaseHook"]
