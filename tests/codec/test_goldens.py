"""The messages in schema/golden: exact bytes out, exact meaning in, exact words for what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import make_goldens
import meaning
import pytest
from make_goldens import FOLDER

import tensorwire as tw

OWN = sorted(path.stem for path in FOLDER.glob("*.bin"))
FOREIGN = sorted(path.stem for path in (FOLDER / "foreign").glob("*.bin"))
BAD = sorted(path.stem for path in (FOLDER / "bad").glob("*.bin"))


def load(path: Path) -> tuple[bytes, meaning.Message]:
    return path.with_suffix(".bin").read_bytes(), json.loads(path.with_suffix(".json").read_text())


def test_the_folder_is_what_make_goldens_writes() -> None:
    found = {
        str(path.relative_to(FOLDER)): path.read_bytes() for path in [*FOLDER.rglob("*.bin"), *FOLDER.rglob("*.json")]
    }
    made = make_goldens.golden_files()
    assert sorted(found) == sorted(made)
    assert [name for name in made if found[name] != made[name]] == []
    assert len(OWN) >= 35
    assert len(FOREIGN) >= 25
    assert len(BAD) >= 75
    assert sum(map(len, found.values())) < 250_000


@pytest.mark.parametrize("name", OWN)
def test_our_own(name: str) -> None:
    buf, said = load(FOLDER / f"{name}.x")
    meant = meaning.from_json(said)
    assert bytes(tw.encode(meaning.message_from(meant))) == buf
    assert meaning.of(tw.decode(buf, meaning.TYPES[meant["message"]])) == meant
    assert meaning.read(buf, meant["message"]) == meant


@pytest.mark.parametrize("name", FOREIGN)
def test_of_other_writers(name: str) -> None:
    buf, said = load(FOLDER / "foreign" / f"{name}.x")
    meant = meaning.from_json(said)
    assert meaning.of(tw.decode(buf, meaning.TYPES[meant["message"]])) == meant
    assert meaning.read(buf, meant["message"]) == meant


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    buf, said = load(FOLDER / "bad" / f"{name}.x")
    with pytest.raises(tw.DecodeError) as caught:
        tw.decode(buf, meaning.TYPES[said["decode"]], **said["options"])
    assert (type(caught.value).__name__, str(caught.value)) == (said["error"], said["text"])
    for kind in (None, *meaning.TYPES.values()):
        try:
            tw.decode(buf, kind)
        except tw.DecodeError:
            continue
