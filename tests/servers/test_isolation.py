"""A model in a process of its own: the same answers, by shared memory, and what its end costs."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from descriptors import open_descriptors
from misbehaving_model import ACTS
from waiting import PATIENCE, wait_until

from tensorwire.servers.deadline import deadline
from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.isolation.model import IsolatedModel
from tensorwire.servers.isolation.target import make_target
from tensorwire.servers.model import DEFAULT_SIGNATURE, ModelError, ModelFailure, RequestError

ACT = "misbehaving_model:act"
LARGE = np.arange(1 << 18, dtype=np.float64)  # 2 MiB

Open = Callable[..., IsolatedModel]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Makes isolated models; all of them and their processes are gone at the end."""
    models: list[IsolatedModel] = []

    def make(target: Any = ACT, options: dict[str, Any] | None = None, *, memory: int = 0, **own: Any) -> IsolatedModel:
        models.append(IsolatedModel(make_target(target, None, options, memory), **own))
        return models[-1]

    yield make
    for model in models:
        model.close()
        assert model.join(PATIENCE)


def do(model: IsolatedModel, what: str, **inputs: Any) -> dict[str, Any]:
    feeds = {"do": np.array(what.encode(), object), **inputs}
    return dict(model.run(DEFAULT_SIGNATURE, feeds, ()))


def refused(model: IsolatedModel, what: str, code: int, **inputs: Any) -> str:
    with pytest.raises(RequestError) as caught:
        do(model, what, **inputs)
    assert caught.value.code == code
    return caught.value.message


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def where(array: Any) -> str:
    return str(ACTS["where"]({"x": array})["y"][0].decode())


def pid(model: IsolatedModel) -> int:
    return int(do(model, "pid")["y"])


def test_every_kind_of_tensor_comes_back_as_it_went(opened: Open) -> None:
    model = opened()
    assert pid(model) != os.getpid()
    assert pid(model) == pid(model)
    tensors = {
        "f": np.float32([[1.5, np.nan], [-0.0, np.inf]]),
        "d": LARGE,
        "bf": np.arange(6).astype(ml_dtypes.bfloat16).reshape(1, 2, 3),
        "e5": np.arange(3).astype(ml_dtypes.float8_e5m2),
        "c": np.array([1 + 2j]),
        "b": np.array([True, False]),
        "text": np.array([[b"a", b""], [b"\0\xff\0", b"long" * 100_000]], object),
        "none": np.zeros((0, 3), np.int8),
        "scalar": np.array(7, np.int64),
        "strided": LARGE[::2],
        "swapped": np.arange(3, dtype=">i4"),
    }
    found = do(model, "same", **tensors)
    assert list(found) == list(tensors)
    for name, sent in tensors.items():
        assert found[name].shape == sent.shape
        assert found[name].dtype == sent.dtype.newbyteorder("=")
        if sent.dtype == object:
            assert found[name].tolist() == sent.tolist()
        else:
            np.testing.assert_array_equal(np.ascontiguousarray(found[name]).view(np.uint8), found_bytes(sent))


def found_bytes(array: Any) -> Any:
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).view(np.uint8)


def test_the_description_is_the_models_own(opened: Open) -> None:
    here = load_model(DIGITS)
    model = opened(None)
    assert (model.name, model.version, model.description) == (here.name, here.version, here.description)
    assert dict(model.signatures) == dict(here.signatures)
    assert (model.concurrency, model.device, model.exact) == (here.concurrency, here.device, here.exact)
    assert model.facts == here.facts
    assert model.engine == f"{here.engine}, in a process of its own"
    assert model.ready
    assert model.status.startswith("process ")
    image = np.random.default_rng(1).random((5, 8, 8), np.float32)
    for outputs in (["label"], ["probabilities", "label"]):
        theirs = here.run(DEFAULT_SIGNATURE, {"image": image}, outputs)
        ours = model.run(DEFAULT_SIGNATURE, {"image": image}, outputs)
        assert set(ours) == set(outputs)
        for name in outputs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_large_tensors_are_in_shared_memory_on_both_sides(opened: Open) -> None:
    model = opened()
    found = do(model, "where", x=LARGE)
    assert "memfd:tensorwire" in found["y"][0].decode()  # where the model sees its input
    assert "memfd:tensorwire" in where(found["x"])  # and where its result is read
    assert address(found["x"]) % 64 == 0
    assert not found["x"].flags.writeable
    writable, aligned = do(model, "flags", x=LARGE)["y"]
    assert (writable, aligned) == (True, True)  # what frameworks want who take it in place


def test_blocks_are_used_again_once_no_array_refers_to_them(opened: Open) -> None:
    model = opened()
    first = do(model, "same", x=LARGE)["x"]
    places = {address(first)}
    view = first[10:20]
    del first
    for n in range(5):
        other = do(model, "same", x=LARGE + n)["x"]
        places.add(address(other))
        np.testing.assert_array_equal(view, LARGE[10:20])
        np.testing.assert_array_equal(other, LARGE + n)
        del other
    assert len(places) == 2  # one is held, the other one is used again and again
    held = view.__array_interface__["data"][0] - 10 * 8
    del view
    seen = set()
    for _ in range(4):
        seen.add(address(do(model, "same", x=LARGE)["x"]))
    assert held in seen | places
    assert len(seen | places) == 2
    lane = model._process.idle[0]  # type: ignore[union-attr]
    assert lane.reused == 8


def test_results_outlive_calls_crashes_and_the_model(opened: Open) -> None:
    model = opened()
    results = [do(model, "same", x=LARGE + n)["x"] for n in range(40)]
    assert len({address(result) for result in results}) == 40
    assert sum("memfd:tensorwire" in where(result) for result in results) == 32  # descriptors are few: more are copied
    refused(model, "segv", 503)
    model.close()
    assert model.join(PATIENCE)
    for n, result in enumerate(results):
        np.testing.assert_array_equal(result, LARGE + n)


def test_a_model_may_keep_its_inputs(opened: Open) -> None:
    model = opened()
    for n in range(3):
        do(model, "keep", x=LARGE + n)
        do(model, "same", x=LARGE * 0)
    for n, kept in enumerate(do(model, "kept").values()):
        np.testing.assert_array_equal(kept, LARGE + n)


def test_many_calls_of_many_sizes_from_several_threads(opened: Open) -> None:
    model = opened(options={"concurrency": 4})
    assert model.concurrency == 4

    def work(seed: int) -> int:
        random = np.random.default_rng(seed)
        held = []
        for _ in range(40):
            x = random.integers(0, 255, int(random.integers(0, 1 << int(random.integers(1, 22)))), np.uint8)
            found = do(model, "same", x=x)["x"]
            np.testing.assert_array_equal(found, x)
            held.append((x, found))
            if random.random() < 0.3:
                held.clear()
            for sent, came in held:
                assert sent.tobytes() == came.tobytes()
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 4
    assert model.restarts == 0


def test_what_the_model_raises_arrives_as_its_text(opened: Open) -> None:
    model = opened()
    for what, text in (
        ("raise", "ValueError: bad value"),
        ("leave", "SystemExit: bye"),
        ("none", "TypeError: None was returned where an array is expected"),
        ("nothing", "KeyError: 'nothing'"),
    ):
        with pytest.raises(ModelFailure) as caught:
            do(model, what)
        assert text in str(caught.value)
    assert refused(model, "refuse", 422) == "no digits in it"
    assert model.restarts == 0


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("exit", "ended with 7"),
        ("segv", "was ended by SIGSEGV"),
        ("kill", "was ended by SIGKILL"),
        ("close", "was killed: it had closed a connection"),
    ],
)
def test_a_crash_costs_the_calls_under_way_and_another_process_takes_over(
    opened: Open, what: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = opened(options={"concurrency": 3})
    before = pid(model)
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(refused, model, "wait", 503, **where_to_wait(tmp_path, name)) for name in "ab"]
        wait_until(lambda: (tmp_path / "begun-a").exists() and (tmp_path / "begun-b").exists())
        messages = [refused(model, what, 503), *(other.result(PATIENCE) for other in others)]
    for message in messages:
        assert f"the model's process {how}" in message
        assert message.endswith("while it ran this request, try again")
    wait_until(lambda: model.ready)
    assert pid(model) != before
    assert not Path(f"/proc/{before}").exists()  # and no zombie
    assert model.restarts == 1
    assert "restarts: 1, the last one " + how in model.status
    assert f"model 'act': its process {how}" in caplog.text
    np.testing.assert_array_equal(do(model, "same", x=LARGE)["x"], LARGE)


def where_to_wait(folder: Path, name: str) -> dict[str, Any]:
    return {"folder": np.array(str(folder).encode(), object), "name": np.array(name.encode(), object)}


@pytest.mark.parametrize("what", ["hang", "lock"])
def test_a_call_that_hangs_ends_with_its_process(opened: Open, what: str, tmp_path: Path) -> None:
    model = opened(options={"concurrency": 2}, timeout=0.5)
    with ThreadPoolExecutor(1) as pool:
        started = perf_counter()
        hanging = pool.submit(refused, model, what, 504)
        assert hanging.result(PATIENCE) == "a call had not ended after 0.5 s: the model's process was killed"
        assert perf_counter() - started >= 0.5
    wait_until(lambda: model.restarts == 1 and model.ready)
    assert "was killed: a call had not ended after 0.5 s" in model.status


def test_other_calls_of_a_process_that_hangs_are_503(opened: Open, tmp_path: Path) -> None:
    model = opened(options={"concurrency": 2}, grace=0.2)

    def late() -> str:
        deadline.set(perf_counter() + 0.1)
        return refused(model, "hang", 504)

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(refused, model, "wait", 503, **where_to_wait(tmp_path, "a"))
        wait_until((tmp_path / "begun-a").exists)
        assert pool.submit(late).result(PATIENCE) == "a call had not ended after 0.3 s: the model's process was killed"
        assert "was killed: a call had not ended after 0.3 s while it ran this request" in other.result(PATIENCE)


def test_a_model_that_cannot_be_loaded_says_what_it_says_in_this_process(opened: Open, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07garbage")
    for path, options in (
        (broken, {}),
        (DIGITS, {"colour": "red"}),
        (tmp_path / "not.here", {}),
        ("no_such:thing", {}),
    ):
        with pytest.raises(ModelError) as here:
            load_model(path, options=options)
        with pytest.raises(ModelError) as there:
            opened(path, options)
        assert str(there.value) == str(here.value)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("model-")]


def test_a_process_that_ends_while_it_loads_is_told_of(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "die").touch()
    with pytest.raises(ModelError, match=r"misbehaving_model:flaky: the process that loads it ended with 9"):
        opened("misbehaving_model:flaky", {"folder": str(tmp_path)})


def test_a_crash_loop_backs_off_and_ends_when_the_cause_is_gone(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = opened("misbehaving_model:flaky", {"folder": str(tmp_path)})
    (tmp_path / "die").touch()
    refused(model, "exit", 503)
    wait_until(lambda: model.restarts >= 3)
    assert not model.ready
    assert refused(model, "same", 503) == "the model's process ended with 9; another one loads the model"
    (tmp_path / "die").rename(tmp_path / "raise")
    wait_until(lambda: "ValueError: not today" in model.status)
    (tmp_path / "raise").rename(tmp_path / "other")
    wait_until(lambda: "loaded a model of other signatures than before" in model.status)
    assert not model.ready
    (tmp_path / "other").unlink()
    wait_until(lambda: model.ready)
    assert do(model, "same", x=LARGE)["x"].shape == LARGE.shape
    pauses = [record.args[2] for record in caplog.records if record.name == "tensorwire.service"]  # type: ignore[index]
    assert len(pauses) >= 5
    assert pauses == [min(0.1 * 2**n, 5.0) for n in range(len(pauses))]


def test_memory_limit_of_the_process(opened: Open) -> None:
    model = opened(memory=1 << 30)
    with pytest.raises(ModelFailure, match="MemoryError"):
        do(model, "hog")
    np.testing.assert_array_equal(do(model, "same", x=LARGE)["x"], LARGE)
    assert model.restarts == 0


def test_what_the_process_prints_is_in_the_log(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tensorwire.model")
    model = opened()
    do(model, "print")
    prefix = f"model process {pid(model)}: "
    wait_until(lambda: any("said on stderr" in text for text in caplog.messages))
    wait_until(lambda: sum(text.count("x") for text in caplog.messages) >= 10_000)
    assert prefix + "said on stdout" in caplog.messages
    assert prefix + "said on stderr" in caplog.messages
    assert max(map(len, caplog.messages)) < 5000


def test_close_ends_the_process_in_good_order_and_gives_everything_back(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tensorwire.model")
    gc.collect()  # what earlier tests left in cycles
    fds, threads = open_descriptors(), threading.active_count()
    model = opened("misbehaving_model:Closing", {"concurrency": 2})
    process = model.status.split()[1].rstrip(",")
    assert Path(f"/proc/{process}").exists()
    for _ in range(3):
        model.run(DEFAULT_SIGNATURE, {"x": LARGE}, ())
    assert "memfd:tensorwire" in Path("/proc/self/maps").read_text()
    model.close()
    model.close()
    assert model.join(PATIENCE)
    assert not model.ready
    assert any("closed in good order" in text for text in caplog.messages)
    with pytest.raises(RequestError, match="model 'Closing' is closed"):
        model.run(DEFAULT_SIGNATURE, {"x": LARGE}, ())
    assert not Path(f"/proc/{process}").exists()
    assert "memfd:tensorwire" not in Path("/proc/self/maps").read_text()
    assert (open_descriptors(), threading.active_count()) == (fds, threads)


def test_a_process_that_does_not_end_is_killed(opened: Open) -> None:
    model = opened()
    process = pid(model)
    thread = threading.Thread(target=refused, args=(model, "lock", 503))
    thread.start()
    model.close()
    assert model.join(PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not Path(f"/proc/{process}").exists()


def test_a_process_that_left_a_child_behind_is_missed_all_the_same(opened: Open) -> None:
    model = opened()
    orphan = int(do(model, "fork")["y"])
    try:
        assert "was ended by SIGKILL" in refused(model, "kill", 503)
        wait_until(lambda: model.ready)
    finally:
        os.kill(orphan, 9)
