"""What templates can reach, what they give, and what their mistakes are called."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import errors
from controller.context import environment, references
from tests.unit.context.values import VALUES, leaks, mistake, render


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("{{ getip('db') }}", "10.0.0.5", id="getip"),
        pytest.param("{{ getprivip('app-server') }}", "10.0.0.6", id="getprivip"),
        pytest.param("{{ getipall('app-server') }}", "['10.0.0.6', '10.0.0.7']", id="getipall"),
        pytest.param("{{ getipall('app-server') | join(',') }}", "10.0.0.6,10.0.0.7", id="join"),
        pytest.param("{{ services['app-server'].instances[1].name }}", "i1", id="instances"),
        pytest.param("{{ cut(infrastructure, 0, 2) }}{{ infrastructure | cut(1) }}{{ cut(infrastructure, -2) }}", "shhopop", id="cut"),
        pytest.param("{{ b64encode('é') }}{{ 'é' | b64encode }}", "w6k=w6k=", id="b64encode"),
        pytest.param("{{ variables.items }} {{ variables['items'] }}", "three three", id="variable-called-items"),
        pytest.param("{% for k, v in services.items() %}{{ k }};{% endfor %}", "app-server;db;", id="sorted"),
        pytest.param("{{ {'b': '<&>', 'a': 1} | tojson }}", '{"a": 1, "b": "<&>"}', id="tojson"),
        pytest.param("{{ 'é' | tojson }}", '"é"', id="tojson-letters"),
        pytest.param("{{ '%02d' | format(instance.index) }}", "00", id="format"),
        pytest.param("{{ 'a,b'.split(',') | last }}", "b", id="text-method"),
        pytest.param("{{ variables.nothing | default('x') }}", "x", id="default"),
        pytest.param("{{ 'x' if false }}", "", id="if-without-else"),
        pytest.param(
            "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3", id="namespace"
        ),
        pytest.param("{% for i in 'ab' %}{{ loop.index }}{{ loop.last }}{% endfor %}", "1False2True", id="loop"),
        pytest.param("line\n", "line\n", id="last-newline"),
        pytest.param("'{{ '<' }}'", "'<'", id="no-html"),
    ],
)
def test_renders(template: str, expected: str) -> None:
    assert render(template) == expected


@pytest.mark.parametrize(
    ("template", "line", "named"),
    [
        pytest.param("\n{{ variables.typo }}", 3, "variables.typo", id="variable"),
        pytest.param("{{ services.gone.address }}", 2, "services.gone", id="service"),
        pytest.param("{{ services.db.adress }}", 2, "services.db.adress", id="field"),
        pytest.param("\n\n{{ getip('gone') }}", 4, "getip('gone')", id="alias"),
        pytest.param("{{ [variables.typo] }}", 2, "variables.typo", id="in-a-list"),
        pytest.param("{{ variables.typo ~ '' }}", 2, "variables.typo", id="joined"),
        pytest.param("{% for x in variables.typo %}{% endfor %}", 2, "variables.typo", id="looped-over"),
        pytest.param("{% macro m() %}\n{{ variables.typo }}{% endmacro %}\n{{ m() }}", 3, "variables.typo", id="in-a-macro"),
        pytest.param("{{ x }}{% set x = 1 %}", 2, "x", id="before-it-is-set"),
    ],
)
def test_undefined_is_named(template: str, line: int, named: str) -> None:
    error = mistake(template)
    assert (error.line, error.why) == (line, f"{named} is not defined")


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ {}[variables.password] }}", id="key"),
        pytest.param("{{ variables[variables.password] }}", id="variable"),
        pytest.param("{{ getip(variables.password) }}", id="alias"),
        pytest.param("{{ variables.password + 1 }}", id="operator"),
        pytest.param("{{ ['x'].index(variables.password) }}", id="method"),
        pytest.param("{{ [variables] | sum(attribute='password') }}", id="sum"),
        pytest.param("{{ '%d' | format(variables.password) }}", id="format"),
        pytest.param("{{ [1] | map(variables.password) | list }}", id="filter-name"),
        pytest.param("{{ [1] | select(variables.password) | list }}", id="test-name"),
        pytest.param("{{ [1, 2] | sort(attribute=variables.password) }}", id="attribute-name"),
        pytest.param("{{ variables.password() }}", id="called"),
        pytest.param("{{ variables.password.nothing }}", id="attribute"),
        pytest.param("{{ range(variables.password) }}", id="range"),
        pytest.param("{{ ([1] | groupby(variables.password))[0] }}", id="groupby"),
        pytest.param("{{ 1 | round(1, variables.password) }}", id="round"),
        pytest.param("{{ {} | dictsort(by=variables.password) }}", id="dictsort"),
        pytest.param("{{ variables.password | b64encode | sum }}", id="encoded"),
        pytest.param("{% set ns = namespace() %}{{ ns[variables.password] }}", id="namespace"),
    ],
)
def test_no_error_tells_a_value(template: str) -> None:
    error = mistake(template)
    assert error.line == 2
    assert not leaks(str(error))


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ none }}", id="none"),
        pytest.param("{{ services.items }}", id="method"),
        pytest.param("{{ [1] | map('string') }}", id="generator"),
        pytest.param("{{ services.db.get('nothing') }}", id="get"),
        pytest.param("{% macro m() %}{% endmacro %}{{ m }}", id="macro"),
        pytest.param("{{ 1 / 0 }}", id="division"),
        pytest.param("{{ range(1000000) }}", id="range"),
        pytest.param("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", id="endless-macro"),
        pytest.param("{{ services.update({}) }}", id="update"),
        pytest.param("{{ services.db.addresses.append(1) }}", id="append"),
        pytest.param("{% for i in range(99999) %}{{ 'aaaaaaaaaaaa' }}{% endfor %}", id="longer-than-1-MiB"),
        pytest.param("{% for loop in [1] %}{% endfor %}", id="loop-bound"),
        pytest.param("{% macro m(a, a) %}{% endmacro %}", id="argument-twice"),
        pytest.param("{% if 1 %}" * 150 + "{% endif %}" * 150, id="nested"),
        pytest.param("{% for x in 'a' %}" * 30 + "{% endfor %}" * 30, id="nested-loops"),
    ],
)
def test_mistakes(template: str) -> None:
    assert mistake(template).template == "web"


#: Each puts what `it` is into the text in another way.
WRITTEN = ("{{ it ~ '' }}", "{{ [it] }}", "{{ {1: it} | string }}", "{{ '%s' | format(it) }}", "{{ cut(it, 0) }}", "{{ it | b64encode }}")


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize(
    "it",
    [
        pytest.param("[1] | map('string')", id="filter"),
        pytest.param("[1, 2] | reverse", id="reversed"),
        pytest.param("'a'.upper", id="method"),
        pytest.param("''['upper']", id="method-as-item"),
        pytest.param("services.db.get", id="method-of-mapping"),
        pytest.param("'a'.format", id="format"),
    ],
)
def test_what_has_but_an_address_for_a_text_is_refused(it: str, written: str) -> None:
    """The request of a launch would be another at each rendering, and a launch whose answer was lost never be sent again."""
    assert "would be written into the text" in mistake(f"{{% set it = {it} %}}{written}").why


@pytest.mark.parametrize("filter", sorted(references.FILTERS))
def test_no_filter_gives_a_text_with_an_address(filter: str) -> None:
    for value in ("'ab'", "[1, 2]", "1", "services", "[[1], [2]]", "[services.db]"):
        for arguments in ("", "('string')", "(1)", "('address')"):
            for written in WRITTEN:
                with contextlib.suppress(errors.TemplateError):
                    assert " at 0x" not in render(f"{{% set it = {value} | {filter}{arguments} %}}{written}")


def test_equal_values_give_equal_texts() -> None:
    template = "{{ variables }}{{ services }}{% for s in services %}{{ s }}{% endfor %}"
    backwards = {key: VALUES[key] for key in reversed(VALUES)}
    backwards["services"] = dict(reversed(VALUES["services"].items()))
    assert environment.render(template, "web", VALUES) == environment.render(template, "web", backwards)


def test_values_are_plain() -> None:
    with pytest.raises(TypeError):
        environment.render("{{ variables.a }}", "web", {"variables": {"a": object()}})


@pytest.mark.parametrize("name", [pytest.param(each, id=each) for each in sorted(references.FILTERS)])
def test_every_filter_that_may_be_named_exists(name: str) -> None:
    assert "TemplateRuntimeError" not in _outcome(f"{{{{ ['a'] | map('{name}') | list }}}}")


@pytest.mark.parametrize("name", [pytest.param(each, id=each) for each in sorted(references.TESTS)])
def test_every_test_that_may_be_named_exists(name: str) -> None:
    assert "TemplateRuntimeError" not in _outcome(f"{{{{ ['a'] | select('{name}') | list }}}}")


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ ['a'] | map('random') | list }}", id="random"),
        pytest.param("{{ ['a'] | map('attr', 'upper') | list }}", id="attr"),
        pytest.param("{{ ['a'] | map('xmlattr') | list }}", id="xmlattr"),
        pytest.param("{{ ['a'] | select('callable') | list }}", id="callable"),
        pytest.param("{{ ['a'] | select('filter') | list }}", id="filter"),
    ],
)
def test_no_other_exists(template: str) -> None:
    assert "TemplateRuntimeError" in _outcome(template)


def _outcome(template: str) -> str:
    try:
        return environment.render(template, "t", {})
    except errors.TemplateError as error:
        return error.why


@given(st.text(), st.integers(-40, 40), st.none() | st.integers(-40, 40))
def test_cut_is_a_slice(text: str, start: int, end: int | None) -> None:
    assert environment.cut(text, start, end) == text[start:end]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_b64encode_is_undone(text: str) -> None:
    encoded = environment.b64encode(text)
    assert base64.b64decode(encoded, validate=True).decode() == text
