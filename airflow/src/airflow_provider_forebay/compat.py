"""Names that moved between Airflow versions. The rest of the package imports them from here."""

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
"""
Airflow 3.3 and later notify a trigger when a user kills its task. Before, it is only cancelled.
"""

__all__ = ["TRIGGERS_HAVE_ON_KILL", "AirflowException", "AirflowFailException", "AirflowSensorTimeout", "BaseHook"]
