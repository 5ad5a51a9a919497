"""The settings of `cclm serve`."""

from pydantic import Field

from cclm_core.runtime.config import Config
from flows.servers.guard import HOST

CLIENT_SECONDS_LIMIT = 3600


class ServiceConfig(Config):
    """What one service listens on, and what it allows.

    A limit on one request is a limit on its memory. The queue bounds how many requests wait, so that a client learns
    at once to come back later instead of waiting for an answer that comes too late.
    """

    host: str = Field(default=HOST, min_length=1, description="address to listen on")
    port: int = Field(default=5001, ge=1, le=65535, description="port to listen on")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="host names that requests may name, in addition to those of this machine"
    )
    max_bytes: int = Field(default=1_000_000, ge=1, description="bytes in the body of a request")
    max_texts: int = Field(default=1_000, ge=1, description="texts in a request")
    max_characters: int = Field(default=100_000, ge=1, description="characters in a text; in both texts of a pair")
    max_seconds: float = Field(default=30, gt=0, description="seconds from the complete request to its answer")
    client_seconds: float = Field(
        default=10,
        gt=0,
        le=CLIENT_SECONDS_LIMIT,
        description="seconds in which a client must send the headers, then the body, and read the answer",
    )
    max_connections: int = Field(default=1_000, ge=1, description="open connections")
    max_queue: int = Field(default=256, ge=1, description="requests that wait for a model")
    batch_texts: int = Field(default=64, ge=1, description="texts per batch; 1 computes each request alone")
    batch_characters: int = Field(default=32_768, ge=1, description="characters per batch")
    batch_milliseconds: float = Field(
        default=5, ge=0, le=1000, description="time that a request waits for others to join its batch"
    )
    refresh_seconds: float = Field(default=30, gt=0, description="seconds between two looks for a newer version")
