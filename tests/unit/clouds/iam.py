"""What IAM decides of an action by a policy alone: as much of it as our documented policy says, and no more.

"Policy evaluation logic" (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html): nothing is
allowed that no statement allows. An action on several things is asked for each of them ("Actions, resources, and condition keys
for Amazon EC2", https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

#: Which parameters of RunInstances name a thing that it uses; groups beside them, and what it makes.
_USED = {"ImageId": "image", "SubnetId": "subnet", "KeyName": "key-pair"}


@dataclass(frozen=True, slots=True)
class Question:
    """One action on one thing, and what is known of both: the condition keys."""

    action: str
    resource: str
    known: Mapping[str, str] = field(default_factory=dict[str, str])


def arn(kind: str, name: str) -> str:
    """Images belong to no account."""
    return f"arn:aws:ec2:eu-west-1:{'' if kind == 'image' else '111111111111'}:{kind}/{name}"


def on_instance(action: str, tags: Mapping[str, str]) -> Question:
    """An action on an instance that has these tags."""
    return Question(action, arn("instance", "i-01"), {f"aws:ResourceTag/{key}": value for key, value in tags.items()})


def of_launch(parameters: Mapping[str, Any]) -> Iterator[Question]:
    """What is asked of a RunInstances with these parameters: a launch is allowed where all of it is."""
    face: Mapping[str, Any] = next(iter(parameters.get("NetworkInterfaces", ())), dict[str, Any]())
    named = {**parameters, **face}
    yield from (Question("ec2:RunInstances", arn(kind, named[name])) for name, kind in _USED.items() if name in named)
    groups = [*parameters.get("SecurityGroupIds", ()), *face.get("Groups", ())]
    yield from (Question("ec2:RunInstances", arn("security-group", each)) for each in groups)
    tags = {each["ResourceType"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in parameters.get("TagSpecifications", ())}
    made = ["instance", "volume", "network-interface", *(["spot-instances-request"] if "InstanceMarketOptions" in parameters else [])]
    for kind in made:
        wanted = {f"aws:RequestTag/{key}": value for key, value in tags.get(kind, {}).items()}
        yield Question("ec2:RunInstances", arn(kind, "*"), wanted)
        if wanted:
            yield Question("ec2:CreateTags", arn(kind, "*"), {**wanted, "ec2:CreateAction": "RunInstances"})


def allows(policy: Mapping[str, Any], asked: Question) -> bool:
    """Whether a statement allows it. Raises KeyError for what is not known here, so that nothing is passed over."""
    return any(_allows(each, asked) for each in policy["Statement"])


def _allows(statement: Mapping[str, Any], asked: Question) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown or statement["Effect"] != "Allow":
        raise KeyError(f"{sorted(unknown)}, {statement['Effect']}")
    return (
        any(fnmatchcase(asked.action.lower(), each.lower()) for each in _list(statement["Action"]))
        and any(fnmatchcase(asked.resource, each) for each in _list(statement["Resource"]))
        and all(
            _holds(operator, asked.known.get(key), _list(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, value: str | None, wanted: list[str]) -> bool:
    """A key that is not known fulfils nothing."""
    matches = {"StringEquals": str.__eq__, "StringLike": fnmatchcase}[operator]
    return value is not None and any(matches(value, each) for each in wanted)


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


__all__ = ["Question", "allows", "arn", "of_launch", "on_instance"]
