"""What a template reads, told without rendering it, and the vocabulary a template may use.

Called by the reconcilers (which services must have an address first, what goes into an Instance's inputs, whether Instances
are alike) and by the renderer before it renders. Pure. It parses and walks the tree and never evaluates anything: Jinja2's
own `meta` module folds constants, so that `'a' * 10**9` in a template would be computed in the controller.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeVisitor

from controller import errors

#: The data in reach of a template (design section 7).
ROOTS = frozenset({"variables", "services", "infrastructure", "service", "instance"})
#: Occopus's functions that look up a service by its name.
LOOKUPS = frozenset({"getip", "getprivip", "getipall"})
FUNCTIONS = LOOKUPS | {"cut", "b64encode", "range", "namespace"}
#: Names that no template may bind again: a later read of them would mean something else. `service`, `instance` and
#: `infrastructure` may be bound: `{% for instance in services.db.instances %}` is the natural way to write that loop.
_FIXED = FUNCTIONS | {"variables", "services"}

#: Jinja2's filters that are deterministic and touch nothing but their value, and `b64encode`, `cut`, `tojson` of our own.
FILTERS = frozenset(
    {
        "abs",
        "b64encode",
        "batch",
        "capitalize",
        "count",
        "cut",
        "d",
        "default",
        "dictsort",
        "first",
        "float",
        "format",
        "groupby",
        "indent",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "select",
        "selectattr",
        "slice",
        "sort",
        "string",
        "sum",
        "title",
        "tojson",
        "trim",
        "truncate",
        "unique",
        "upper",
        "urlencode",
        "wordwrap",
    }
)
TESTS = frozenset(
    {
        "!=",
        "<",
        "<=",
        "==",
        ">",
        ">=",
        "boolean",
        "defined",
        "divisibleby",
        "eq",
        "equalto",
        "even",
        "false",
        "float",
        "ge",
        "greaterthan",
        "gt",
        "in",
        "integer",
        "iterable",
        "le",
        "lessthan",
        "lower",
        "lt",
        "mapping",
        "ne",
        "none",
        "number",
        "odd",
        "sequence",
        "string",
        "true",
        "undefined",
        "upper",
    }
)
#: Methods of a dict: `services.items()` is no service of the name `items` (`services['items']` is).
_DICT_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))

#: Only parses. The text keeps its last newline: a script or a file that is written from it needs one.
_PARSER = jinja2.Environment(keep_trailing_newline=True)


@dataclass(frozen=True, slots=True)
class Reads:
    """Which variables and services a template names, and whether it reads anything of `instance`.

    `dynamic`: some access cannot be told without rendering (`services[name]`, `for s in services`); then the template
    counts as reading every variable and every service it depends on. `optional` are the variables that the template can do
    without: it asks `is defined` of them or gives a `default`.
    """

    variables: frozenset[str]
    services: frozenset[str]
    instance: bool
    dynamic: bool
    optional: frozenset[str] = frozenset()


def parse(template: str, name: str) -> nodes.Template:
    """The template's tree. `name` is what error messages call it. Raises TemplateError."""
    try:
        return _PARSER.parse(template)
    except jinja2.TemplateSyntaxError as error:
        raise mistake(name, error.lineno, error.message or "syntax error") from None
    except RecursionError:
        raise too_deep(name) from None
    except ValueError:
        # int() refuses literals of more than 4,300 digits; the lexer passes that on as it is.
        raise errors.TemplateError(name, 0, 0, "a number in it has too many digits") from None


@functools.lru_cache(maxsize=256)
def reads(template: str, name: str) -> Reads:
    """What the template reads. Raises TemplateError for bad syntax and for names, filters and tags that are not in reach.

    Planners ask at every pass; 64 KiB that are nothing but expressions take 0.3 s, so the answers are kept.
    """
    return inspect(parse(template, name), name)


def inspect(tree: nodes.Template, name: str) -> Reads:
    """`reads` of a tree that is parsed already."""
    try:
        walk = _Walk(name, _assigned(tree))
        walk.visit(tree, frozenset[str]())
    except RecursionError:
        raise too_deep(name) from None
    return Reads(frozenset(walk.variables), frozenset(walk.services), walk.instance, walk.dynamic, frozenset(walk.optional))


def mistake(name: str, line: int, why: str) -> errors.TemplateError:
    """An error that may quote the template's text: on one line, and not all of it."""
    text = " ".join(why.split())
    return errors.TemplateError(name, line, 0, text if len(text) <= _WHY_CHARACTERS else text[: _WHY_CHARACTERS - 1] + "…")


def too_deep(name: str) -> errors.TemplateError:
    """The error for a template that is nested too deeply to be read."""
    return errors.TemplateError(name, 0, 0, "it is nested too deeply")


def spelling(tree: nodes.Template, name: str, line: int) -> str | None:
    """How the template's own text spells the access whose last part is `name`, at best on that line; None if it never does.

    An error may name what the template's author wrote, and never a name that was computed: that could be a Secret's value.
    """
    found = [(node.lineno, _path(node)) for node in tree.find_all(_ACCESSES) if _last(node) == name]
    return next((path for at, path in found if at == line), found[0][1] if found else None)


#: Conditions hold 1,024 characters, and other things have to be said there too.
_WHY_CHARACTERS = 600
_ACCESSES = (nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Call)


def _path(node: nodes.Node) -> str:
    match node:
        case nodes.Name(name=name):
            return name
        case nodes.Getattr(node=inner, attr=attribute):
            return f"{_path(inner)}.{attribute}"
        case nodes.Getitem(node=inner, arg=nodes.Const(value=key)):
            return f"{_path(inner)}[{key!r}]"
        case nodes.Call(node=inner, args=[nodes.Const(value=first), *_]):
            return f"{_path(inner)}({first!r})"
        case _:
            return "(…)"


def _last(node: nodes.Node) -> object:
    match node:
        case nodes.Name(name=name) | nodes.Getattr(attr=name):
            return name
        case nodes.Getitem(arg=nodes.Const(value=value)) | nodes.Call(args=[nodes.Const(value=value), *_]):
            return value
        case _:
            return None


def _assigned(tree: nodes.Template) -> frozenset[str]:
    """Names that `set` and `macro` give somewhere. One that is read before it is set is found by rendering only."""
    names = {macro.name for macro in tree.find_all(nodes.Macro)}
    for statement in tree.find_all((nodes.Assign, nodes.AssignBlock)):
        names |= _targets(statement.target)
    return frozenset(names)


def _targets(*targets: nodes.Node) -> set[str]:
    return {name.name for target in targets for name in _names(target)}


def _names(target: nodes.Node) -> Iterator[nodes.Name]:
    if isinstance(target, nodes.Name):
        yield target
    yield from target.find_all(nodes.Name)


@dataclass(slots=True)
class _Walk(NodeVisitor):
    """Visits every node with the names bound around it; what it finds is in its fields.

    The methods are called by their names, one a kind of node, as `NodeVisitor` wants it.
    """

    template: str
    assigned: frozenset[str]
    variables: set[str] = field(default_factory=set[str])
    services: set[str] = field(default_factory=set[str])
    optional: set[str] = field(default_factory=set[str])
    instance: bool = False
    dynamic: bool = False

    def visit_Name(self, node: nodes.Name, bound: frozenset[str]) -> None:
        if node.ctx != "load":
            self._bindable(node.name, node)
        elif node.name in bound:
            return
        elif node.name in ("variables", "services"):
            self.dynamic = True
        elif node.name == "instance":
            self.instance = True
        elif node.name in FUNCTIONS:
            raise self._error(node, f"{node.name} is a function and has to be called")
        elif node.name not in ROOTS | self.assigned:
            raise self._error(node, f"unknown name {node.name}; in reach: {', '.join(sorted(ROOTS | FUNCTIONS))}")

    def visit_Getattr(self, node: nodes.Getattr, bound: frozenset[str]) -> None:
        known = self._known(node.node)
        if known is None or node.attr in _DICT_METHODS:
            self.generic_visit(node, bound)
        else:
            known.add(node.attr)

    def visit_Getitem(self, node: nodes.Getitem, bound: frozenset[str]) -> None:
        known = self._known(node.node)
        if known is not None and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            known.add(node.arg.value)
        else:
            self.generic_visit(node, bound)

    def visit_Call(self, node: nodes.Call, bound: frozenset[str]) -> None:
        if not (isinstance(node.node, nodes.Name) and node.node.name in FUNCTIONS):
            self.generic_visit(node, bound)
            return
        if node.node.name in LOOKUPS:
            self._lookup(node)
        for child in node.iter_child_nodes(exclude=("node",)):
            self.visit(child, bound)

    def visit_For(self, node: nodes.For, bound: frozenset[str]) -> None:
        self.visit(node.iter, bound)
        inner = bound | _targets(node.target) | {"loop"}
        for child in (node.target, *([node.test] if node.test else ()), *node.body):
            self.visit(child, inner)
        for child in node.else_:
            self.visit(child, bound)

    def visit_With(self, node: nodes.With, bound: frozenset[str]) -> None:
        for value in node.values:
            self.visit(value, bound)
        inner = bound | _targets(*node.targets)
        for child in (*node.targets, *node.body):
            self.visit(child, inner)

    def visit_Macro(self, node: nodes.Macro, bound: frozenset[str]) -> None:
        self._bindable(node.name, node)
        self._body(node, bound | {"caller"})

    def visit_CallBlock(self, node: nodes.CallBlock, bound: frozenset[str]) -> None:
        self.visit(node.call, bound)
        self._body(node, bound)

    def visit_Filter(self, node: nodes.Filter, bound: frozenset[str]) -> None:
        if node.name not in FILTERS:
            raise self._error(node, f"unknown filter {node.name}; in reach: {', '.join(sorted(FILTERS))}")
        if node.name in ("default", "d"):
            self._may_lack(node.node)
        self.generic_visit(node, bound)

    def visit_Test(self, node: nodes.Test, bound: frozenset[str]) -> None:
        if node.name not in TESTS:
            raise self._error(node, f"unknown test {node.name}; in reach: {', '.join(sorted(TESTS))}")
        if node.name in ("defined", "undefined"):
            self._may_lack(node.node)
        self.generic_visit(node, bound)

    def _alone(self, node: nodes.Node, bound: frozenset[str]) -> None:
        raise self._error(node, "a template stands alone: include, import, extends and block are not in reach")

    visit_Include = visit_Import = visit_FromImport = visit_Extends = visit_Block = _alone

    def _body(self, node: nodes.Macro | nodes.CallBlock, bound: frozenset[str]) -> None:
        names = frozenset(_targets(*node.args))
        for default in node.defaults:
            # A default may use the arguments before it; one that is called `instance` counts as a read, to be safe.
            self.visit(default, bound | (names - ROOTS))
        for child in (*node.args, *node.body):
            self.visit(child, bound | names | {"varargs", "kwargs"})

    def _lookup(self, node: nodes.Call) -> None:
        given = [*node.args, *(keyword.value for keyword in node.kwargs)]
        argument = given[0] if len(given) == 1 else None
        if isinstance(argument, nodes.Const) and isinstance(argument.value, str):
            self.services.add(argument.value)
        else:
            self.dynamic = True

    def _known(self, node: nodes.Node) -> set[str] | None:
        if not isinstance(node, nodes.Name):
            return None
        return {"variables": self.variables, "services": self.services}.get(node.name)

    def _may_lack(self, node: nodes.Node | None) -> None:
        match node:
            case nodes.Getattr(node=nodes.Name(name="variables"), attr=name):
                self.optional.add(name)
            case nodes.Getitem(node=nodes.Name(name="variables"), arg=nodes.Const(value=str(name))):
                self.optional.add(name)
            case _:
                return

    def _bindable(self, name: str, node: nodes.Node) -> None:
        if name in _FIXED:
            raise self._error(node, f"{name} cannot be given another meaning")

    def _error(self, node: nodes.Node, why: str) -> errors.TemplateError:
        return mistake(self.template, node.lineno, why)


__all__ = ["FILTERS", "FUNCTIONS", "LOOKUPS", "ROOTS", "TESTS", "Reads", "inspect", "mistake", "parse", "reads", "spelling", "too_deep"]
