"""Configurations of TensorFlow Serving and simple_tensorflow_serving, and that every mistake is told with its line."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.config_file import read_config
from tensorwire.servers.repository.sts_file import read_sts, sts_remarks, write_sts
from tensorwire.servers.repository.tfs_file import read_tfs, tfs_remarks, write_tfs
from tensorwire.servers.repository.toml_file import read_toml
from tensorwire.servers.routing.rules import MirrorRule, SplitRule


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
        ("model_config_list {\n config { name: 'a' } }", "line 2: model 'a': a path is needed"),
        ("model_config_list {\n\n config { base_path: '/a' } }", "line 3: model name ''"),
        ("model_config_list { config { \nname: 'a b' base_path: '/a' } }", "line 2: model name 'a b'"),
        (
            "model_config_list { config { name: 'a' base_path: '/a'\n model_type: OTHER } }",
            "line 2: model 'a': model_type OTHER names no platform",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { specific {} } } }",
            "line 1: model 'a': a specific version policy names no versions",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a'\n model_version_policy { specific { \n"
            "versions: 1 versions: -7 } } } }",
            "line 2: model 'a': a version is a number from 0 to 9223372036854775807, not -7",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } config <\n name: 'a' base_path: '/b' > }",
            "line 2: two models have the name 'a' (the first is in line 1)",
        ),
        (
            "model_config_list { config: [{ name: 'a' base_path: '/a' }, # name: 'b' {\n{ name: '{'\n }] }",
            "line 2: model '{': a path is needed",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a'\n version_labels { key: 'y' value: 1 }\n"
            "version_labels { key: 'x' value: -1 } } }",
            "line 3: model 'a': label 'x': a version is 0 or more, not -1",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' version_labels { key: 'x' value: 1 }\n"
            "version_labels { key: 'x' value: 2 } } }",
            "line 2: model 'a': label 'x' is given twice",
        ),
        (
            "# mine\ncustom_model_config { [type.googleapis.com/a.B] { x: 1 } }",
            "line 2: custom_model_config is for servers built with a loader of their own",
        ),
    ],
)
def test_mistakes_in_tensorflow_servings_text(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tfs(text)
    assert str(caught.value).startswith(error)


def test_what_tensorflow_serving_has_besides_is_read() -> None:
    config = read_tfs(
        """model_config_list { config { name: "a" base_path: "/a" model_type: TENSORFLOW
          logging_config {
            log_collector_config { type: "tfrecord" filename_prefix: "/logs/a" }
            sampling_config { sampling_rate: 0.1 }
          }
        } }"""
    )
    assert config.models == (ModelConfig(name="a", path="/a"),)
    assert config.remarks == ("line 2: model 'a': logging_config has no effect here",)


FULL_MODEL = ModelConfig(
    name="a",
    path="/a",
    engine="onnx",
    settle=3.0,
    ready_file="DONE",
    transition="resource",
    attempts=1,
    warm_up=False,
    pinned=True,
)
LEFT_OUT = [
    "default = 'a' is left out: the first model is the default of what is written",
    "model 'a': settle = 3.0 is left out",
    "model 'a': ready_file = 'DONE' is left out",
    "model 'a': transition = 'resource' is left out",
    "model 'a': attempts = 1 is left out",
    "model 'a': warm_up = False is left out",
    "model 'a': pinned = True is left out",
]
"""What is told of it by every format but ours, when it is the default and not the first."""


def test_what_tensorflow_servings_format_cannot_say_is_told() -> None:
    config = RepositoryConfig(models=(ModelConfig(name="b", path="/b"), FULL_MODEL), default="a")
    assert read_tfs(write_tfs(config)).models[1] == ModelConfig(name="a", path="/a", engine="onnx")
    assert tfs_remarks(config) == [
        *LEFT_OUT,
        "model 'a': TensorFlow Serving does not know the platform 'onnx'",
    ]
    assert tfs_remarks(read_tfs(write_tfs(read_toml('[models.a]\npath = "/a"')))) == []
    for model in (
        ModelConfig(name="a", path="/a", options={"outputs": "y"}),
        ModelConfig(name="a", path="/a", traffic=SplitRule({"1": 1})),
        ModelConfig(name="a", path="/a", shadow=MirrorRule("1")),
    ):
        with pytest.raises(ConfigError, match="model 'a': TensorFlow Serving's format has no place for "):
            write_tfs(RepositoryConfig(models=(model,)))


def test_simple_tensorflow_servings_json_is_written() -> None:
    text = """{
  "model_config_list": [
    {
      "name": "a",
      "base_path": "/models/a",
      "platform": "tensorflow",
      "custom_op_paths": "/x.so,/y.so",
      "session_config": {
        "allow_growth": true,
        "intra_op_parallelism_threads": 2
      }
    },
    {
      "name": "b",
      "base_path": "/models/b.pkl",
      "platform": "scikitlearn"
    },
    {
      "name": "c",
      "base_path": "/models/mx",
      "platform": "mxnet"
    }
  ]
}
"""
    config = read_sts(text)
    assert write_sts(config) == text
    assert sts_remarks(config) == []
    symbol = replace(config.models[2], path="/models/mx-symbol.json")
    assert write_sts(replace(config, models=(*config.models[:2], symbol))) == text


def test_what_simple_tensorflow_servings_format_cannot_say_is_told(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    first = ModelConfig(name="b", path="/b", policy=VersionPolicy(latest=2), labels={"stable": 1})
    config = RepositoryConfig(models=(first, replace(FULL_MODEL, path=str(tmp_path))), default="a")
    assert read_sts(write_sts(config)).models == (
        ModelConfig(name="b", path="/b", engine="tensorflow", policy=VersionPolicy(latest=0)),
        ModelConfig(name="a", path=str(tmp_path), engine="onnx", policy=VersionPolicy(latest=0)),
    )
    assert sts_remarks(config) == [
        *LEFT_OUT,
        "model 'b': no engine is named: written as platform 'tensorflow'",
        "model 'b': versions is left out: simple_tensorflow_serving serves all that are there",
        "model 'b': labels = {'stable': 1} is left out",
        "model 'a': versions is left out: simple_tensorflow_serving serves all that are there",
        "model 'a': simple_tensorflow_serving wants the model itself as base_path of onnx, no versions",
    ]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"traffic": SplitRule({"1": 1})}, "format has no place for traffic and shadow"),
        ({"shadow": MirrorRule("1")}, "format has no place for traffic and shadow"),
        ({"policy": VersionPolicy(specific=(1,))}, "serves all versions, and cannot be told which"),
        ({"engine": "torch"}, "has no engine 'torch', but mxnet, onnx, sklearn, tensorflow, xgboost"),
        ({"options": {"outputs": "y", "memory_growth": True}}, "format has no place for options outputs"),
        ({"engine": "onnx", "options": {"custom_ops": "/x.so"}}, "format has no place for options custom_ops"),
    ],
)
def test_what_would_answer_otherwise_is_not_written(fields: dict[str, Any], error: str) -> None:
    config = RepositoryConfig(models=(ModelConfig(**{"name": "a", "path": "/a", **fields}),))
    with pytest.raises(ConfigError) as caught:
        write_sts(config)
    assert str(caught.value).startswith("model 'a': simple_tensorflow_serving") and str(caught.value).endswith(error)


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


def test_a_session_config_becomes_options() -> None:
    config = read_sts(
        """{"model_config_list": [
            {"name": "a", "base_path": "/a", "platform": "tensorflow", "session_config": {
                "log_device_placement": true, "allow_soft_placement": true,
                "allow_growth": true, "per_process_gpu_memory_fraction": 0.5, "intra_op_parallelism_threads": 2}},
            {"name": "b", "base_path": "/b", "platform": "onnx", "session_config": {"allow_growth": true}}]}"""
    )
    assert [model.options for model in config.models] == [{"memory_growth": True, "intra_op_num_threads": 2}, {}]
    assert config.remarks == (
        "line 3: model 1 of model_config_list: session_config: log_device_placement has no effect here",
        "line 3: model 1 of model_config_list: session_config: allow_soft_placement has no effect here",
        "line 4: model 1 of model_config_list: session_config: per_process_gpu_memory_fraction has no effect here",
        "line 5: model 2 of model_config_list: session_config: allow_growth has no effect here",
    )


def test_paths_of_simple_tensorflow_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs stay as they are, MXNet's is what the names of its files begin with, operators may be a folder of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlp").mkdir()
    (tmp_path / "mlp" / "mx-symbol.json").write_text("{}")
    (tmp_path / "ops").mkdir()
    for name in ("b.so", "a.so", "readme"):
        (tmp_path / "ops" / name).touch()
    rows = [
        {"name": "url", "base_path": "s3://bucket/model"},
        {"name": "prefix", "base_path": "./mlp/mx", "platform": "mxnet"},
        {"name": "folder", "base_path": "mlp", "platform": "mxnet"},
        {"name": "absent", "base_path": "mlp/other", "platform": "mxnet"},
        {"name": "ops", "base_path": "/a", "custom_op_paths": "./ops/,c.so"},
    ]
    models = {model.name: model for model in read_sts(json.dumps({"model_config_list": rows})).models}
    assert [models[name].path for name in ("url", "prefix", "folder", "absent")] == [
        "s3://bucket/model",
        str(tmp_path / "mlp/mx-symbol.json"),
        str(tmp_path / "mlp"),
        str(tmp_path / "mlp/other"),
    ]
    assert models["ops"].options == {"custom_ops": [str(tmp_path / name) for name in ("ops/a.so", "ops/b.so", "c.so")]}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "line 1: Expecting property name"),
        ("[" * 100_000, "values are nested too deeply"),
        ("[]", "no list 'model_config_list' in it"),
        ('{"model_config_list": [],\n"models": []}', "line 2: unknown key 'models': there is model_config_list"),
        (
            '{"model_config_list": [],\n\n"model_config_list": []}',
            "line 3: the key 'model_config_list' is given twice",
        ),
        ('{"model_config_list": [\n3]}', "line 2: model 1 of model_config_list is an object, not 3"),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a"},\n{"name": "b"}]}',
            "line 2: model 2 of model_config_list: base_path is missing",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a",\n"x": 1}]}',
            "line 2: model 1 of model_config_list: unknown key",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a",\n"na\\u006de": "b"}]}',
            "line 2: model 1 of model_config_list: the key 'name' is given twice",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path":\n3}]}',
            "line 1: model 1 of model_config_list: base_path is text, not 3",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a"\n, "platform": "pmml"}]}',
            "line 2: model 1 of model_config_list: no engine for the platform 'pmml' here; convert",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a", "platform": "tensorfow"}]}',
            "line 1: model 1 of model_config_list: unknown platform 'tensorfow' (did you mean 'tensorflow'?)",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a", "session_config": {\n"allow_growth": 1}}]}',
            "line 2: model 1 of model_config_list: session_config: allow_growth is true or false, not 1",
        ),
        (
            '{"model_config_list": [{"name": "a", "base_path": "/a"},\n{"name": "a", "base_path": "/b"}]}',
            "line 2: two models have the name 'a' (the first is in line 1)",
        ),
        (
            '{"model_config_list": [{"base_path": "/a",\n"name": "a b"}]}',
            "line 2: model name 'a b': 1 to 200 characters",
        ),
    ],
)
def test_mistakes_in_simple_tensorflow_servings_json(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_sts(text)
    assert str(caught.value).startswith(error)


def test_the_real_configurations_of_tensorflow_serving() -> None:
    folder = os.environ.get("TENSORWIRE_TEST_DATA")
    if not folder:
        pytest.skip("TENSORWIRE_TEST_DATA does not name a folder of test data")
    good = Path(folder) / "tensorflow_serving" / "good_model_config.txt"
    config = read_tfs(good.read_text())
    assert [model.name for model in config.models] == ["half_plus_two", "half_plus_three"]
    with pytest.raises(ConfigError, match=r"bad_model_config\.txt: line 1: "):
        read_config(Path(folder) / "tensorflow_serving" / "bad_model_config.txt")
