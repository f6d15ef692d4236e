"""Answers in pages: MaxResults and NextToken, as "Pagination in the Amazon EC2 API" says.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-pagination.html. The first call decides what is in all pages; what
each thing looks like is decided by the call that shows it. A token may be used again: a client that lost a reply does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from tests.simulated.ec2.asked import Asked
from tests.simulated.ec2.refusals import Refusal, invalid
from tests.simulated.ec2.xml import element

LEAST, MOST = 5, 1000
#: So many tokens are remembered.
_TOKENS = 1000


def cut(asked: Asked, find: Callable[[], list[str]]) -> tuple[list[str], str]:
    """The ids on this page, and the element that names the next; `find` gives all. Raises Refusal."""
    size, token = asked.fields.text("MaxResults"), asked.fields.text("NextToken")
    if size and not (size.isdecimal() and LEAST <= int(size) <= MOST):
        raise invalid(f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value between {LEAST} and {MOST}.")
    ids = _rest(asked, token) if token else find()
    if not size or len(ids) <= int(size):
        return ids, ""
    return ids[: int(size)], element("nextToken", _remember(asked, ids[int(size) :]))


def _rest(asked: Asked, token: str) -> list[str]:
    account, ids = asked.desk.pages.get(token, (None, ()))
    if account != asked.account:
        raise Refusal("InvalidPaginationToken", "The specified pagination token is not valid or is expired.")
    return list(ids)


def _remember(asked: Asked, ids: list[str]) -> str:
    pages, token = asked.desk.pages, secrets.token_urlsafe(24)
    pages[token] = (asked.account, tuple(ids))
    while len(pages) > _TOKENS:
        del pages[next(iter(pages))]
    return token
