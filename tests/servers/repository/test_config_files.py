"""Configurations in three formats: what they mean, and that every mistake is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.config_file import check_places, find_format, load_config, read_config
from tensorwire.servers.repository.toml_file import read_toml, write_toml
from tensorwire.servers.routing.rules import MirrorRule, SplitRule

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
        ('[models.a]\npath = "/a"\n[models.a]', "line 3: [models.a] is there twice (column "),
        ("[models]\n[models]", "line 2: [models] is there twice (column "),
    ],
)
def test_mistakes_in_toml_are_told_with_their_line(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_toml(text)
    assert str(caught.value).startswith(error)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/:?#%"), min_size=1, max_size=20).filter(
    lambda text: not any(c.isspace() or ord(c) < 32 for c in text)
)
RULES = st.sampled_from(("1", "23", str(2**63 - 1)))
SPLITS = st.dictionaries(RULES, st.integers(1, 100) | st.floats(0.5, 100), max_size=3).map(SplitRule)
MIRRORS = st.builds(MirrorRule, RULES, share=st.floats(0.001, 1), tolerance=st.floats(0, 1))
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
    traffic=SPLITS,
    shadow=st.none() | MIRRORS,
    pinned=st.booleans(),
)
CONFIGS = st.lists(MODELS, max_size=3, unique_by=lambda model: model.name).map(
    lambda models: RepositoryConfig(models=tuple(models), default=models[-1].name if models else "")
)


@given(CONFIGS)
def test_toml_that_is_written_is_read_as_it_was(config: RepositoryConfig) -> None:
    assert read_toml(write_toml(config)) == config


def test_traffic_and_shadow_by_label() -> None:
    text = '[models.a]\npath = "/a"\nlabels = { new = 2 }\ntraffic = { new = 5, 1 = 95 }\nshadow = "new"\npinned = true'
    (model,) = read_toml(text).models
    assert (model.traffic, model.shadow, model.pinned) == (SplitRule({"new": 5, "1": 95}), MirrorRule("new"), True)
    config = RepositoryConfig(models=(model,))
    assert read_toml(write_toml(config)) == config


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("traffic = { new = 5 }", "line 3: model 'a': traffic: 'new' is no version and none of its labels"),
        ('traffic = { 1 = "x" }', "line 3: model 'a': traffic: the weight of '1' is a number, not 'x'"),
        ("traffic = { 1 = -1 }", "line 3: model 'a': the weight of '1' is a number from 0 on, not -1"),
        ("traffic = { 1 = 0 }", "line 3: model 'a': all weights are 0"),
        ('shadow = "new"', "line 3: model 'a': shadow: 'new' is no version and none of its labels"),
        ("shadow = { to = 1, shares = 1 }", "line 3: model 'a': shadow: unknown key 'shares': there are to, share"),
        ("shadow = { share = 1 }", "line 3: model 'a': shadow: to is missing"),
        ("shadow = { to = 1, share = 2 }", "line 3: model 'a': share is above 0 and up to 1, not 2"),
        ("pinned = 1", "line 3: model 'a': pinned is true or false, not 1"),
    ],
)
def test_mistakes_in_traffic(row: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_toml(f'[models.a]\npath = "/a"\n{row}')
    assert str(caught.value).startswith(error)


def test_places_are_checked_of_models_that_no_file_has() -> None:
    models = (ModelConfig(name="a", path="x"), ModelConfig(name="b", path="/b", engine="steam"))
    with pytest.raises(ConfigError) as caught:
        check_places(RepositoryConfig(models=models))
    assert [one.field for one in caught.value.mistakes] == ["path", "engine"]


@pytest.mark.parametrize(
    ("name", "text", "mistakes"),
    [
        (
            "c.toml",
            """default = "z"
[models.a]
path = "models/a"
engine = "tensorfow"
[models.a.labels]
good = 1
bad = -1
[models.b]
platform = "onnxx"
path = "/b"
versions = [1]
labels = { stable = 9 }
warm_up = "yes"
[models.c]
path = "/c"
versions = [1]
labels = { stable = 9 }
platform = "onnx"
engine = "onnx"
[models.d]
path = "d"
platform = "tensorfow"
""",
            [
                "line 1: the default model 'z' is not configured; there are 'a', 'b', 'c', 'd'",
                "line 3: model 'a': the path 'models/a' is relative",
                "line 4: model 'a': unknown engine 'tensorfow' (did you mean 'tensorflow'?): there are ",
                "line 7: model 'a': label 'bad': a version is 0 or more, not -1",
                "line 9: model 'b': unknown engine 'onnxx' (did you mean 'onnx'?)",
                "line 12: model 'b': label 'stable' names version 9, but only 1 are served",
                "line 13: model 'b': warm_up is true or false, not 'yes'",
                "line 17: model 'c': label 'stable' names version 9, but only 1 are served",
                "line 18: model 'c': platform is another word for engine: give one",
                "line 21: model 'd': the path 'd' is relative: give an absolute path or a URL",
                "line 22: model 'd': unknown engine 'tensorfow' (did you mean 'tensorflow'?): there are ",
            ],
        ),
        (
            "c.txt",
            """model_config_list {
  config { name: "a"
    base_path: "a"
    model_platform: "tensorfow"
    model_version_policy { specific { versions: 1 } }
    version_labels { key: "ok" value: 1 }
    version_labels { key: "stable" value: 9 }
  }
  config { name: "b c" }
}
""",
            [
                "line 3: model 'a': the path 'a' is relative",
                "line 4: model 'a': unknown engine 'tensorfow' (did you mean 'tensorflow'?)",
                "line 7: model 'a': label 'stable' names version 9, but only 1 are served",
                "line 9: model name 'b c': 1 to 200 characters",
                "line 9: model 'b c': a path is needed",
            ],
        ),
        (
            "c.json",
            """{"model_config_list": [
{"name": "a", "base_path": "/a", "platform": "pmml"},
{"name": "b", "base_path": "/b", "platform": "onnx",
 "sesion_config": {}}
], "x": 1}""",
            [
                "line 2: model 1 of model_config_list: no engine for the platform 'pmml'",
                "line 4: model 2 of model_config_list: unknown key 'sesion_config'",
                "line 5: unknown key 'x'",
            ],
        ),
    ],
)
def test_every_mistake_of_a_file_is_told(tmp_path: Path, name: str, text: str, mistakes: list[str]) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    told = [str(one) for one in caught.value.mistakes]
    assert len(told) == len(mistakes), told
    for one, expected in zip(told, mistakes, strict=True):
        assert one.startswith(f"{path}: {expected}")
        assert one.removeprefix(f"{path}: ") in str(caught.value)


def test_an_engine_may_be_called_platform() -> None:
    (model,) = read_toml('[models.a]\npath = "/a"\nplatform = "onnx"').models
    assert model == ModelConfig(name="a", path="/a", engine="onnx")


def test_what_a_file_says_without_effect_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"model_config_list": [{"name": "a", "base_path": "/a", "session_config": {"x": 1}}]}')
    assert load_config(path) == read_config(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: line 1: model 1 of model_config_list: session_config: x has no effect here"
    ]


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
