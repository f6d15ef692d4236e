"""EC2's filters: each names a property and some texts with wildcards; a thing passes that has one of the texts for each.

"Filtering using the API" (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html): values are joined by
OR, filters by AND, `*` stands for any text and `?` for one letter, a backslash before one makes it itself, case matters. At most
200 values a call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tests.simulated.ec2.query import Fields
from tests.simulated.ec2.refusals import Refusal, invalid

T = TypeVar("T")
#: The texts that a thing has under each filter's name.
Properties = Mapping[str, Callable[[T], Iterable[str]]]
LIMIT = 200
_WILD = {"*": ".*", "?": "."}


def passing(fields: Fields, properties: Properties[T], tags: Callable[[T], Mapping[str, str]]) -> Callable[[T], bool]:
    """Whether a thing passes the filters of this call. Raises Refusal for a filter that is not among the properties."""
    filters = fields.items("Filter")
    if sum(len(each.values("Value")) for each in filters) > LIMIT:
        raise Refusal("FilterLimitExceeded", f"The maximum number of filter values specified on a single call is {LIMIT}")
    tests = [_test(each, properties, tags) for each in filters]
    return lambda thing: all(test(thing) for test in tests)


def _test(filter: Fields, properties: Properties[T], tags: Callable[[T], Mapping[str, str]]) -> Callable[[T], bool]:
    name, values = filter.text("Name"), filter.values("Value")
    if not values:
        raise invalid(f"The filter '{name}' has no value")
    matches = _matcher(values)
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda thing: key in (of := tags(thing)) and matches(of[key])
    if name == "tag-key":
        return lambda thing: any(matches(each) for each in tags(thing))
    if name == "tag-value":
        return lambda thing: any(matches(each) for each in tags(thing).values())
    if name not in properties:
        raise invalid(f"The filter '{name}' is invalid")
    texts = properties[name]
    return lambda thing: any(matches(each) for each in texts(thing))


def _matcher(values: list[str]) -> Callable[[str], bool]:
    if not any(letter in value for value in values for letter in "*?\\"):
        return frozenset(values).__contains__
    pattern = re.compile("|".join(f"(?:{_pattern(each)})" for each in values), re.DOTALL)
    return lambda text: pattern.fullmatch(text) is not None


def _pattern(value: str) -> str:
    parts: list[str] = re.findall(r"\\[*?\\]|.", value, re.DOTALL)
    return "".join(_WILD.get(each) or re.escape(each[-1]) for each in parts)
