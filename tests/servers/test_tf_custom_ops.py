"""TensorFlow: operations from a library, compiled here with the headers that TensorFlow brings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tf_models as models
from tf_models import call, load

from tensorwire.servers.model import ModelError

SOURCE = """
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"

REGISTER_OP("TensorwireIncrement").Input("x: float").Output("y: float");

class Increment : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(tensorflow::OpKernelContext* context) override {
    const tensorflow::Tensor& x = context->input(0);
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    y->flat<float>() = x.flat<float>() + 1.0f;
  }
};

REGISTER_KERNEL_BUILDER(Name("TensorwireIncrement").Device(tensorflow::DEVICE_CPU), Increment);
"""


@pytest.mark.slow
@pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_an_operation_of_a_library(tmp_path: Path) -> None:
    tf = models.tensorflow()
    graph = tf.compat.v1.GraphDef()
    x, y = graph.node.add(name="x", op="Placeholder"), graph.node.add(name="y", op="TensorwireIncrement", input=["x"])
    x.attr["dtype"].type = tf.float32.as_datatype_enum
    assert y.input == ["x"]
    path = tmp_path / "m.pb"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match="has no operation 'TensorwireIncrement': name the library"):
        load(path)
    (tmp_path / "ops.cc").write_text(SOURCE)
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    compiled = subprocess.run(
        ["g++", "-O1", "-w", "-shared", "-fPIC", "-o", "ops.so", "ops.cc", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    model = load(path, custom_ops=str(tmp_path / "ops.so"))
    assert call(model, **{"x:0": np.arange(3, dtype=np.float32)})["y:0"].tolist() == [1, 2, 3]
