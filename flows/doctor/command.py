"""`cclm doctor`: prints problems, since when they exist, and their repairs."""

import json

from flows.doctor.catalogue import CHECKS
from flows.doctor.diagnosis import Result, diagnose
from flows.project import Project


def doctor(project: Project, repair: bool, as_json: bool) -> int:
    """Prints the findings; returns the exit code: 0 if nothing is wrong or everything is repaired, otherwise 1."""

    def show(_name: str, results: list[Result]) -> None:
        """Prints the results of a check."""
        for result in results if not as_json else []:
            print(result, flush=True)

    results = diagnose(project, repair, show)
    left = [result for result in results if not result.repaired]
    if as_json:
        print(json.dumps({"healthy": not left, "findings": [result.as_json() for result in results]}, indent=2))
    elif not results:
        print(f"Healthy: {len(CHECKS)} checks found no problem.")
    else:
        repairable = sum(result.finding.repair is not None for result in left)
        hint = f" `cclm doctor --repair` can repair {repairable} of them." if repairable and not repair else ""
        print(f"Problems: {len(results)} found, {len(results) - len(left)} repaired, {len(left)} left.{hint}")
    return 1 if left else 0
