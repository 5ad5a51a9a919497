"""`cclm doctor`: what is wrong, since when, and what was done about it."""

import json

from flows.doctor.catalogue import CHECKS
from flows.doctor.diagnosis import Result, diagnose
from flows.project import Project


def doctor(project: Project, repair: bool, as_json: bool) -> int:
    """Prints the findings; returns the exit code: 0 if nothing is wrong or all of it is repaired, 1 otherwise."""

    def show(_name: str, found: list[Result]) -> None:
        """Prints the results of a check."""
        for result in found if not as_json else []:
            print(result, flush=True)

    results = diagnose(project, repair, show)
    left = [result for result in results if not result.repaired]
    if as_json:
        print(json.dumps({"healthy": not left, "findings": [result.as_json() for result in results]}, indent=2))
    elif not results:
        print(f"Healthy: {len(CHECKS)} checks found nothing.")
    else:
        repairable = sum(result.finding.repair is not None for result in left)
        hint = f" `cclm doctor --repair` repairs {repairable} of them." if repairable and not repair else ""
        print(f"{len(results)} found, {len(results) - len(left)} repaired, {len(left)} left.{hint}")
    return 1 if left else 0
