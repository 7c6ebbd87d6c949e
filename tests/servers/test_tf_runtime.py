"""What TensorFlow is told of devices and memory, with a tf.config that has GPUs; and what it may print."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_models as models

from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.tf import runtime
from tensorwire.servers.model import ModelError

GPUS = ("GPU 0", "GPU 1", "GPU 2")


class Experimental:
    def __init__(self, config: Config) -> None:
        self._config = config
        self.growth: dict[str, bool] = {}

    def set_memory_growth(self, gpu: str, growth: bool) -> None:
        if self.growth.get(gpu) == growth:
            return
        if self._config.running:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        self.growth[gpu] = growth

    def get_memory_growth(self, gpu: str) -> bool | None:
        return self.growth.get(gpu)


class Threading:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: 0


class Config:
    """tf.config of a host with GPUs; ``running``: devices can no longer be set."""

    def __init__(self, gpus: tuple[str, ...]) -> None:
        self.gpus = list(gpus)
        self.visible = list(gpus)
        self.running = False
        self.experimental = Experimental(self)
        self.threading = Threading()

    def list_physical_devices(self, kind: str) -> list[str]:
        assert kind == "GPU"
        return self.gpus

    def set_visible_devices(self, wanted: list[str], kind: str) -> None:
        assert kind == "GPU"
        if self.running and wanted != self.visible:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        self.visible = list(wanted)

    def get_visible_devices(self, kind: str) -> list[str]:
        assert kind == "GPU"
        return self.visible


class FakeTensorFlow:
    def __init__(self, gpus: tuple[str, ...] = GPUS, cuda: bool = True) -> None:
        self.config = Config(gpus)
        self.sysconfig = self
        self.cuda = cuda

    def get_build_info(self) -> dict[str, Any]:
        return {"is_cuda_build": self.cuda}

    def device(self, place: str) -> str:
        return f"placed on {place}"


@pytest.fixture
def tf(monkeypatch: pytest.MonkeyPatch) -> FakeTensorFlow:
    made = FakeTensorFlow()
    use(monkeypatch, made)
    return made


def use(monkeypatch: pytest.MonkeyPatch, made: FakeTensorFlow) -> None:
    def build_text(tf: Any) -> str:
        tf.config.running = True  # as the real one: it computes something
        return "TensorFlow"

    monkeypatch.setattr(runtime, "import_tensorflow", lambda path: made)
    monkeypatch.setattr(runtime, "build_text", build_text)


def start(**options: Any) -> runtime.Runtime:
    return runtime.start(Path("m"), Options("tensorflow", options))


@pytest.mark.parametrize(
    ("device", "visible", "found"),
    [
        ("cpu", (), ("cpu", "/CPU:0")),
        ("cuda", ("GPU 0",), ("cuda:0", "/GPU:0")),
        ("cuda:2", ("GPU 2",), ("cuda:2", "/GPU:0")),
        ("cuda:2,cuda:0", ("GPU 2", "GPU 0"), ("cuda:2", "/GPU:0")),
        (["gpu:1", "cpu"], ("GPU 1",), ("cuda:1", "/GPU:0")),
    ],
)
def test_the_gpus_that_are_named_are_those_that_tensorflow_sees(
    tf: FakeTensorFlow, device: Any, visible: tuple[str, ...], found: tuple[str, str]
) -> None:
    made = start(device=device)
    assert tuple(tf.config.visible) == visible
    assert (made.device, made.place) == found
    assert made.placed() == f"placed on {found[1]}"  # type: ignore[comparison-overlap]
    assert tf.config.experimental.growth == dict.fromkeys(visible, True)


@pytest.mark.parametrize("growth", [False, True])
def test_memory_growth_is_passed_on(tf: FakeTensorFlow, growth: bool, caplog: pytest.LogCaptureFixture) -> None:
    start(device="cuda:1", memory_growth=int(growth))
    start(device="cuda:1", memory_growth=int(growth))  # the second model of the process
    assert tf.config.experimental.growth == {"GPU 1": growth}
    assert not caplog.records


def test_memory_growth_that_comes_too_late_is_told(tf: FakeTensorFlow, caplog: pytest.LogCaptureFixture) -> None:
    start(device="cuda:1", memory_growth=1)
    start(device="cuda:1", memory_growth=0)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == (
        "memory_growth=0 has no effect: Physical devices cannot be modified after being initialized"
    )


def test_a_second_model_gets_a_gpu_that_the_first_one_has_named(tf: FakeTensorFlow) -> None:
    start(device="cuda:2,cuda:1")
    assert start(device="cuda:1").place == "/GPU:1"
    assert start(device="cpu").place == "/CPU:0"
    with pytest.raises(ModelError, match=r"m: TensorFlow runs in this process already, without cuda:0; name all GPUs"):
        start(device="cuda:0")


@pytest.mark.parametrize("cuda", [False, True])
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, cuda: bool) -> None:
    use(monkeypatch, FakeTensorFlow(GPUS[:1] if cuda else (), cuda))
    with pytest.raises(ModelError) as caught:
        start(device="cuda:1")
    if cuda:
        assert str(caught.value) == "m: no device 'cuda:1': there is cpu, cuda:0"
    else:
        assert "there is cpu; this TensorFlow is built without CUDA" in str(caught.value)
        assert start(device="cpu").place is None


WITH_LOGGING = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from tensorwire.servers.engines.tf.engine import ENGINE
ENGINE.load(Path(sys.argv[1]), options={})
"""


@pytest.mark.skipif(not models.HERE, reason="this model runs on TensorFlow")
def test_what_tensorflow_remarks_does_not_reach_the_log(tmp_path: Path) -> None:
    """It misses a fingerprint, at INFO, in models that older versions wrote."""
    tf = models.tensorflow()
    double = tf.function(lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    path = models.saved(tmp_path / "m", serving_default=double)
    (path / "fingerprint.pb").unlink()
    for level in (None, "0"):
        env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
        done = subprocess.run(
            [sys.executable, "-c", WITH_LOGGING, str(path)],
            env=env if level is None else {**env, "TF_CPP_MIN_LOG_LEVEL": level},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("ingerprint" in done.stderr) == (level == "0")
        assert level == "0" or done.stderr == ""
    assert models.call(models.load(path), x=np.ones(1, np.float32))["y"].tolist() == [2]
