"""What the rules do beyond the verdicts of the table in tests/api: defaults, words, sharing, updates of objects taken earlier."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest

from controller import errors
from controller.ports import Obj
from controller.stores import metadata
from controller.stores.rules import OBJECT_LIMIT_BYTES, Rules
from controller.stores.schema import Schema
from tests.api import samples, table

_RULES = Rules(samples.PLUGINS)


def _causes(new: Obj, old: Obj | None = None, rules: Rules = _RULES) -> dict[str, str]:
    with pytest.raises(errors.Rejected) as refusal:
        rules.check(new, old)
    return {cause.field: cause.message for cause in refusal.value.causes}


def test_defaults_are_filled_in_at_every_depth() -> None:
    instance = table.changed(
        samples.instance(), {"spec.health": {"probes": [{"name": "p", "http": {"port": 80}}]}, "status": table.REMOVED}
    )
    del instance["spec"]["implementation"]["acme"]["size"]
    checked = _RULES.check(instance)
    assert checked["spec"]["health"]["startupSeconds"] == 600
    assert checked["spec"]["health"]["probes"][0]["periodSeconds"] == 10
    assert checked["spec"]["health"]["probes"][0]["http"]["path"] == "/"
    assert checked["spec"]["implementation"]["acme"]["size"] == "small"
    assert checked["status"] == {"observedGeneration": -1}


def test_a_null_is_a_missing_field_where_there_is_a_default() -> None:
    assert _RULES.check(table.changed(samples.cloud(), {"spec.maxInstances": None}))["spec"]["maxInstances"] == 100


def test_a_template_is_stored_as_it_was_written() -> None:
    template = samples.template()
    del template["spec"]["implementations"][0]["acme"]["size"]
    del template["spec"]["health"]["startupSeconds"]
    assert _RULES.check(template) == template


@pytest.mark.parametrize("kind", samples.GOOD)
def test_arguments_stay_as_they_are(kind: str) -> None:
    obj, old = samples.GOOD[kind](), samples.GOOD[kind]()
    _RULES.check(obj, old)
    assert (obj, old) == (samples.GOOD[kind](), samples.GOOD[kind]())


@pytest.mark.parametrize("kind", samples.GOOD)
def test_what_was_checked_is_good_and_stays_the_same(kind: str) -> None:
    checked = _RULES.check(samples.GOOD[kind]())
    assert _RULES.check(checked) == checked
    assert _RULES.check(copy.deepcopy(checked), checked) == checked


def test_text_of_a_secret_becomes_base64_over_what_is_there() -> None:
    secret = table.changed(samples.secret(), {"stringData": {"key": "new", "other": "ü"}})
    checked = _RULES.check(secret)
    assert checked["data"] == {"key": "bmV3", "other": "w7w="}
    assert "stringData" not in checked


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        pytest.param({"spec.foo": 1}, "spec.foo", 'unknown field "spec.foo"', id="unknown"),
        pytest.param({"spec.acme.region": table.REMOVED}, "spec.acme.region", "Required value", id="required"),
        pytest.param({"spec.acme.region": "x" * 33}, "spec.acme.region", "Too long: may not be more than 32 bytes", id="max-length"),
        pytest.param(
            {"spec.maxInstances": -1},
            "spec.maxInstances",
            "Invalid value: -1: spec.maxInstances in body should be greater than or equal to 0",
            id="minimum",
        ),
        pytest.param(
            {"spec.maxInstances": "1"},
            "spec.maxInstances",
            'Invalid value: "string": spec.maxInstances in body must be of type integer: "string"',
            id="type",
        ),
        pytest.param(
            {"status.conditions.0.status": "Yes"},
            "status.conditions[0].status",
            'Unsupported value: "Yes": supported values: "True", "False", "Unknown"',
            id="enum",
        ),
        pytest.param(
            {"status.conditions.1": samples.condition()}, "status.conditions[1]", 'Duplicate value: {"type":"Ready"}', id="duplicate"
        ),
        pytest.param(
            {"status.conditions": [samples.condition(str(number)) for number in range(9)]},
            "status.conditions",
            "Too many: 9: must have at most 8 items",
            id="max-items",
        ),
    ],
)
def test_the_words_are_the_servers(changes: dict[str, Any], field: str, words: str) -> None:
    assert _causes(table.changed(samples.cloud(), changes)) == {field: words}


def test_a_rules_own_message_reaches_the_user() -> None:
    assert (
        "delete it and its group makes another" in _causes(table.changed(samples.instance(), {"spec.index": 3}), samples.instance())["spec"]
    )


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param(datetime.date(2026, 1, 2), "spec.inputs.odd", id="yaml-date"),
        pytest.param(float("nan"), "spec.inputs.odd", id="nan"),
        pytest.param(float("inf"), "spec.inputs.odd", id="infinity"),
        pytest.param("\ud800", "spec.inputs.odd", id="half-a-surrogate"),
        pytest.param(b"bytes", "spec.inputs.odd", id="bytes"),
        pytest.param([{1: 2}], "spec.inputs.odd[0]", id="key-no-text"),
    ],
)
def test_what_json_has_no_form_for_is_named_by_its_place(value: Any, field: str) -> None:
    assert set(_causes(table.changed(samples.instance(), {"spec.inputs.odd": value}))) == {field}


def test_an_object_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert set(_causes(table.changed(samples.instance(), {"spec.inputs": deep}))) == {""}


def test_an_object_larger_than_a_server_takes_is_refused() -> None:
    assert set(_causes(table.changed(samples.instance(), {"spec.inputs": {"a": "x" * OBJECT_LIMIT_BYTES}}))) == {""}


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"kind": 5, "apiVersion": "v1"}, id="kind-no-text"),
        pytest.param({"kind": "Cloud", "apiVersion": ["v1"]}, id="version-no-text"),
        pytest.param({"kind": "Cloud", "apiVersion": "occopus.io/v1alpha1"}, id="nothing-else"),
        pytest.param({"kind": "Cloud", "apiVersion": "occopus.io/v1alpha1", "metadata": [], "spec": 1}, id="other-types"),
        pytest.param(
            {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": 1}, "data": [], "stringData": [1]}, id="secret-other-types"
        ),
        pytest.param(
            {"kind": "Cloud", "apiVersion": "occopus.io/v1alpha1", "metadata": {"name": "a", "ownerReferences": [1], "finalizers": {}}},
            id="metadata-other-types",
        ),
    ],
)
def test_garbage_is_refused_and_breaks_nothing(obj: Obj) -> None:
    assert _causes(obj)


# --- objects that were taken under other rules --------------------------------------------------------------------------
def test_what_an_update_leaves_as_it_was_is_not_judged_again() -> None:
    """As a server does (CRD ratcheting): else nothing of such an object could be written, not even its finalizer taken off."""
    old = table.changed(samples.cloud(), {"spec.maxInstances": 1_000_000, "spec.newer": {"a": 1}, "spec.beta": {}})
    assert set(_causes(old)) == {"spec.maxInstances", "spec.newer", "spec.beta.image"}
    assert _RULES.check(table.changed(copy.deepcopy(old), {"status.machines": 4}), old)["status"]["machines"] == 4
    assert "finalizers" not in _RULES.check(table.changed(copy.deepcopy(old), {"metadata.finalizers": table.REMOVED}), old)["metadata"]
    assert set(_causes(table.changed(copy.deepcopy(old), {"spec.maxInstances": 1_000_001}), old)) == {"spec.maxInstances"}


def test_a_default_that_came_later_is_no_change_of_an_immutable_spec() -> None:
    old = table.changed(samples.instance(), {"spec.health.startupSeconds": table.REMOVED})
    checked = _RULES.check(table.changed(copy.deepcopy(old), {"status.phase": "Ending"}), old)
    assert checked["spec"]["health"]["startupSeconds"] == 600


def test_a_transition_rule_elsewhere_than_at_the_root_or_the_spec_is_an_error() -> None:
    rule = {"rule": "self == oldSelf", "message": "fixed"}
    inner = {"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [rule]}}}
    with pytest.raises(errors.UsageError):
        Schema({"type": "object", "properties": {"spec": inner}})


def test_a_rule_that_cannot_be_evaluated_refuses_the_object() -> None:
    rules = [{"rule": "self.spec.a.b > 1", "message": "never said"}]
    schema = Schema({"type": "object", "x-kubernetes-validations": rules, "properties": {"spec": {"type": "object", "properties": {}}}})
    assert [cause.field for cause in schema.broken_rules({"spec": {}}, None)] == [""]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param("'a is ' + self.spec.a", "a is x", id="what-it-gives"),
        pytest.param("self.spec.b", "plain", id="plain-where-it-fails"),
        pytest.param("''", "plain", id="plain-where-it-is-empty"),
        pytest.param("'two\\nlines'", "plain", id="plain-where-it-is-no-line"),
    ],
)
def test_a_broken_rule_says_what_its_message_expression_gives(words: str, said: str) -> None:
    rules = [{"rule": "self.spec.a != 'x'", "message": "plain", "messageExpression": words}]
    schema = Schema({"type": "object", "x-kubernetes-validations": rules, "properties": {"spec": {"type": "object", "properties": {}}}})
    (cause,) = schema.broken_rules({"spec": {"a": "x"}}, None)
    assert cause.message.endswith(f": {said}")


def test_rules_read_of_the_metadata_what_a_server_lets_them_read() -> None:
    rules = [{"rule": "!has(self.metadata.labels)", "message": "sees labels"}]
    schema = Schema({"type": "object", "x-kubernetes-validations": rules, "properties": {"metadata": {"type": "object"}}})
    assert schema.broken_rules({"metadata": {"name": "a", "labels": {"a": "b"}}}, None) == []


def test_metadata_that_an_update_leaves_is_not_judged_again() -> None:
    odd = {"metadata": {"name": "Not_Good"}}
    assert [*metadata.metadata_faults(odd, odd)] == []
    assert [cause.field for cause in metadata.metadata_faults(odd, None)] == ["metadata.name"]
