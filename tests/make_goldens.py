"""Writes schema/golden: run it after a deliberate change of the format or of an error's text.

    python tests/make_goldens.py

NAME.bin          what our writer makes, byte for byte, of the message in NAME.json
foreign/NAME.bin  what other writers may make of the message in NAME.json
bad/NAME.bin      what is refused; NAME.json has what it is decoded as, options, the error's class and text
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import meaning
import oracle
from goldens import bad_replies, bad_structure, bad_tensors, foreign, own
from goldens.cases import cases

import tensorwire as tw

FOLDER = Path(__file__).parents[1] / "schema" / "golden"


def golden_files() -> dict[str, bytes]:
    """Every file of schema/golden, by its path there."""
    files: dict[str, bytes] = {}

    def add(name: str, buf: bytes, said: Any) -> None:
        files[f"{name}.bin"] = buf
        files[f"{name}.json"] = json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n"

    for name, message in own.messages().items():
        add(name, bytes(tw.encode(message)), meaning.to_json(meaning.of(message)))
    for name, (buf, meant) in foreign.messages().items():
        add(f"foreign/{name}", buf, meaning.to_json(oracle.blank(meant["message"]) | meant))
    for name, case in cases(bad_structure, bad_tensors, bad_replies).items():
        said = {"decode": case.decode, "options": case.options, "error": case.error, "text": case.text}
        add(f"bad/{name}", case.buf, said)
    return files


def main() -> None:
    files = golden_files()
    for path in [*FOLDER.rglob("*.bin"), *FOLDER.rglob("*.json")]:
        if str(path.relative_to(FOLDER)) not in files:
            path.unlink()
    for name, content in files.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
