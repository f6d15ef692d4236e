"""The child that renders: its bounds, what becomes of others when it is killed, and what it is not told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from controller import errors
from controller.context import renderer as module
from controller.context.renderer import MEMORY_BYTES, ChildRenderer
from controller.ports import Renderer, RenderRequest
from tests.simulated.renderer import InlineRenderer
from tests.unit.context.values import CANARY, VALUES, leaks

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def _request(body: str, limit_bytes: int = 65536) -> RenderRequest:
    return RenderRequest(f"#!\n{body}", "web", VALUES, limit_bytes)


def _with_renderer(use: Callable[[ChildRenderer], Awaitable[None]], seconds: float = 2.0, memory_bytes: int = 256 * 1024**2) -> None:
    async def run() -> None:
        renderer = ChildRenderer(seconds, memory_bytes)
        try:
            await use(renderer)
        finally:
            await renderer.close()

    asyncio.run(run())


def _children() -> set[int]:
    return {int(each) for task in Path("/proc/self/task").iterdir() for each in _of_thread(task)}


def _of_thread(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []  # a thread of an earlier test has ended since it was listed; its children count as another thread's


def test_renders_as_the_inline_one_does() -> None:
    async def use(renderer: ChildRenderer) -> None:
        inline: Renderer = InlineRenderer()
        for body in ("{{ getip('db') }} é\n", "{{ variables }}", "a" * 9000):
            assert await renderer.render(_request(body, 5000)) == await inline.render(_request(body, 5000))
        for body in ("{{ variables.typo }}", "{% if %}"):
            for each in (renderer, inline):
                with pytest.raises(errors.TemplateError) as caught:
                    await each.render(_request(body))
                assert caught.value.line == 2
        for each in (renderer, inline):
            with pytest.raises(errors.TooLarge) as too_large:
                await each.render(_request("{% for i in range(999) %}{{ i }}{% endfor %}", 100))
            assert too_large.value.limit_bytes == 100

    _with_renderer(use)


def test_another_process_orders_what_has_no_order_alike() -> None:
    """What is left of a mapping's keys is a set; a launch that is sent again after a restart has to be the same."""
    body = "{% set it = " + str(dict.fromkeys("abcdefghij", 1)) + " %}{{ (it.keys() - ['a']) | join }}"
    given: set[bytes] = set()

    async def use(renderer: ChildRenderer) -> None:
        given.add(await renderer.render(_request(body)))

    for _ in range(2):
        _with_renderer(use)
    assert len(given) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(ENDLESS, id="nested-ranges"),
        pytest.param("{{ 'a' * 10 ** 9 }}", id="gigabyte"),
        pytest.param("{{ 9 ** 9 ** 9 }}", id="huge-power"),
        pytest.param("{{ '%1000000000d' | format(1) }}", id="padded"),
        pytest.param("{{ 'a' | indent(10 ** 9, true) }}", id="indented"),
        pytest.param("{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", id="doubled"),
        pytest.param("{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", id="doubled-list"),
        pytest.param("{{ [[0] * 10 ** 9] }}", id="long-list"),
        pytest.param("{{ range(99999) | map('string') | map('replace', '', 'a' * 99999) | list }}", id="mapped"),
        pytest.param("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", id="endless-macro"),
        pytest.param("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", id="endless-loop"),
        pytest.param("{{ " + "[" * 9999, id="deep-list"),
        pytest.param("{{ 1" + " ~ 1" * 9999 + " }}", id="long-join"),
        pytest.param("{{ 1" + " + 1" * 9999 + " }}", id="long-sum"),
        pytest.param("{{ 'a' | batch(10 ** 9, 'x') | list }}", id="batch"),
        pytest.param("{{ 'a'.zfill(10 ** 9) }}", id="zfill"),
        pytest.param("{{ ('a' * 9999999).split('') }}", id="split"),
    ],
)
def test_bounded(body: str) -> None:
    """Each ends in an error or in a text, within the time, and the next render is not harmed."""

    async def use(renderer: ChildRenderer) -> None:
        await renderer.render(_request("warm"))
        begun = time.monotonic()
        assert len(await _outcome(renderer, body)) < 2**20
        assert time.monotonic() - begun < 10
        assert await renderer.render(_request("{{ service }}")) == b"#!\nweb"

    _with_renderer(use, seconds=1.0)


async def _outcome(renderer: Renderer, body: str) -> bytes:
    try:
        return await renderer.render(_request(body))
    except errors.TemplateError as error:
        return str(error).encode()


def test_no_template_takes_what_the_operator_needs_of_their_container() -> None:
    """With 1,000 Instances the operator has 350 MB at most (docs/benchmark.md)."""
    (limit,) = re.findall(r"limits: \{memory: (\d+)Mi\}", Path("deploy/operator.yaml").read_text())
    assert int(limit) * 1024**2 >= MEMORY_BYTES + 350e6


def test_time_and_memory_are_named() -> None:
    async def use(renderer: ChildRenderer) -> None:
        for body, words in ((ENDLESS, "took longer than 0.5 s"), ("{{ 'a' * 10 ** 9 }}", "needed more than 64 MiB")):
            with pytest.raises(errors.TemplateError) as caught:
                await renderer.render(_request(body))
            assert words in caught.value.why

    _with_renderer(use, seconds=0.5, memory_bytes=64 * 1024**2)


def test_who_waits_is_not_harmed() -> None:
    async def use(renderer: ChildRenderer) -> None:
        bodies = [f"{{{{ {number} }}}}" for number in range(20)]
        for body in bodies:
            await renderer.render(_request(body))
        bodies[3] = bodies[11] = ENDLESS
        bodies[7] = "{{ 'a' * 10 ** 9 }}"
        results = await asyncio.gather(*(renderer.render(_request(body)) for body in bodies), return_exceptions=True)
        for number, result in enumerate(results):
            if number in (3, 7, 11):
                assert isinstance(result, errors.TemplateError | errors.RendererFailed)
            else:
                assert result == f"#!\n{number}".encode()

    _with_renderer(use, seconds=0.5)


def test_memory_that_others_used_is_not_this_templates_fault() -> None:
    """Compiled templates are kept, with what Jinja2 computed of them; a child that is full is replaced before it is believed."""

    async def use(renderer: ChildRenderer) -> None:
        for number in range(8):
            body = f"{{{{ 'a' | indent({number} + 20000000, true) | length }}}}"
            assert (await renderer.render(_request(body))).startswith(b"#!\n2")

    _with_renderer(use, memory_bytes=160 * 1024**2)


def test_a_child_that_was_killed_is_replaced() -> None:
    async def use(renderer: ChildRenderer) -> None:
        before = _children()
        await renderer.render(_request("1"))
        (child,) = _children() - before
        await renderer.render(_request("2"))
        assert _children() - before == {child}
        os.kill(child, signal.SIGKILL)
        assert await renderer.render(_request("3")) == b"#!\n3"

    _with_renderer(use)


def test_a_caller_that_gives_up_leaves_no_late_reply() -> None:
    async def use(renderer: ChildRenderer) -> None:
        await renderer.render(_request("warm"))
        task = asyncio.create_task(
            renderer.render(_request("{% for a in range(99999) %}{% for b in range(20) %}{% endfor %}{% endfor %}late"))
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await renderer.render(_request("next")) == b"#!\nnext"

    _with_renderer(use)


def test_close_ends_the_child_and_may_be_repeated() -> None:
    before = _children()

    async def use(renderer: ChildRenderer) -> None:
        await renderer.close()
        await renderer.render(_request("1"))
        assert len(_children() - before) == 1
        await renderer.close()
        assert _children() == before

    _with_renderer(use)


def test_the_child_is_told_nothing_beside_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("PYTHONSTARTUP", CANARY)

    async def use(renderer: ChildRenderer) -> None:
        before = _children()
        await renderer.render(_request("{{ variables.password }}"))
        (child,) = _children() - before
        told = Path(f"/proc/{child}/environ").read_bytes() + Path(f"/proc/{child}/cmdline").read_bytes()
        assert b"controller.context.child" in told
        assert not leaks(told.decode())
        names = {each.partition(b"=")[0] for each in Path(f"/proc/{child}/environ").read_bytes().split(b"\0") if each}
        assert names <= {b"PYTHONPATH", b"PYTHONHASHSEED", b"LD_LIBRARY_PATH", b"LC_CTYPE"}

    _with_renderer(use)


def test_a_child_whose_parent_is_gone_ends() -> None:
    """Its stdin ends with its parent."""

    async def run() -> int:
        renderer = ChildRenderer()
        before = _children()
        await renderer.render(_request("1"))
        (child,) = _children() - before
        process = renderer._child  # pyright: ignore[reportPrivateUsage] (what a dead parent leaves behind has no name)
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await renderer.close()
        return child

    assert asyncio.run(run()) not in _children()


def test_a_child_that_the_machine_gives_no_time_is_waited_for() -> None:
    """Nothing is held against a template but the processor time that it takes."""

    async def use(renderer: ChildRenderer) -> None:
        before = _children()
        await renderer.render(_request("warm"))
        (child,) = _children() - before
        os.kill(child, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(1.0, os.kill, child, signal.SIGCONT)
        assert await renderer.render(_request("late")) == b"#!\nlate"

    _with_renderer(use, seconds=0.5)


def _stand_in(path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Callable[[], int]:
    """Another program in the child's place; how often it was started."""
    program, started = path / "python", path / "started"
    program.write_text(f"#!/bin/sh\necho >> {started}\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    return lambda: len(started.read_text().splitlines()) if started.exists() else 0


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param("exit 1", errors.RendererFailed, id="ends-at-once"),
        pytest.param("echo 1; read line; kill -KILL $$", errors.RendererFailed, id="killed"),
        pytest.param("echo 1; read line; kill -TERM $$", errors.RendererFailed, id="ended-by-others"),
        pytest.param("echo 1; read line; exec sleep 60", errors.RendererFailed, id="silent"),
        pytest.param("exec sleep 60", errors.RendererFailed, id="silent-from-the-first"),
        pytest.param("echo 1; read line; kill -SEGV $$", errors.TooCostly, id="overflow"),
        pytest.param("echo 1; read line; kill -PROF $$", errors.TooCostly, id="time"),
        pytest.param("echo 1; read line; exit 1", errors.TooCostly, id="no-memory-to-say-so"),
        pytest.param("echo 1; read line; echo '{\"memory\": true}'", errors.TooCostly, id="memory"),
    ],
)
def test_how_a_child_ends_says_who_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[errors.OccopusError]
) -> None:
    _stand_in(tmp_path, monkeypatch, script)

    async def run() -> None:
        renderer = ChildRenderer(answer_seconds=1.0)
        with pytest.raises(error):
            await renderer.render(_request("1"))
        await renderer.close()

    before = _children()
    asyncio.run(run())
    assert _children() <= before


def test_a_fresh_child_is_believed_and_what_it_says_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One render that costs too much takes 2 s, and is not tried again at once, whoever asks for it."""
    started = _stand_in(tmp_path, monkeypatch, "echo 1; read line; kill -PROF $$")

    async def use(renderer: ChildRenderer) -> None:
        names = [replace(_request("1"), name=name, values={**VALUES, "service": name}) for name in ("web", "db", "app")]
        results = await asyncio.gather(*map(renderer.render, (*names, *names)), return_exceptions=True)
        for asked, result in zip((*names, *names), results, strict=True):
            assert isinstance(result, errors.TooCostly)
            assert str(result).startswith(asked.name)
        assert started() == 1

    _with_renderer(use)


def test_a_renderer_that_fails_rests_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = _stand_in(tmp_path, monkeypatch, "exit 1")
    monkeypatch.setattr(module, "REST_FIRST_SECONDS", 0.01)

    async def use(renderer: ChildRenderer) -> None:
        begun = time.monotonic()
        while started() < 6:
            with pytest.raises(errors.RendererFailed):
                await renderer.render(_request("1"))
        # It rested 0.01, 0.02, 0.04, 0.08 and 0.16 s between six starts.
        assert time.monotonic() - begun >= 0.31

    _with_renderer(use)


def test_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")

    async def use(renderer: ChildRenderer) -> None:
        with pytest.raises(errors.RendererFailed):
            await renderer.render(_request("1"))

    _with_renderer(use)
