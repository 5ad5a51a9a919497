"""`python -m flows.deployments.alerts`: sends an alert if the nightly run failed or has not started. Off by default.

If `CCLM_ALERT_WEBHOOK` has the address of a webhook, Prefect's server gets two automations that post to it: one for a
nightly run that failed, one for a nightly run that is late. Repeatable: a changed address replaces the former one. The
body of the request is `{"text": "..."}`, which Slack, Mattermost and Google Chat understand.
"""

import os
import urllib.parse
from datetime import timedelta
from typing import Any

from cclm_core.runtime.errors import ConfigError
from flows.project import Project
from flows.run.nightly import LATE_SECONDS, expect_nightly

VARIABLE = "CCLM_ALERT_WEBHOOK"
NIGHTLY = "pretrain/nightly"
BLOCK = "cclm-alerts"
FAILED, LATE = "cclm: the nightly run failed", "cclm: the nightly run is late"
"""The names of the automations."""

_BODY = (
    "{{ flow_run.name }} is {{ flow_run.state.name }}. {{ flow_run.state.message or '' }}\n"
    "{{ flow_run|ui_url }}\n`cclm status` and `cclm doctor` in the project's folder show details."
)


def webhook() -> str | None:
    """The address in `CCLM_ALERT_WEBHOOK`; None if it is not set.

    Raises:
        ConfigError: it is no address of a web server.
    """
    address = os.environ.get(VARIABLE, "").strip()
    if not address or address.lower() in ("off", "0", "false", "no"):
        return None
    parsed = urllib.parse.urlsplit(address)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise ConfigError(  # the address may contain a secret
            f"{VARIABLE} must be the address of a webhook, https://HOST/..., got one with the scheme "
            f"{parsed.scheme!r:.20}. Correct it, or unset it."
        )
    return address


def create_alerts(address: str) -> list[str]:
    """Creates or updates the automations on Prefect's server; returns their names.

    Args:
        address: of the webhook. Prefect stores it encrypted.

    Raises:
        ConfigError: the nightly deployment is not registered.
    """
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.types import SecretDict

    block = CustomWebhookNotificationBlock(
        name=BLOCK,
        url="{{address}}",  # a secret, so that Prefect's pages do not show it
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"address": address}),
    )
    document = block.save(BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(NIGHTLY)
        except ObjectNotFound:
            raise ConfigError(
                f"deployment {NIGHTLY} not found in Prefect. Run `prefect --no-prompt deploy --all` first."
            ) from None
        for automation in _automations(deployment.id, document):
            existing = client.read_automations_by_name(automation.name)
            if existing:
                client.update_automation(existing[0].id, automation)
            else:
                client.create_automation(automation)
    return [FAILED, LATE]


def _automations(deployment: Any, block: Any) -> list[Any]:
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    of_nightly = ResourceSpecification.model_validate(
        {"prefect.resource.role": "deployment", "prefect.resource.id": f"prefect.deployment.{deployment}"}
    )
    flow_runs = ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"})
    failed = EventTrigger(
        match=flow_runs,
        match_related=of_nightly,
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
        posture=Posture.Reactive,
        threshold=1,
    )
    late = EventTrigger(
        match=flow_runs,
        match_related=of_nightly,
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.Late"},
        expect={f"prefect.flow-run.{state}" for state in ("Pending", "Running", "Cancelled")},
        posture=Posture.Proactive,
        within=timedelta(seconds=LATE_SECONDS),
        threshold=1,
    )
    described = {
        FAILED: (failed, "A nightly run failed or crashed."),
        LATE: (late, f"A nightly run has not started {LATE_SECONDS // 60} minutes after it was late."),
    }
    return [
        AutomationCore(
            name=name,
            description=f"{text} Created by CCLM because {VARIABLE} was set.",
            trigger=trigger,
            actions=[SendNotification(block_document_id=block, subject=name, body=_BODY)],
        )
        for name, (trigger, text) in described.items()
    ]


def main() -> None:
    """Creates the alerts if they are wanted, and records when the nightly run is due."""
    address = webhook()
    if address is None:
        print(f"{VARIABLE} is not set, so a nightly run that fails sends no alert.")
    else:
        print(f"alerts: {'; '.join(create_alerts(address))}")
    expect_nightly(Project.find(), NIGHTLY)


if __name__ == "__main__":
    main()
