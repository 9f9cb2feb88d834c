"""The extra link from a task to its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.sdk import BaseOperator

RUN_URL = "run_url"
"""The XCom that holds the URL of the task's run."""


class ForebayRunLink(BaseOperatorLink):
    """Links to the run of a task in Forebay. Available as soon as the run is requested."""

    name = "Forebay run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task pushed; empty before that."""
        return XCom.get_value(key=RUN_URL, ti_key=ti_key) or ""
