"""Every name that other programs depend on. A change here breaks callers or open requests."""

import inspect
import re
from enum import StrEnum
from pathlib import Path

import pytest
from temporalio import activity, workflow

from activities.accounts import AccountActivities
from activities.emails import EmailActivities
from activities.erasure import ErasureActivities
from activities.reviews import ReviewActivities
from activities.sweep import SweepActivities
from activities.webhooks import WebhookActivities
from smart_accounts.contract import actions as action_messages
from smart_accounts.contract import messages, names, steps, webhooks
from smart_accounts.contract.field_errors import FieldError
from smart_accounts.settings import PREFIX, Settings
from smart_accounts.store import records
from smart_accounts.sweep import differences
from smart_accounts.temporal import deployment
from smart_accounts.web import security_log
from workflows.remaining_emails import RemainingEmailsWorkflow
from workflows.smart_account_request import SmartAccountRequestWorkflow
from workflows.sweep import SweepWorkflow
from workflows.webhook_delivery import WebhookDeliveryWorkflow

ROOT = Path(__file__).parents[2]

FIELDS = {
    messages.SmartAccountRequest: "account_name customer_email account_domain note_to_customer"
    " user_emails note_to_added_users requester acceptance_window reminders",
    messages.Requester: "email name company",
    messages.Acceptance: "link accepted_by",
    messages.Decline: "link reason report",
    action_messages.Actor: "role subject",
    action_messages.Resend: "by",
    action_messages.NewApprover: "customer_email by",
    action_messages.Withdrawal: "reason by",
    action_messages.Review: "decision reason by",
    action_messages.Closing: "account_domain reason by",
    messages.RequestStatus: "status account_name account_domain deadline requested_at emails"
    " needs_attention reason decided_by decided_at retry_at next_step",
    messages.EmailStatus: "kind recipient state at answer",
    action_messages.ActionResult: "status message",
    messages.RequestResult: "status reason retry_at",
    steps.Email: "kind to number",
    steps.Bounce: "email answer",
    steps.OpenRequest: "request_id request requested_at deadline idempotency_key"
    " requester_issuer requester_subject restarts",
    steps.Restarted: "request_id requested_at link_ordinal approved_at answer customer_email",
    steps.Checked: "refused retry_at invalid needs_attention in_review emails_first_locally"
    " keeps_early_answers restarted",
    steps.RequestRecord: "request_id request requested_at status link_ordinal needs_attention"
    " needs_review approved_at decision retry_at",
    steps.Sweep: "",
    steps.Swept: "differences is_held",
    steps.IssueLink: "request_id request ordinal at",
    steps.Decision: "status at by reason is_report",
    steps.Approve: "request_id at",
    steps.RecordDecision: "request_id decision request link_ordinal",
    steps.CloseAccount: "request_id closing at",
    steps.ClosedAccount: "at reason added_users",
    steps.ErasedRequest: "request_id account_domain decision closed_at link_ordinal at",
    steps.SendEmails: "request_id emails until closing now",
    steps.EmailOutcome: "state at answer",
    webhooks.DeliverWebhooks: "endpoint_id",
    webhooks.Delivered: "next_at",
    FieldError: "field message",
}

VALUES: dict[type[StrEnum], str] = {
    messages.Status: "requested in_review pending activating active lapsed declined withdrawn"
    " undeliverable rejected",
    messages.EmailKind: "activation request-received reminder expiring activated welcome"
    " access-granted lapsed declined withdrawn undeliverable rejected closed review-needed"
    " webhook-disabled",
    action_messages.Role: "requester operator",
    action_messages.ReviewDecision: "approve reject",
    records.AccountState: "provisional active closed",
    messages.EmailState: "queued sent bounced failed dropped",
    steps.Addressee: "customer requester added-user",
    differences.Kind: "terminated missing not-stored store-behind temporal-behind account-open"
    " emails-unsent webhooks-unsent unreadable",
    webhooks.EventType: "request.in_review request.pending request.active request.declined"
    " request.lapsed request.withdrawn request.undeliverable request.rejected"
    " request.approver_replaced email.bounced account.closed ping",
    webhooks.EndpointState: "enabled paused disabled",
    webhooks.DeliveryState: "pending delivered failed",
    security_log.Event: "authentication.sign-in authentication.sign-out authentication.company"
    " authentication.session authentication.token authentication.link authorization.scope"
    " authorization.access bypass.cross-site bypass.rate-limit bypass.request-limit request.start"
    " request.resend request.replace-approver request.withdraw request.approve request.reject"
    " request.close request.accepted request.declined webhook.register webhook.change"
    " webhook.rotate-secret webhook.pause webhook.resume webhook.delete webhook.ping"
    " webhook.resend error.unexpected",
    security_log.Outcome: "success failure unknown",
}

SETTINGS = (
    "FREE_MAIL_EXCEPTIONS PUBLIC_URL"
    " SECRET_KEYS SESSION_KEYS PAYLOAD_KEYS PAYLOAD_PLAINTEXT DATABASE_URL DATABASE_POOL_SIZE"
    " SMTP_HOSTNAME SMTP_PORT SMTP_USERNAME SMTP_PASSWORD SMTP_TLS"
    " MAIL_FROM BOUNCE_DOMAIN EMAILS_THROUGH_QUEUE REVIEW_EMAIL"
    " MAX_OPEN_PER_CUSTOMER MAX_OPEN_PER_REQUESTER MAX_STARTS_PER_REQUESTER_PER_HOUR"
    " MAX_EMAILS_PER_MAILBOX_PER_DAY MAX_EMAILS_PER_REQUESTER_PER_DAY"
    " ORGANISATION_NAME SUPPORT_URL OIDC_ISSUER OIDC_CLIENT_ID"
    " OIDC_CLIENT_SECRET OIDC_AUDIENCE OIDC_COMPANY_CLAIM OIDC_OPERATOR_CLAIM OIDC_OPERATOR_ROLE"
    " OIDC_TRUST_EMAIL"
    " TEMPORAL_UI_URL METRICS_ADDRESS WEB_HOST WEB_PORT"
    " SMTP_LOCAL_HOSTNAME SUPPORT_EMAIL WEB_METRICS_ADDRESS HEALTH_ADDRESS LOG_FORMAT"
    " PURGE_AFTER ERASED_LIST WEBHOOK_ALLOWED_NETWORKS"
)


def test_temporal_names() -> None:
    assert names.TASK_QUEUE == "smart-account-requests"
    assert names.workflow_id("acme.example") == "smart-account-acme.example"
    assert names.remaining_emails_id("run") == "smart-account-mails-run"
    assert names.closing_id("run") == "smart-account-closed-run"
    assert names.erased_id("run") == "smart-account-erased-run"
    assert names.webhook_delivery_id("one") == "smart-account-webhook-one"
    assert names.WEBHOOK_DELIVERY_TYPE == "SmartAccountWebhookDeliveryWorkflow"
    assert names.SEARCH_ATTRIBUTES == {
        "SmartAccountStatus": "Keyword",
        "SmartAccountDomain": "Keyword",
        "SmartAccountDeadline": "Datetime",
    }
    assert names.IDEMPOTENCY_KEY == "idempotency_key"
    assert names.REQUESTER_ISSUER == "requester_issuer"
    assert names.REQUESTER_SUBJECT == "requester_subject"
    assert (names.RESTARTS, names.LINK) == ("restarts", "link")
    assert names.HOW_IT_ENDED == "how_it_ended"
    assert (names.INVALID_REQUEST, names.ACTION_REFUSED) == ("InvalidRequest", "ActionRefused")


def test_workflow_names() -> None:
    request = workflow._Definition.must_from_class(SmartAccountRequestWorkflow)
    assert request.name == "SmartAccountRequestWorkflow"
    assert request.signals.keys() == {"accepted", "declined", "bounced"}
    assert request.queries.keys() == {"status", "record"}
    assert request.updates.keys() == {
        "resend_activation_email",
        "replace_approver",
        "withdraw",
        "review",
    }
    remaining = workflow._Definition.must_from_class(RemainingEmailsWorkflow)
    assert remaining.name == "SmartAccountRemainingMailsWorkflow"
    assert remaining.queries.keys() == {"closed_account"}
    sweep = workflow._Definition.must_from_class(SweepWorkflow)
    assert sweep.name == "SmartAccountSweepWorkflow"
    assert names.SWEEP_ID == "smart-account-sweep"
    delivery = workflow._Definition.must_from_class(WebhookDeliveryWorkflow)
    assert delivery.name == "SmartAccountWebhookDeliveryWorkflow"
    assert delivery.signals.keys() == {"deliveries_waiting"}
    assert names.webhook_delivery_id("endpoint") == "smart-account-webhook-endpoint"


def test_activity_names() -> None:
    methods = [
        method
        for each in (
            AccountActivities,
            EmailActivities,
            ErasureActivities,
            ReviewActivities,
            SweepActivities,
            WebhookActivities,
        )
        for _, method in inspect.getmembers(each, inspect.isfunction)
    ]
    found = {
        each.name for method in methods if (each := activity._Definition.from_callable(method))
    }
    assert found == {
        "open_request",
        "issue_link",
        "activate_account",
        "close_request",
        "approve_request",
        "close_account",
        "send_emails",
        "try_emails",
        "sweep",
        "tell_operators",
        "purge_ended_requests",
        "deliver_webhooks",
    }


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_message_fields(model: type[messages.Message]) -> None:
    assert list(model.model_fields) == FIELDS[model].split()


def test_every_message_is_listed() -> None:
    modules = [messages, action_messages, steps]
    found = {
        model
        for module in modules
        for _, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, messages.Message) and model.__module__ == module.__name__
    }
    bases = {
        messages.Message,
        messages.OwnMessage,
        steps.StepResult,
        *messages.SmartAccountRequest.__mro__,
    }
    assert found - bases <= FIELDS.keys()


@pytest.mark.parametrize("values", VALUES, ids=lambda values: values.__name__)
def test_message_values(values: type[StrEnum]) -> None:
    assert [each.value for each in values] == VALUES[values].split()


def test_settings() -> None:
    assert PREFIX == "SMART_ACCOUNTS_"
    assert {name.upper() for name in Settings.model_fields} == set(SETTINGS.split())


def test_variables_of_temporal() -> None:
    assert deployment.DEPLOYMENT_NAME == "TEMPORAL_DEPLOYMENT_NAME"
    assert deployment.BUILD_ID == "TEMPORAL_WORKER_BUILD_ID"


def test_email_headers() -> None:
    composing = (ROOT / "smart_accounts/mail/compose.py").read_text()
    own = set(re.findall(r'message\["([\w-]+)"\]', composing))
    assert {"Message-ID", "X-Smart-Account-Mail", "Auto-Submitted"} <= own
