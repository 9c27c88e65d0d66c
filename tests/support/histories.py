"""Workflow histories: recorded for the replay tests, and counted in Temporal Cloud's Actions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

HISTORIES = Path(__file__).parents[1] / "histories"

Keep = Callable[[str, WorkflowHistory], None]
"""Saves a history under a name, if the option ``--keep-histories`` is given."""
Actions = Callable[[Sequence[HistoryEvent]], int]
"""Counts the Actions that Temporal Cloud bills for these events."""


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """With ``--keep-histories``, save the history if there is no file with its name.

    ``test_replay.py`` replays it from then on.
    """

    def keep_history(name: str, history: WorkflowHistory) -> None:
        path = HISTORIES / f"{name}.json"
        if request.config.getoption("--keep-histories") and not path.exists():
            path.write_text(history.to_json() + "\n")

    return keep_history


def count_actions(events: Sequence[HistoryEvent]) -> int:
    """Count what Temporal Cloud bills for these events, as its pricing page counts Actions."""
    billed = {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
    }
    # All local activities of one workflow task are one Action.
    tasks_with_local_activities = {
        event.marker_recorded_event_attributes.workflow_task_completed_event_id
        for event in events
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
    }
    retries: int = sum(
        event.activity_task_started_event_attributes.attempt - 1
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    )
    in_history = sum(event.event_type in billed for event in events)
    return in_history + len(tasks_with_local_activities) + retries


@pytest.fixture
def actions() -> Actions:
    return count_actions
