"""What a template reads, told without rendering."""

from __future__ import annotations

import pytest

from controller import errors
from controller.context.references import Reads, parse, reads, spelling


def _reads(variables: str = "", services: str = "", instance: bool = False, dynamic: bool = False, optional: str = "") -> Reads:
    return Reads(frozenset(variables.split()), frozenset(services.split()), instance, dynamic, frozenset(optional.split()))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("plain text", _reads(), id="nothing"),
        pytest.param("{{ variables.a }} {{ variables['b'] }}", _reads("a b"), id="variables"),
        pytest.param("{{ services.db.address }}", _reads(services="db"), id="service-attribute"),
        pytest.param("{{ services['x-y'].addresses[0] }}", _reads(services="x-y"), id="service-subscript"),
        pytest.param("{{ getip('a') }}{{ getprivip('b') }}{{ getipall('c') }}", _reads(services="a b c"), id="aliases"),
        pytest.param("{{ getip(name='a') }}", _reads(services="a"), id="alias-keyword"),
        pytest.param("{{ getip(variables.host) }}", _reads("host", dynamic=True), id="alias-computed"),
        pytest.param("{{ getip(*['a']) }}", _reads(dynamic=True), id="alias-unpacked"),
        pytest.param("{{ services[variables.host].address }}", _reads("host", dynamic=True), id="subscript-computed"),
        pytest.param("{{ services['a' ~ 'b'].address }}", _reads(dynamic=True), id="subscript-joined"),
        pytest.param("{% for s in services %}{{ s }}{% endfor %}", _reads(dynamic=True), id="loop-over-services"),
        pytest.param("{% for k, v in services.items() %}{{ v.address }}{% endfor %}", _reads(dynamic=True), id="items"),
        pytest.param("{{ services.get('db') }}", _reads(dynamic=True), id="get"),
        pytest.param("{{ services['items'].address }}", _reads(services="items"), id="service-called-items"),
        pytest.param("{% set s = services %}{{ s.db.address }}", _reads(dynamic=True), id="renamed"),
        pytest.param("{{ variables | tojson }}", _reads(dynamic=True), id="all-variables"),
        pytest.param("{{ variables.a | default(variables.b) }}", _reads("a b", optional="a"), id="default"),
        pytest.param("{{ variables['a'] | d }}{{ variables.a }}", _reads("a", optional="a"), id="default-by-subscript"),
        pytest.param("{{ (variables.a ~ 'x') | default('b') }}", _reads("a"), id="default-of-what-reads-it"),
        pytest.param("{% if variables.a is defined %}{% endif %}", _reads("a", optional="a"), id="is-defined"),
        pytest.param("{{ cut(variables.a, 0, 3) | b64encode }}", _reads("a"), id="cut"),
        pytest.param("{{ instance.index }}", _reads(instance=True), id="instance"),
        pytest.param("{% set i = instance %}{{ i.index }}", _reads(instance=True), id="instance-renamed"),
        pytest.param(
            "{% for instance in services.db.instances %}{{ instance.name }}{% endfor %}", _reads(services="db"), id="instance-in-loop"
        ),
        pytest.param("{% for instance in [instance] %}{% endfor %}", _reads(instance=True), id="instance-looped-over"),
        pytest.param("{% for i in [1] %}{% else %}{{ instance.id }}{% endfor %}", _reads(instance=True), id="instance-in-else"),
        pytest.param("{% with instance = instance.id %}{{ instance }}{% endwith %}", _reads(instance=True), id="instance-in-with"),
        pytest.param("{% with instance = 1 %}{{ instance }}{% endwith %}", _reads(), id="instance-bound-by-with"),
        pytest.param("{% macro m(a, instance=instance.id) %}{% endmacro %}", _reads(instance=True), id="instance-as-default"),
        pytest.param("{{ instance.id }}{% set instance = 1 %}", _reads(instance=True), id="instance-before-set"),
        pytest.param("{% macro m(a, b=a) %}{{ a }}{{ varargs }}{{ kwargs }}{{ caller() }}{% endmacro %}{{ m(1) }}", _reads(), id="macro"),
        pytest.param("{% macro m() %}{{ n() }}{% endmacro %}{% macro n() %}{% endmacro %}", _reads(), id="macro-before-its-time"),
        pytest.param(
            "{% macro m() %}{% endmacro %}{% call(x) m() %}{{ x }}{{ services.db }}{% endcall %}", _reads(services="db"), id="call"
        ),
        pytest.param(
            "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = i %}{% endfor %}{{ ns.n }}", _reads(), id="namespace"
        ),
        pytest.param("{% for i in [1] %}{{ loop.index }}{% endfor %}", _reads(), id="loop"),
        pytest.param("{% for a, b in [[1, 2]] if b %}{{ a }}{% endfor %}", _reads(), id="unpacked-loop"),
        pytest.param("{% set x %}{{ variables.a }}{% endset %}{{ x }}", _reads("a"), id="set-block"),
        pytest.param("{% filter upper %}{{ variables.a }}{% endfilter %}", _reads("a"), id="filter-block"),
        pytest.param("{% raw %}{{ services.db }}{% endraw %}", _reads(), id="raw"),
        pytest.param("{# {{ services.db }} #}", _reads(), id="comment"),
        pytest.param("{{ infrastructure }} {{ service }} {{ true }} {{ none }}", _reads(), id="other-roots"),
    ],
)
def test_reads(template: str, expected: Reads) -> None:
    assert reads(template, "web") == expected


@pytest.mark.parametrize(
    ("template", "line"),
    [
        pytest.param("\n{{ infra_name }}", 2, id="unknown-name"),
        pytest.param("{{ self }}", 1, id="self"),
        pytest.param("{{ lipsum() }}", 1, id="lipsum"),
        pytest.param("{{ cmd('id') }}", 1, id="cmd"),
        pytest.param("{{ ibget('x') }}", 1, id="ibget"),
        pytest.param("{% for i in [1] %}{% endfor %}\n{{ i }}", 2, id="loop-variable-outside"),
        pytest.param("\n\n{{ loop.index }}", 3, id="loop-outside"),
        pytest.param("{{ 'x' | attr('y') }}", 1, id="filter-attr"),
        pytest.param("{{ [1] | random }}", 1, id="filter-random"),
        pytest.param("\n{{ 1 is callable }}", 2, id="test-callable"),
        pytest.param("{% include 'x' %}", 1, id="include"),
        pytest.param("{% import 'x' as y %}", 1, id="import"),
        pytest.param("{% from 'x' import y %}", 1, id="from-import"),
        pytest.param("{% extends 'x' %}", 1, id="extends"),
        pytest.param("{% block x %}{% endblock %}", 1, id="block"),
        pytest.param("{% set services = 1 %}", 1, id="set-services"),
        pytest.param("{% set services %}{% endset %}", 1, id="set-block-services"),
        pytest.param("{% for variables in [1] %}{% endfor %}", 1, id="loop-variables"),
        pytest.param("{% macro getip() %}{% endmacro %}", 1, id="macro-getip"),
        pytest.param("{% macro m(services) %}{% endmacro %}", 1, id="argument-services"),
        pytest.param("{% with getip = 1 %}{% endwith %}", 1, id="with-getip"),
        pytest.param("{% set g = getip %}", 1, id="function-not-called"),
        pytest.param("{{ range }}", 1, id="range-not-called"),
        pytest.param("a\n{{ variables. }}", 2, id="syntax"),
        pytest.param("a\n{% if %}", 2, id="syntax-tag"),
        pytest.param("{% if 1 %}", 1, id="unclosed"),
        pytest.param("{{ 'abc", 1, id="unclosed-text"),
        pytest.param("{{" + "(" * 5000, 0, id="too-deep"),
        pytest.param("{{ " + "9" * 5000 + " }}", 0, id="number-too-long"),
    ],
)
def test_refused(template: str, line: int) -> None:
    with pytest.raises(errors.TemplateError) as caught:
        reads(template, "web")
    assert (caught.value.template, caught.value.line, caught.value.column) == ("web", line, 0)
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)


def test_nothing_is_computed() -> None:
    """Jinja2's own `meta` would fold this into a gigabyte."""
    assert reads("{{ 'a' * 10 ** 9 }}{{ 9 ** 9 ** 9 ** 9 }}", "web") == _reads()


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        pytest.param("adress", 2, "services.db.adress", id="that-line"),
        pytest.param("adress", 9, "variables['adress']", id="first-of-all"),
        pytest.param("gone", 3, "getip('gone')", id="alias"),
        pytest.param("computed", 1, None, id="not-in-the-text"),
    ],
)
def test_spelling(name: str, line: int, expected: str | None) -> None:
    tree = parse("{{ variables['adress'] }}\n{{ services.db.adress }}\n{{ getip('gone') }}", "web")
    assert spelling(tree, name, line) == expected
