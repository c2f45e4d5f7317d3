"""moto's S3 server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from botocore.config import Config

from tests.servers.ports import free_port, stop, wait_for

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "a secret of this test"


class S3:
    def __init__(self, home: Path) -> None:
        self.port = free_port()
        with (home / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=out,
                stderr=out,
            )
        wait_for(self.port, self.process, home / "out", seconds=60)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client: Any = self.connect("s3", ACCESS_KEY, SECRET_KEY)

    def connect(self, service: str, access_key: str, secret_key: str) -> Any:
        import boto3  # not among what `make test` installs, which still has to collect these tests

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(proxies={}, retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
        )

    def demand_signatures(self, *, after: int | None) -> None:
        """Check signatures and rights once `after` more requests were let in; None: never."""
        count = "inf" if after is None else str(after)
        httpx.post(
            f"{self.url}/moto-api/reset-auth", content=count.encode(), trust_env=False
        ).raise_for_status()

    def close(self) -> None:
        self.client.close()
        stop(self.process)
