"""All configured models: which there are, what becomes of them, and who looks after each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path

from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.repository.loading import Load, Loader
from tensorwire.servers.repository.managed import ManagedModel, Publisher
from tensorwire.servers.repository.room import Resident, Room
from tensorwire.servers.repository.watching import Watcher

__all__ = ["Repository"]

_log = logging.getLogger("tensorwire.repository")
_SELDOM = 10.0  # seconds between two looks at a base path that is watched, should its file system not tell
_MARGIN = 0.02  # seconds, so that the settle time is over for certain


class Repository:
    """Keeps models in line with a configuration and with the disk, on one event loop's thread.

    ``load`` loads a model, in one of ``threads`` threads; ``is_model`` says whether an engine recognizes a path;
    ``publisher`` sends requests to what is loaded. ``poll``: seconds between two looks at the disk (0: only at the
    start and when told to); ``watch``: look when the system tells of a change, and at the clock's call seldom.
    ``memory`` and ``on_demand``: bytes that models may take together (0: any number), and what becomes of those that
    have no room; see Room. ``cache``: the folder for models from URLs (None: source.default_cache()).
    """

    def __init__(
        self,
        config: RepositoryConfig,
        *,
        load: Load,
        is_model: Callable[[Path], bool],
        publisher: Publisher,
        poll: float = 1.0,
        watch: bool = True,
        threads: int = 4,
        memory: int = 0,
        on_demand: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.config = config
        self.room = Room(memory, on_demand, self._residents)
        self._loader = Loader(load, is_model, threads=threads, exact=bool(memory))
        self._is_model = is_model
        self._publisher = publisher
        self._poll = poll
        self._cache = cache
        self._keepers: dict[str, _Keeper] = {}
        self._ending: dict[str, asyncio.Future[Awaitable[None]]] = {}
        self._watcher = Watcher(self.wake) if watch and poll else None

    @property
    def models(self) -> dict[str, ManagedModel]:
        """The models under care, by name, in the order of the configuration."""
        order = {model.name: place for place, model in enumerate(self.config.models)}
        names = sorted(self._keepers, key=lambda name: order.get(name, len(order)))
        return {name: self._keepers[name].model for name in names}

    @property
    def ready(self) -> bool:
        """Every configured model has a version that serves, or will when it is asked for."""
        return all(
            (keeper := self._keepers.get(model.name)) is not None and keeper.model.ready
            for model in self.config.models
        )

    def start(self) -> None:
        """Begin to load what is configured, all at once, and to look at the disk. Where room is limited, the first
        models have the first claim to it.
        """
        before: _Keeper | None = None
        for model in self.config.models:
            before = self._keep(model, before if self.room.limit else None)
        self._watch()

    async def settled(self) -> None:
        """Wait until every model has been looked at once since it was configured."""
        await asyncio.gather(*[keeper.looked.wait() for keeper in self._keepers.values()])

    async def apply(self, config: RepositoryConfig, gone: Callable[[str], None] = lambda name: None) -> None:
        """Take a new configuration: models that are not in it are unloaded, new ones loaded, changed ones looked at.

        A changed model whose engine, path or options are others is loaded anew before what serves is unloaded. Returns
        when that has been done, whether it went well or not; ``models`` has the outcome. ``gone`` is called with the
        name of a model that is unloaded, once it has no version and is not wanted again. Configurations may overlap:
        each counts from the call on, and a model that comes back waits until what it was is withdrawn.
        """
        self.config = config
        wanted = {model.name for model in config.models}
        steps: list[Awaitable[object]] = []
        for name in list(self._keepers):
            if name not in wanted:
                ending = asyncio.ensure_future(self._keepers.pop(name).end())
                self._ending[name] = ending
                steps.append(self._ended(name, ending, gone))
        for model in config.models:
            keeper = self._keepers.get(model.name)
            if keeper is None:
                steps.append(self._keep(model).looked.wait())
            elif keeper.model.config != model:
                steps.append(keeper.model.configure(model))
        self._watch()
        await asyncio.gather(*steps)
        self._watch()  # models that have moved

    async def _ended(self, name: str, ending: asyncio.Future[Awaitable[None]], gone: Callable[[str], None]) -> None:
        """See a model off: withdrawn at once, and finished when it has answered what it had."""
        finished = await ending
        if self._ending.get(name) is ending:
            del self._ending[name]
        if name not in self._keepers:
            gone(name)
        await finished

    def wake(self, name: str, folders: Collection[str] | None = None) -> None:
        """Something has changed under a model's base path, in these folders of it (None: in any): look at it now."""
        keeper = self._keepers.get(name)
        if keeper is not None:
            keeper.model.source.doubt(folders)
            keeper.wake.set()

    async def reload(self, name: str) -> None:
        """Load the wanted versions of a model again, changed or not; returns when that is done, well or not."""
        keeper = self._keepers.get(name)
        if keeper is not None:
            await keeper.model.reconcile(force=True)

    async def demand(self, name: str, number: int) -> str:
        """Load a version that is asleep, because it is asked for; returns why it does not serve then, or ''."""
        keeper = self._keepers.get(name)
        if keeper is None:
            return f"model {name!r} is no longer configured"
        return await keeper.model.wake(number)

    async def close(self) -> None:
        """Stop looking, and unload everything."""
        keepers, self._keepers = list(self._keepers.values()), {}
        self._loader.close()
        if self._watcher is not None:
            await self._watcher.close()
        for finished in await asyncio.gather(*[keeper.end() for keeper in keepers], *self._ending.values()):
            await finished

    def _residents(self) -> Iterator[Resident]:
        for keeper in self._keepers.values():
            yield from keeper.model.residents()

    def _keep(self, config: ModelConfig, after: _Keeper | None = None) -> _Keeper:
        model = ManagedModel(config, self._loader, self._publisher, self._is_model, self.room, self._cache)
        keeper = self._keepers[config.name] = _Keeper(
            model, self._pause, self._ending.get(config.name), after.first if after is not None else None
        )
        return keeper

    def _watch(self) -> None:
        if self._watcher is not None:
            bases = {name: keeper.model.source.base for name, keeper in self._keepers.items()}
            self._watcher.watch({name: base for name, base in bases.items() if base is not None})

    def _pause(self, model: ManagedModel) -> float | None:
        """Seconds until the next look at a model's files; None: when something wakes it."""
        if model.waiting:
            return min(model.config.settle, self._poll or model.config.settle) + _MARGIN
        if self._watcher is not None and self._watcher.watches(model.config.name):
            return max(self._poll, _SELDOM)
        return self._poll or None


class _Keeper:
    """The task that looks after one model. ``wake`` asks for a look now; ``looked`` is set after the first look that
    found no files still changing, or when those do not come to rest.
    """

    def __init__(
        self,
        model: ManagedModel,
        pause: Callable[[ManagedModel], float | None],
        before: asyncio.Future[Awaitable[None]] | None,
        after: asyncio.Event | None,
    ) -> None:
        """``before``: the end of the model that has had the name. ``after``: when to begin; ``first`` is set when a
        first look has been taken.
        """
        self.model = model
        self.first = asyncio.Event()
        self._before = before
        self._after = after
        self.looked = asyncio.Event()
        self.wake = asyncio.Event()
        self._pause = pause
        self._patience = time.monotonic() + 3 * model.config.settle
        self._task = asyncio.ensure_future(self._run())

    async def end(self) -> Awaitable[None]:
        """Stop looking and withdraw the model's versions; what is returned ends when they have answered all."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        self.first.set()  # whoever comes after it waits no longer
        return await self.model.close()

    async def _run(self) -> None:
        if self._before is not None:
            await asyncio.wait((self._before,))
        if self._after is not None:
            await self._after.wait()
        while True:
            self.wake.clear()
            try:
                await self.model.reconcile()
            except Exception:
                _log.exception("model %r could not be looked after", self.model.config.name)
            self.first.set()
            if not self.model.waiting or time.monotonic() > self._patience:
                self.looked.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause(self.model)):  # 3.11's wait_for may lose a cancellation
                    await self.wake.wait()
