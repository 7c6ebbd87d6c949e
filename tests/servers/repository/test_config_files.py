"""Configurations in three formats: what they mean, and that every mistake is told with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.config_file import find_format, read_config
from tensorwire.servers.repository.sts_file import read_sts
from tensorwire.servers.repository.tfs_file import read_tfs, write_tfs
from tensorwire.servers.repository.toml_file import read_toml, write_toml

FULL = """
default = "policy"

[models.digits]
path = "/srv/digits"
versions = [1, 3]
labels = { stable = 1, canary = 3 }
ready_file = ".ready"

[models.policy]
path = "https://example.org/az4.pb"
engine = "tensorflow"
options = { outputs = "policy,value", xla = true }
versions = "all"
transition = "resource"
warm_up = false
"""


def test_toml() -> None:
    config = read_toml(FULL)
    assert config.default == "policy"
    digits, policy = config.models
    assert digits == ModelConfig(
        name="digits",
        path="/srv/digits",
        policy=VersionPolicy(specific=(1, 3)),
        labels={"stable": 1, "canary": 3},
        ready_file=".ready",
    )
    assert (policy.engine, dict(policy.options)) == ("tensorflow", {"outputs": "policy,value", "xla": True})
    assert (policy.policy, policy.transition, policy.warm_up) == (VersionPolicy(latest=0), "resource", False)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = \n", "line 1: Invalid value"),
        ("\nmodel = 1\n", "line 2: unknown key 'model': there are default, models"),
        ("models = 3", "line 1: models is a table"),
        ("default = 3", "line 1: default is the name of a model, not 3"),
        ('default = "b"\n[models.a]\npath = "/a"', "line 1: the default model 'b' is not configured; there are 'a'"),
        ("[models]\na = 1", "line 2: models.a is a table, as in [models.a], not 1"),
        ('[models.a]\npath = "/a"\nbase_path = "/b"', "line 3: model 'a': unknown key 'base_path': there are path, "),
        ('[models.a]\nengine = "onnx"', "line 1: model 'a': path is missing"),
        ("[models.a]\npath = 3", "line 2: model 'a': path is text, not 3"),
        ('[models.a]\npath = "/a"\nversions = "newest"', "line 3: model 'a': versions is 'latest', 'all', "),
        ('[models.a]\npath = "/a"\nversions = [-1]', "line 3: model 'a': a version is a number from 0 to "),
        ('[models.a]\npath = "/a"\nversions = { latest = 0 }', "line 3: model 'a': versions is 'latest'"),
        ('[models.a]\npath = "/a"\nlabels = { x = "1" }', "line 3: model 'a': label 'x' names a version by its number"),
        ('[models.a]\npath = "/a"\nlabels = { x = -2 }', "line 3: model 'a': label 'x': a version is 0 or more"),
        ('[models.a]\npath = "/a"\nwarm_up = 1', "line 3: model 'a': warm_up is true or false, not 1"),
        ('[models.a]\npath = "/a"\nattempts = true', "line 3: model 'a': attempts is a number, not True"),
        ('[models.a]\npath = "/a"\n\nsettle = -1', "line 4: model 'a': settle is 0 or more seconds"),
        ('[models.a]\npath = "/a"\ntransition = "fast"', "line 3: model 'a': transition is 'availability' or"),
        ('[models.a]\npath = "/a"\nready_file = "x/y"', "line 3: model 'a': ready_file is a file's name"),
        ('[models."a/b"]\npath = "/a"', "line 1: model name 'a/b': 1 to 200 characters"),
        ('[models.a]\npath = "/a"\n[models.a]', "line 3: Cannot declare"),
    ],
)
def test_mistakes_in_toml_are_told_with_their_line(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_toml(text)
    assert str(caught.value).startswith(error)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/:?#%"), min_size=1, max_size=20).filter(
    lambda text: not any(c.isspace() or ord(c) < 32 for c in text)
)
MODELS = st.builds(
    ModelConfig,
    name=NAMES,
    path=st.text(st.characters(codec="utf-8"), min_size=1),
    engine=st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
    options=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.integers(-9, 9) | st.booleans()),
    policy=st.builds(VersionPolicy, st.integers(0, 5)) | st.just(VersionPolicy(specific=(1, 2**63 - 1))),
    labels=st.dictionaries(NAMES, st.integers(0, 2**63 - 1), max_size=3),
    settle=st.floats(0, 100),
    transition=st.sampled_from(("availability", "resource")),
    attempts=st.integers(1, 5),
    warm_up=st.booleans(),
)
CONFIGS = st.lists(MODELS, max_size=3, unique_by=lambda model: model.name).map(
    lambda models: RepositoryConfig(models=tuple(models), default=models[-1].name if models else "")
)


@given(CONFIGS)
def test_toml_that_is_written_is_read_as_it_was(config: RepositoryConfig) -> None:
    assert read_toml(write_toml(config)) == config


def test_tensorflow_servings_text() -> None:
    config = read_tfs(
        """
        # a comment
        model_config_list {
          config {
            name: "half_plus_two"  base_path: "/models/half"  model_platform: "tensorflow"
            model_version_policy { specific { versions: 123 versions: 124 } }
            version_labels { key: "stable" value: 123 }
            version_labels { key: "canary" value: 124 }
          }
          config { name: "b", base_path: "/models/b", model_version_policy: { all: {} } }
          config { name: "c" base_path: "/c" model_platform: "onnx"
            model_version_policy { latest { num_versions: 3 } } }
          config { name: "d" base_path: "/d" }
        }
        """
    )
    half, b, c, d = config.models
    assert (half.name, half.path, half.engine) == ("half_plus_two", "/models/half", None)
    assert half.policy == VersionPolicy(specific=(123, 124)) and half.labels == {"stable": 123, "canary": 124}
    assert (b.policy, c.policy, d.policy) == (VersionPolicy(latest=0), VersionPolicy(latest=3), VersionPolicy())
    assert (b.engine, c.engine) == (None, "onnx")
    assert read_tfs(write_tfs(config)) == config


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("improperly formatted file", "line 1: "),
        ("model_config_list {\n config { nam: 'x' } }", "line 2: "),
        ("model_config_list {\n config { name: 3 } }", "line 2: "),
        ("", "no model_config_list in it"),
        ("model_config_list { config { name: 'a' } }", "model 'a': a path is needed"),
        ("model_config_list { config { base_path: '/a' } }", "model name ''"),
        (
            "model_config_list { config { name: 'a' base_path: '/a' model_type: 1 } }",
            "model 'a': model_type is long gone",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { specific {} } } }",
            "model 'a': a specific version policy names no versions",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/b' } }",
            "two models have the name 'a'",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' version_labels { key: 'x' value: -1 } } }",
            "model 'a': label 'x': a version is 0 or more, not -1",
        ),
    ],
)
def test_mistakes_in_tensorflow_servings_text(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tfs(text)
    assert str(caught.value).startswith(error)


def test_simple_tensorflow_servings_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_sts(
        """{"model_config_list": [
            {"name": "a", "base_path": "./models/a/", "platform": "tensorflow", "custom_op_paths": ["/op.so"]},
            {"name": "b", "base_path": "/models/b", "platform": "scikitlearn"}]}"""
    )
    a, b = config.models
    assert (a.path, a.engine, a.options) == (str(tmp_path / "models/a"), "tensorflow", {"custom_ops": ["/op.so"]})
    assert (b.path, b.engine, b.options) == ("/models/b", "sklearn", {})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "line 1: Expecting property name"),
        ("[]", "no list 'model_config_list' in it"),
        ('{"model_config_list": [3]}', "model 1 of model_config_list is an object, not 3"),
        ('{"model_config_list": [{"name": "a"}]}', "model 1 of model_config_list: base_path is missing"),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a", "x": 1}]}',
            "model 1 of model_config_list: unknown key",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a", "platform": "pmml"}]}',
            "model 1 of model_config_list: no engine for the platform 'pmml' here; convert",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a", "platform": "caffe9"}]}',
            "model 1 of model_config_list: unknown platform 'caffe9'",
        ),
    ],
)
def test_mistakes_in_simple_tensorflow_servings_json(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_sts(text)
    assert str(caught.value).startswith(error)


def test_files_are_told_apart_and_named_in_errors(tmp_path: Path) -> None:
    assert find_format(Path("a.toml"), "") == "toml"
    assert find_format(Path("a.json"), "") == "sts"
    assert find_format(Path("models.config"), ' {"model_config_list": []}') == "sts"
    assert find_format(Path("models.config"), "model_config_list {}") == "tfs"
    path = tmp_path / "c.toml"
    with pytest.raises(ConfigError, match=r"c\.toml: No such file"):
        read_config(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"c\.toml: not text in UTF-8"):
        read_config(path)
    path.write_text('[models.a]\npath = "models/a"')
    with pytest.raises(ConfigError, match="the path 'models/a' is relative: give an absolute path or a URL"):
        read_config(path)
    path.write_text(FULL)
    assert read_config(path) == read_toml(FULL)


def test_the_real_configurations_of_tensorflow_serving() -> None:
    folder = os.environ.get("TENSORWIRE_TEST_DATA")
    if not folder:
        pytest.skip("TENSORWIRE_TEST_DATA does not name a folder of test data")
    good = Path(folder) / "tensorflow_serving" / "good_model_config.txt"
    config = read_tfs(good.read_text())
    assert [model.name for model in config.models] == ["half_plus_two", "half_plus_three"]
    with pytest.raises(ConfigError, match=r"bad_model_config\.txt: line 1: "):
        read_config(Path(folder) / "tensorflow_serving" / "bad_model_config.txt")
