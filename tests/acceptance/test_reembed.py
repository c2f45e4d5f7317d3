"""Another embedder takes over in a whole running installation, whose workers are killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.config import Settings
from assistant.ingest import embed
from assistant.model import Principal
from assistant.retrieve.scope import Scope
from assistant.store import spaces, versions
from assistant.store.versions import Kind
from assistant.weights import State, check
from tests import tiny_embedder
from tests.installation import REALM, Installation, installation, wait
from tests.paths import MODELS

pytestmark = pytest.mark.timeout(400)

FILES = 300


def filled_in(desk: Installation) -> int:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        space = spaces.wanted(connection)
        return spaces.counts(connection, space)[0] if space else FILES


def test_the_workers_do_it_and_every_process_goes_over(folder: Path) -> None:
    settings = Settings(models=MODELS)
    name = settings.embedder
    if check(name, settings) is not State.PRESENT:
        pytest.skip(f"the weights {name} are absent: `deskhand models pull`")
    models, share = folder / "reembed-models", folder / "reembed-share"
    for place in (models, share):
        place.mkdir()
    (models / name).symlink_to((MODELS / name).resolve())
    for n in range(FILES):
        (share / f"{n}.md").write_text(f"# Pump {n}\n\nPump number {n} hums when valve {n * 7} is open.\n")
    with installation(folder / "reembed", models) as desk:
        desk.add("files", "directory", {"path": str(share), "access": ["group:staff"]})
        wait(lambda: desk.indexed() == FILES and desk.finished(), what="the first sync")
        reader = Scope(Principal("ada", frozenset({f"{REALM}/group:staff"})))
        with desk.assistant() as asking, desk.assistant() as assistant:
            assert len(asking.retriever.documents("which pump hums", reader)) == 10
            with assistant.database.writer() as connection:
                version = versions.request(
                    connection, Kind.EMBEDDER, base=name, dataset_hash=None, recipe={}, by="ann"
                )
                versions.finish(connection, version, {})
            tiny_embedder.folder(models, version.name, MODELS / name / "tokenizer.json")
            trained = embed.tuned(desk.settings, version.name, threads=1)
            with assistant.database.writer() as connection:
                spaces.want(
                    connection,
                    name=trained.name,
                    revision=trained.revision,
                    dimension=trained.dimension,
                    by="ann",
                )
            wait(lambda: filled_in(desk) > 0, what="the beginning")
            desk.kill_children("upkeep")
            asked = 0
            while asking.live()[0].name == name:
                found = asking.retriever.documents("which pump hums", reader)
                assert len(found) == 10
                asked += 1
            assert asked
            assert asking.live()[0].name == version.name
            assert len(asking.retriever.documents("which pump hums", reader)) == 10
            (share / "new.md").write_text("# Pump 4711\n\nPump number 4711 whistles.\n")
            with assistant.database.writer() as connection:
                assert versions.get(connection, version.name).state == "live"
            wait(
                lambda: desk.indexed() == FILES + 1,
                what="a document indexed by a worker that had the old one",
            )
            found = asking.retriever.documents("pump number 4711 whistles", reader)
            assert found[0][1].external_id == "new.md"
