"""The extra link of a task to its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.sdk import BaseOperator

RUN_URL = "run_url"
"""The XCom that holds the address of the task's run."""


class ForebayRunLink(BaseOperatorLink):
    """Shows the run of a task, as Forebay knows it. There as soon as the run is asked for."""

    name = "Forebay run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give the address that the task has pushed; empty before."""
        return XCom.get_value(key=RUN_URL, ti_key=ti_key) or ""
