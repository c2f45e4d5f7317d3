from __future__ import annotations

import pytest

from assistant.store.db import Database
from tests.servers.desk import Desk


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)
