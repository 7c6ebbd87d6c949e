"""Base paths: which versions are there, what an engine is given of one, and when its files have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_models import is_model, write_version

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.layout import find_versions, look, model_file


def test_version_folders_are_numbers_with_or_without_zeros(tmp_path: Path) -> None:
    for name in ("1", "007", "9223372036854775807"):
        write_version(tmp_path, name)
    for name in ("-1", "1.0", "v2", "9223372036854775808", "\u0664", "1" * 50, "tmp_3"):
        write_version(tmp_path, name)
    found = find_versions(tmp_path, is_model)
    assert found == {1: tmp_path / "1", 7: tmp_path / "007", 2**63 - 1: tmp_path / "9223372036854775807"}


def test_of_two_names_for_one_number_the_shorter_counts(tmp_path: Path) -> None:
    for name in ("0003", "3", "03"):
        write_version(tmp_path, name)
    assert find_versions(tmp_path, is_model) == {3: tmp_path / "3"}


def test_a_file_or_a_model_folder_is_version_one(tmp_path: Path) -> None:
    file = write_version(tmp_path, "m") / "model.fake"
    assert find_versions(file, is_model) == {1: file}
    assert find_versions(tmp_path / "m", lambda path: path.name == "m") == {1: tmp_path / "m"}
    assert find_versions(tmp_path / "m", is_model) == {}
    with pytest.raises(FileNotFoundError):
        find_versions(tmp_path / "gone", is_model)


def test_the_one_model_in_a_version_folder(tmp_path: Path) -> None:
    folder = write_version(tmp_path, 1)
    (folder / "labels.txt").write_text("a\nb\n")
    (folder / ".hidden.fake").write_text("2")
    assert model_file(folder, is_model) == folder / "model.fake"
    assert model_file(folder, lambda path: path == folder) == folder
    (folder / "other.fake").write_text("2")
    with pytest.raises(ModelError, match=r"several models in one version: model\.fake, other\.fake"):
        model_file(folder, is_model)


def test_what_is_no_model(tmp_path: Path) -> None:
    empty = tmp_path / "1"
    empty.mkdir()
    with pytest.raises(ModelError, match="the folder is empty"):
        model_file(empty, is_model)
    (empty / "notes.txt").write_text("")
    with pytest.raises(ModelError, match=r"no file in it is a model of a known engine: notes\.txt"):
        model_file(empty, is_model)
    (tmp_path / "2").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="a link that leads nowhere"):
        model_file(tmp_path / "2", is_model)
    with pytest.raises(ModelError, match="no such file or folder"):
        model_file(tmp_path / "3", is_model)


def test_the_stamp_tells_every_change(tmp_path: Path) -> None:
    folder = write_version(tmp_path, 1)
    (folder / "variables").mkdir()
    (folder / "variables" / "data").write_bytes(b"x" * 100)
    before = look(folder)
    assert (before.files, before.nbytes) == (2, 101)
    assert look(folder) == before
    (folder / "variables" / "data").write_bytes(b"y" * 100)
    written = look(folder)
    assert written != before
    # A copying tool that sets the old time does not hide that the file is new.
    os.utime(folder / "variables" / "data", (1, 1))
    assert look(folder).changed >= written.changed
    (folder / "variables" / "data").unlink()
    assert look(folder).files == 1
    assert look(folder / "model.fake").nbytes == 1
