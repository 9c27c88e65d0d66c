"""The alert rules and the dashboard, checked with Prometheus' own tool.

That each metric exists is tested in ``tests/e2e/test_observability.py``.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documents import anchors_of
from tests.support.promtool import run_promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "smart-accounts.json"

QUEUE = 'task_queue="smart-account-requests"'
POLLERS = f'temporal_num_pollers{{{QUEUE}, instance="w1", poller_type="workflow_task"}}'
SWEPT = f'temporal_workflow_completed_total{{{QUEUE}, workflow_type="SmartAccountSweepWorkflow"}}'
SENT = 'smart_accounts_emails_total{kind="activation", outcome="sent"}'
WEBHOOKS_FAILED = 'smart_accounts_webhooks_total{outcome="failed"}'
EMAIL_TIME = "smart_accounts_time_to_activation_email_seconds"
ACTIVE_TIME = "smart_accounts_time_to_active_seconds"
HEALTHY = {
    f"temporal_worker_start_total{{{QUEUE}}}": "1+0x400",
    "smart_accounts_unreadable_bounces_total": "0+0x400",
    POLLERS: "5+0x400",
    f'temporal_num_pollers{{{QUEUE}, instance="w2", poller_type="workflow_task"}}': "5+0x400",
    'smart_accounts_reachable{dependency="temporal", instance="w1"}': "1+0x400",
    'smart_accounts_reachable{dependency="temporal", instance="w2"}': "1+0x400",
    SWEPT: "0+1x400",
    SENT: "0+1x400",
    'smart_accounts_emails_total{kind="activation", outcome="unreachable"}': "0+0x400",
    "smart_accounts_emails_refused_because_of_sender_total": "0+0x400",
    "smart_accounts_returned_emails_total": "0+0x400",
    'smart_accounts_dropped_signals_total{signal="accepted"}': "0+0x400",
    "smart_accounts_oldest_review_age_seconds": "86400+0x400",
    "smart_accounts_webhook_endpoints_overdue": "0+0x400",
    'smart_accounts_webhooks_total{outcome="delivered"}': "0+1x400",
    WEBHOOKS_FAILED: "0+1x400",
    f'{EMAIL_TIME}_bucket{{le="60"}}': "0+199x400",
    f"{EMAIL_TIME}_count": "0+200x400",
    f'{ACTIVE_TIME}_bucket{{le="10"}}': "0+199x400",
    f"{ACTIVE_TIME}_count": "0+200x400",
}
"""What Prometheus has each minute while all is well: start value, then the step."""
MISSING: dict[str, str] = dict.fromkeys(HEALTHY, "_x400")

FAILED_TASKS = (
    f"temporal_workflow_task_execution_failed_total{{{QUEUE},"
    ' failure_reason="NonDeterminismError"}'
)
FAILED_STEPS = (
    f'temporal_local_activity_execution_failed_total{{{QUEUE}, activity_type="activate_account"}}'
)
FAILED_LINKS = f'temporal_activity_execution_failed_total{{{QUEUE}, activity_type="issue_link"}}'
HELD = 'smart_accounts_sweep_held_total{activity_type="sweep"}'
DIFFERENCES = 'smart_accounts_sweep_differences_total{kind="terminated"}'
FIRED: list[tuple[str, dict[str, str], set[str]]] = [
    ("5m", MISSING, {"SmartAccountsNoWorker", "SmartAccountsNoWebServer"}),
    (
        "70m",
        MISSING,
        {"SmartAccountsNoWorker", "SmartAccountsNoWebServer", "SmartAccountsSweepStopped"},
    ),
    ("70m", {}, set()),
    ("10m", {POLLERS: "0+0x400"}, {"SmartAccountsWorkerNotPolling"}),
    (
        "5m",
        {'smart_accounts_reachable{dependency="temporal", instance="w2"}': "0+0x400"},
        {"SmartAccountsDependencyUnreachable"},
    ),
    # One failure, before which there is no series.
    ("12m", {FAILED_TASKS: "_x9 1+0x400"}, {"SmartAccountsWorkflowTasksFail"}),
    # A request that has failed for long, and is tried every ten minutes.
    ("2h", {FAILED_TASKS: "_x9 1+0x9 2+0.1x400"}, {"SmartAccountsWorkflowTasksFail"}),
    ("2h", {FAILED_TASKS: "_x9 1+0x400"}, set()),
    ("30m", {FAILED_STEPS: "1+0.2x400"}, {"SmartAccountsStepsFail"}),
    ("30m", {FAILED_LINKS: "1+0.2x400"}, {"SmartAccountsStepsFail"}),
    ("30m", {FAILED_LINKS.replace("issue_link", "send_emails"): "1+1x400"}, set()),
    (
        "30m",
        {'smart_accounts_dropped_signals_total{signal="accepted"}': "0x20 1+0x400"},
        {"SmartAccountsSignalsDropped"},
    ),
    (
        "10m",
        {"smart_accounts_oldest_review_age_seconds": "259300+60x400"},
        {"SmartAccountsReviewWaits"},
    ),
    (
        "30m",
        {"smart_accounts_emails_refused_because_of_sender_total": "0x20 1+0x400"},
        {"SmartAccountsEmailsRefusedBecauseOfUs"},
    ),
    (
        "30m",
        {
            'smart_accounts_emails_total{kind="activation", outcome="unreachable"}': "0+1x400",
            SENT: "5+0x400",
        },
        {"SmartAccountsMailServerUnreachable"},
    ),
    # One recipient's connection broke while other emails were sent.
    (
        "30m",
        {'smart_accounts_emails_total{kind="activation", outcome="unreachable"}': "0+1x400"},
        set(),
    ),
    (
        "30m",
        {"smart_accounts_returned_emails_total": "0x20 1+0x400"},
        {"SmartAccountsEmailsReturned"},
    ),
    ("30m", {"smart_accounts_unreadable_bounces_total": "0x20 3+0x400"}, set()),
    (
        "30m",
        {"smart_accounts_unreadable_bounces_total": "0x20 9+0x400"},
        {"SmartAccountsBouncesUnreadable"},
    ),
    (
        "10m",
        {"smart_accounts_webhook_endpoints_overdue": "0 1+0x400"},
        {"SmartAccountsWebhooksOverdue"},
    ),
    (
        "2h",
        {'smart_accounts_webhooks_total{outcome="delivered"}': "9+0x400"},
        {"SmartAccountsWebhooksAllFail"},
    ),
    # One endpoint that is down, and nothing else to deliver.
    (
        "2h",
        {
            'smart_accounts_webhooks_total{outcome="delivered"}': "9+0x400",
            WEBHOOKS_FAILED: "0+0.15x400",
        },
        set(),
    ),
    ("30m", {DIFFERENCES: "_x20 1+0x400"}, {"SmartAccountsSweepFoundDifferences"}),
    ("30m", {DIFFERENCES: "0x20 1+0x400"}, {"SmartAccountsSweepFoundDifferences"}),
    ("30m", {HELD: "0x20 1+0x400"}, {"SmartAccountsSweepHeld"}),
    ("5h", {SWEPT: "3+0x400"}, {"SmartAccountsSweepStopped"}),
    (
        "1h",
        {f'{EMAIL_TIME}_bucket{{le="60"}}': "0+197x400"},
        {"SmartAccountsActivationEmailsLate"},
    ),
    ("1h", {f'{ACTIVE_TIME}_bucket{{le="10"}}': "0+197x400"}, {"SmartAccountsActivationsLate"}),
]
"""When, which series differ from ``HEALTHY``, and all the alerts that fire then."""


@pytest.fixture(scope="module")
def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_rules_are_valid() -> None:
    run_promtool("check", "rules", RULES)


def test_alerts_fire_when_they_should_and_only_then(alerts: dict[str, Any], tmp_path: Path) -> None:
    assert set[str]().union(*(fired for _, _, fired in FIRED)) == set(alerts)
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": values} for name, values in (HEALTHY | changed).items()
            ],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": at,
                    "exp_samples": [
                        {"labels": f'{{alertname="{name}"}}', "value": 1} for name in fired
                    ],
                }
            ],
        }
        for at, changed, fired in FIRED
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    run_promtool("test", "rules", file)


def test_every_alert_has_a_severity_and_a_chapter_that_says_what_to_do(
    alerts: dict[str, Any],
) -> None:
    linked = []
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["summary"]
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert anchor in anchors_of(ROOT / path), name
        linked.append(anchor)
    assert len(set(linked)) == len(linked)


def test_dashboard_has_valid_queries(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = [{"record": f"query_{n}", "expr": expr} for n, expr in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run_promtool("check", "rules", file)
