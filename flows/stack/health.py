"""Asks a service whether it works."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping

from flows.stack.config import HealthConfig

# What is asked is on this machine: no proxy stands in between.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def healthy(config: HealthConfig, environment: Mapping[str, str]) -> str:
    """Empty when the service works; else what was wrong."""
    if config.url is not None:
        return await asyncio.to_thread(_answers, config.url, config.timeout_seconds)
    assert config.command is not None
    try:
        process = await asyncio.create_subprocess_exec(
            *config.command,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        return f"{config.command[0]} could not be started: {error}"
    try:
        code = await asyncio.wait_for(process.wait(), config.timeout_seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"{config.command[0]} gave no answer within {config.timeout_seconds:g} s"
    return "" if code == 0 else f"{config.command[0]} ended with exit code {code}"


def _answers(url: str, seconds: float) -> str:
    try:
        with _opener.open(url, timeout=seconds):
            return ""
    except urllib.error.HTTPError as error:
        return f"{url} answered {error.code}"
    except OSError as error:
        return f"{url} did not answer: {getattr(error, 'reason', None) or error}"
