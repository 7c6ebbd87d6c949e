"""SavedModels whose variables are not all there: the file is named before TensorFlow looks for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_models as models
from tf_models import call, load, saved

from tensorwire.servers.engines.tf.model import plain
from tensorwire.servers.engines.tf.variables import _files
from tensorwire.servers.model import ModelError

pytestmark = pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow")

DATA = "variables/variables.data-00000-of-00001"
SHAPE = (100, 30)


def second_generation(path: Path) -> Path:
    tf = models.tensorflow()
    weight = tf.Variable(np.ones(SHAPE, np.float32))
    scale = tf.function(lambda x: {"y": x @ weight}, input_signature=[tf.TensorSpec([None, 100], tf.float32, "x")])
    return saved(path, variables=[weight, tf.Variable(["text", "of any length"])], serving_default=scale)


def first_generation(path: Path) -> Path:
    tf = models.tensorflow().compat.v1
    with models.tensorflow().Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 100], name="x")
        weights = [tf.get_variable(f"weight{i}", initializer=np.ones(SHAPE, np.float32)) for i in range(40)]
        signature = tf.saved_model.predict_signature_def({"x": x}, {"y": x @ weights[0]})
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
    builder.save()
    return path


@pytest.fixture(scope="module", params=[first_generation, second_generation], ids=["TensorFlow 1", "TensorFlow 2"])
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = request.param(tmp_path_factory.mktemp("model") / "m")
    return path


def test_a_missing_or_short_file_is_named(model: Path) -> None:
    data = model / DATA
    whole = data.read_bytes()
    for keep in (None, 0, len(whole) // 2, len(whole) - 1):
        data.unlink()
        expected = f"{model}: its variables are missing: no file {data}"
        if keep is not None:
            data.write_bytes(whole[:keep])
            sizes = f"{keep:,} bytes, {len(whole):,} are expected"
            expected = f"{model}: its variables are cut short: {data} has {sizes}"
        with pytest.raises(ModelError) as caught:
            load(model)
        assert str(caught.value) == expected
        data.write_bytes(whole)
    assert call(load(model), x=np.ones((2, 100), np.float32))["y"].tolist() == [[100.0] * 30] * 2


def test_an_index_that_cannot_be_read_is_left_to_tensorflow(model: Path) -> None:
    index = model / "variables/variables.index"
    whole = index.read_bytes()
    assert _files(index) == [(DATA, (model / DATA).stat().st_size)]
    try:
        for broken in (b"", whole[:-3], b"\xff" * len(whole), b"\xff" * (len(whole) - 48) + whole[-48:]):
            index.write_bytes(broken)
            assert _files(index) == []
            with pytest.raises(ModelError, match=r"TensorFlow 2\S+ cannot load it") as caught:
                load(model)
            assert "File " not in str(caught.value) and len(str(caught.value)) < 400
    finally:
        index.write_bytes(whole)


def test_files_of_data_may_be_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

    from tensorwire.servers.engines.tf import variables

    entries = [(b"", BundleHeaderProto(num_shards=2).SerializeToString())]
    for name, shard, offset, size in ((b"a", 0, 0, 8), (b"b", 1, 100, 20), (b"c", 1, 0, 100)):
        entry = BundleEntryProto(shard_id=shard, offset=offset, size=size)
        entries.append((name, entry.SerializeToString()))
    monkeypatch.setattr(variables, "_entries", lambda _: iter(entries))
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/variables.index").touch()
    first, second = (tmp_path / f"variables/variables.data-0000{i}-of-00002" for i in range(2))
    first.write_bytes(bytes(8))
    with pytest.raises(ModelError, match=re.escape(f"no file {second}")):
        variables.check_variables(tmp_path)
    second.write_bytes(bytes(119))
    with pytest.raises(ModelError, match="00001-of-00002 has 119 bytes, 120 are expected"):
        variables.check_variables(tmp_path)
    second.write_bytes(bytes(120))
    variables.check_variables(tmp_path)


def test_an_error_is_told_without_where_its_node_was_made() -> None:
    trace = '  File "/a b/model.py", line 24, in <module>\n\n  File "/a/load.py", line 3, in load\n    call(it)\n'
    for frames in (trace, "<stack traces unavailable>\n"):
        detected = f"Detected at node save/RestoreV2 defined at (most recent call last):\n{frames}"
        text = f"Graph execution error:\n\n{detected}{detected}Read less bytes\n\t [[{{{{node save/RestoreV2}}}}]]"
        assert plain(RuntimeError(text)) == "Read less bytes"
