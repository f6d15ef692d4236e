"""The sandbox a template is rendered in: what it can reach, and errors that tell nothing of what was rendered.

Called by `cloudinit` alone. Everything in reach is on a list of what is allowed: names, filters, tests, and the attributes of
each type; Jinja2's own sandbox, a list of what is forbidden, stands behind it. It bounds neither time nor memory: that is
the business of the process around it (`child`). It refuses to know what the text is for.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinMethodType, FunctionType, MethodType, TracebackType
from typing import Any, cast

import jinja2
from jinja2 import nodes, runtime, sandbox, utils

from controller.context import references

#: More than this is no user data: clouds take 16 to 64 KiB, and gzip makes a tenth of it at best.
OUTPUT_LIMIT_CHARACTERS = 1024 * 1024

_TEXT = frozenset(
    {
        "capitalize",
        "casefold",
        "count",
        "endswith",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isdigit",
        "islower",
        "isupper",
        "join",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "title",
        "upper",
        "zfill",
    }
)
_LOOP = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0", "previtem", "nextitem", "cycle", "changed"}
)
#: The attributes that templates may use, by exact type; `format` is not among them: it reaches attributes by itself.
_ATTRIBUTES: Mapping[type, frozenset[str]] = {
    str: _TEXT,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    runtime.LoopContext: _LOOP,
}
#: What a template's own mistakes are called. Python's texts are left out: they may quote a value, which may be a Secret's.
_WORDS: Mapping[type[Exception], str] = {
    TypeError: "a function or an operator cannot take the value it is given",
    ValueError: "a function or a filter cannot take the value it is given",
    ZeroDivisionError: "division by zero",
    OverflowError: "a number or a range is too large",
    RecursionError: "a macro or a loop calls itself without an end",
    jinja2.exceptions.SecurityError: "it reaches for something that templates may not touch",
    jinja2.exceptions.FilterArgumentError: "a filter gets an argument that it cannot take",
}


class Refused(nodes.Impossible):
    """What a template does is not allowed here; its text quotes no value.

    Jinja2's compiler, which computes what is constant, leaves what is `Impossible` to the rendering: there the line is known.
    """


class _Undefined(jinja2.StrictUndefined):
    """Fails on every use; the message is the bare name, for `_explain` to look up in the template's text."""

    @property
    def _undefined_message(self) -> str:
        named = self._undefined_hint is None and isinstance(self._undefined_name, str)
        return str(self._undefined_name) if named else ""

    def __repr__(self) -> str:
        # Python writes the parts of a list by repr: `[variables.typo]` would become the text [Undefined].
        return str(self)


class _Method:
    """A method, to be called. Its text would be an address in memory, so that no two renderings were alike."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(*args, **kwargs)

    def __repr__(self) -> str:
        raise Refused("a method would be written into the text, where what it gives is meant: it has to be called")


class _OneByOne:
    """What a filter gives one by one. Its text would be an address too."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self._iterator

    def __next__(self) -> Any:
        return next(self._iterator)

    def __repr__(self) -> str:
        raise Refused("what a filter gives one by one would be written into the text; `| list` or `| join` makes a text of it")


class _Sandbox(sandbox.ImmutableSandboxedEnvironment):
    #: Operators that Jinja2 then does not compute while compiling.
    intercepted_binops = frozenset({"*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        # Keys before methods: a variable may be called `items`, and `variables.items` has to be its value.
        if type(obj) is dict and attribute in obj:
            return cast("dict[str, Any]", obj)[attribute]
        return _callable(super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return _callable(super().getitem(obj, argument))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        kind = cast("type[object]", type(obj))
        allowed = kind is utils.Namespace or attr in _ATTRIBUTES.get(kind, frozenset())
        return allowed and super().is_safe_attribute(obj, attr, value)


def _callable(value: Any) -> Any:
    return _Method(value) if isinstance(value, BuiltinMethodType | MethodType | FunctionType) else value


def _steady(filter: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, of which no text can be made that differs at each rendering."""

    @functools.wraps(filter)
    def steady(*args: Any, **kwargs: Any) -> Any:
        found = filter(*args, **kwargs)
        return _OneByOne(cast("Iterator[Any]", found)) if isinstance(found, Iterator) else found

    return steady


def cut(text: object, start: int, end: int | None = None) -> str:
    """The part of a text from index `start` to before `end`: Occopus's `cut(text, start, end)`, a Python slice."""
    return str(text)[start:end]


def b64encode(text: object) -> str:
    """Base64 of a text's UTF-8, on one line."""
    return base64.b64encode(str(text).encode()).decode()


def to_json(value: object, indent: int | None = None) -> str:
    """JSON with sorted keys, which is YAML too. Jinja2's own escapes `<` and `&` for HTML."""
    return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False)


def _finalize(value: object) -> object:
    if isinstance(value, str | int | float | list | tuple | dict | jinja2.Undefined):
        return cast(object, value)
    what = "none" if value is None else "something that is neither text nor number, list or mapping"
    raise Refused(f"{what} would be written into the text")


def _keep(table: dict[str, Any], names: frozenset[str], ours: Mapping[str, Any]) -> None:
    """Of what Jinja2 brings, leave these; then add ours."""
    for name in table.keys() - names:
        del table[name]
    table.update(ours)


def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=_Undefined, finalize=_finalize, autoescape=False, auto_reload=False, cache_size=0)
    _keep(environment.filters, references.FILTERS, {"b64encode": b64encode, "cut": cut, "tojson": to_json})
    environment.filters.update({name: _steady(each) for name, each in environment.filters.items()})
    _keep(environment.tests, references.TESTS, {})
    _keep(environment.globals, frozenset({"namespace"}), {"range": sandbox.safe_range, "b64encode": b64encode, "cut": cut})
    return environment


_ENVIRONMENT = _environment()


@functools.lru_cache(maxsize=32)
def _compiled(template: str, name: str) -> tuple[nodes.Template, jinja2.Template]:
    """All machines of a service have one template, so a few are kept. Raises TemplateError."""
    tree = references.parse(template, name)
    references.inspect(tree, name)
    try:
        return tree, _ENVIRONMENT.from_string(tree)
    except jinja2.TemplateSyntaxError as error:
        raise references.mistake(name, error.lineno, error.message or "syntax error") from None
    except SyntaxError:
        # Of the Python code that Jinja2 writes: 20 blocks are the most there.
        raise references.mistake(name, 0, "blocks are nested too deeply, or an argument is given twice") from None
    except RecursionError:
        raise references.too_deep(name) from None


def render(template: str, name: str, values: Mapping[str, Any]) -> str:
    """The text. Raises TemplateError, whose message holds nothing of `values` and of the text; MemoryError."""
    tree, compiled = _compiled(template, name)
    context = compiled.new_context({**_plain(values), **_lookups(values)})
    pieces: list[str] = []
    size = 0
    try:
        for piece in compiled.root_render_func(context):
            size += len(piece)
            if size > OUTPUT_LIMIT_CHARACTERS:
                raise Refused(f"the text is longer than {OUTPUT_LIMIT_CHARACTERS} characters")
            pieces.append(piece)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (a template can raise anything, and all of it is the template's mistake)
        line = _line(error.__traceback__, compiled)
        raise references.mistake(name, line, _explain(error, tree, line)) from None
    return "".join(pieces)


def _explain(error: Exception, tree: nodes.Template, line: int) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, jinja2.UndefinedError):
        name = error.message or ""
        path = references.spelling(tree, name, line) if name else None
        return f"{path} is not defined" if path else "something that is not defined is used, under a name that is computed or has none"
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    return f"it cannot be rendered ({type(error).__name__})"


def _line(trace: TracebackType | None, compiled: jinja2.Template) -> int:
    """The template's line that was last entered; 0 if none was."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = compiled.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def _lookups(values: Mapping[str, Any]) -> dict[str, Any]:
    services = cast("Mapping[str, Mapping[str, Any]]", values.get("services", {}))

    def field(name: object, key: str) -> Any:
        found = services.get(name) if isinstance(name, str) else None
        if found is None or key not in found:
            raise jinja2.UndefinedError(str(name))
        return found[key]

    def getip(name: str) -> str:
        return str(field(name, "address"))

    def getprivip(name: str) -> str:
        return str(field(name, "private_address"))

    def getipall(name: str) -> list[str]:
        return [str(each) for each in field(name, "addresses")]

    return {"getip": getip, "getprivip": getprivip, "getipall": getipall}


def _plain(value: Any) -> Any:
    """A copy with sorted keys, of plain types only: equal values give equal texts, in whatever order they were put together."""
    match value:
        case str() | bool() | int() | float():
            return value
        case Mapping():
            mapping = cast("Mapping[str, Any]", value)
            return {key: _plain(mapping[key]) for key in sorted(mapping)}
        case list() | tuple():
            return [_plain(each) for each in cast("list[Any]", value)]
        case _:
            raise TypeError(f"a template's values are texts, numbers, lists and mappings, not {type(value).__name__}")


__all__ = ["OUTPUT_LIMIT_CHARACTERS", "Refused", "b64encode", "cut", "render", "to_json"]
