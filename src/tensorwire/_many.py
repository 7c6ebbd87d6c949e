"""Many requests in flight, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tensorwire._messages import Tensors

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["in_order", "in_order_async"]


def in_order(
    infer: Callable[[Any], Tensors], inputs: Iterable[Any], concurrency: int, progress: bool
) -> Iterator[Tensors]:
    """infer(each of inputs), ``concurrency`` at once in threads. Ends when the calls under way have ended."""
    from concurrent.futures import Future, ThreadPoolExecutor

    flying: deque[Future[Tensors]] = deque()
    rest = iter(inputs)
    with _bar(inputs, progress) as advance, ThreadPoolExecutor(concurrency, "tensorwire-infer") as pool:
        try:
            while True:
                for one in rest:
                    flying.append(pool.submit(infer, one))
                    if len(flying) == concurrency:
                        break
                if not flying:
                    return
                result = flying.popleft().result()
                advance()
                yield result
        finally:
            for future in flying:
                future.cancel()


async def in_order_async(
    infer: Callable[[Any], Awaitable[Tensors]],
    inputs: Iterable[Any] | AsyncIterable[Any],
    concurrency: int,
    progress: bool,
) -> AsyncIterator[Tensors]:
    """infer(each of inputs), ``concurrency`` at once in tasks. Cancels those under way when it is closed."""
    import asyncio

    flying: deque[asyncio.Future[Tensors]] = deque()
    own: AsyncGenerator[Any, None] | None = None
    rest: AsyncIterator[Any]
    if isinstance(inputs, AsyncIterable):
        rest = aiter(inputs)
    else:
        rest = own = _aiter(inputs)
    with _bar(inputs, progress) as advance:
        try:
            while True:
                async for one in rest:
                    flying.append(asyncio.ensure_future(infer(one)))
                    if len(flying) == concurrency:
                        break
                if not flying:
                    return
                result = await flying.popleft()
                advance()
                yield result
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
            if own is not None:
                await own.aclose()


async def _aiter(inputs: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for one in inputs:
        yield one


@contextmanager
def _bar(inputs: Any, progress: bool) -> Iterator[Callable[[], None]]:
    """A progress bar while the block runs; yields what moves it on by one."""
    if not progress:
        yield lambda: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError as error:
        text = "progress=True needs rich: pip install 'tensorwire[serve]'"
        raise ImportError(text, name=error.name) from error
    total = len(inputs) if hasattr(inputs, "__len__") else None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("infer", total=total)
        yield lambda: bar.advance(task)
