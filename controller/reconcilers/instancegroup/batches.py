"""How alike machines are put together to be made by one call, and which batches have to be planned again. Pure.

The group's plan asks; a batch is launched by its first member (`reconcilers/instance`), which is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set

from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason


def sizes(count: int, most: int, room: int) -> tuple[int, ...]:
    """How so many machines are divided into batches of at most `most`.

    What the Cloud has no room for is made singly: a batch would wait until there is room for all of it.
    """
    within = max(0, min(count, room)) if most > 1 else 0
    whole, rest = divmod(within, most)
    return (*(most,) * whole, *((rest,) if rest else ()), *(1,) * (count - within))


def to_plan_again(instances: Sequence[Instance], launched: Set[str], room: int) -> tuple[tuple[str, str], ...]:
    """The names of Instances whose batch was not launched and never can be as it is, each with why.

    `launched` are the batches of which any machine is listed, whatever status says; `room` is how many more machines the Cloud may
    have. The first member of a batch comes before the others: once it goes, nobody launches them.
    """
    found = _unlisted((each for each in instances if each.spec.batch.size > 1), launched)
    return tuple(named for batch in found for named in _again(batch, room))


def lacks_room(instances: Sequence[Instance]) -> bool:
    """Whether one of several Instances waits for room for all of its batch: as soon as there is some it is to be planned again."""
    return any(each.spec.batch.size > 1 and each.status.launch is None and _waits_for_room(each) for each in instances)


def outdated(
    instances: Sequence[Instance], launched: Set[str], revision: str, overtaken: Set[str] = frozenset()
) -> tuple[tuple[Instance, ...], tuple[Instance, ...]]:
    """Instances of whole batches that have no machine and would be made otherwise now: those never launched, those denied.

    That is so of another revision than the newest, and of those never launched that are named as `overtaken`. The first member of a batch
    comes before the others. An Instance without a revision was claimed, and stays with all of its batch.
    """
    older = {each.metadata.name for each in instances if each.spec.revision not in ("", revision)}
    if not older and not overtaken:
        return (), ()
    denied = [batch for batch in _unlisted(instances, launched) if all(map(_is_bare, batch)) and any(map(_is_denied, batch))]
    return unlaunched(instances, launched, older | overtaken), _named(denied, older)


def unlaunched(instances: Sequence[Instance], launched: Set[str], names: Set[str]) -> tuple[Instance, ...]:
    """Instances of whole batches that were never launched and are among the names. The first member of a batch comes before the others."""
    if not names:
        return ()
    found = _unlisted(instances, launched)
    return _named([batch for batch in found if all(_is_bare(each) and each.status.launch is None for each in batch)], names)


def _unlisted(instances: Iterable[Instance], launched: Set[str]) -> list[list[Instance]]:
    """The batches of which no machine is listed, each in the order of its members."""
    found: dict[str, list[Instance]] = {}
    for each in sorted(instances, key=lambda each: each.spec.batch.index):
        if each.spec.batch.id not in launched:
            found.setdefault(each.spec.batch.id, []).append(each)
    return list(found.values())


def _is_bare(instance: Instance) -> bool:
    return instance.status.machine is None


def _named(batches: Sequence[Sequence[Instance]], names: Set[str]) -> tuple[Instance, ...]:
    """The batches all of whose members are among the names; of these the members that stay."""
    whole = (batch for batch in batches if all(each.metadata.name in names for each in batch))
    return tuple(each for batch in whole for each in batch if not each.metadata.deleting)


def _is_denied(instance: Instance) -> bool:
    """Whether the cloud's newest answer to its launch is that it is not allowed."""
    said = condition(instance.status.conditions, "Launched") if instance.status.launch is not None else None
    return said is not None and said.status == "False" and said.reason == Reason.DENIED.value


def _again(batch: Sequence[Instance], room: int) -> Iterator[tuple[str, str]]:
    if any(each.status.launch is not None or each.status.machine is not None for each in batch):
        return
    left = [each for each in batch if not each.metadata.deleting]
    if len(left) < batch[0].spec.batch.size:
        # One launch is for all of them, or for none (design section 5, rule 2).
        yield from ((each.metadata.name, "another machine of its batch went before the launch") for each in left)
    elif 0 < room < len(left) and any(map(_waits_for_room, left)):
        # Another group took what it was planned for.
        yield from ((each.metadata.name, "the Cloud has room for some of its batch only") for each in left)


def _waits_for_room(instance: Instance) -> bool:
    said = condition(instance.status.conditions, "Ready")
    return said is not None and said.reason == Reason.LIMIT_REACHED.value


__all__ = ["lacks_room", "outdated", "sizes", "to_plan_again", "unlaunched"]
