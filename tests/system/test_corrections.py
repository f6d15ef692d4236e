"""A template that is corrected before its machines are launched: the correction holds for all that have none yet, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.ports import Key
from tests.system.documents import OWN, Document, cloud, implementation, infrastructure, secret, service, template
from tests.system.rig import Rig, ids, play, steady

INF = float("inf")
READS = "#cloud-config\npassword: {{ variables.pw }}\n"


def _variable(name: str = "db") -> list[Document]:
    return [{"name": "pw", "valueFrom": {"secretKeyRef": {"name": name, "key": "pw"}}}]


def _wrong(text: str = READS, name: str = "db", number: int = 3) -> list[Document]:
    """Machines that read a Secret's value."""
    return [cloud(), template("app", text, variables=_variable(name)), infrastructure(service("app", scaling={"min": number}))]


def _sized(size: str, number: int = 3, **spec: Any) -> list[Document]:
    made = template("app", OWN, implementations=[implementation(size=size)])
    return [cloud(**spec), made, infrastructure(service("app", scaling={"min": number}))]


async def _correct(rig: Rig, document: Document) -> None:
    await rig.patch("InstanceTemplate", "app", {"spec": document["spec"]})


def _sizes(rig: Rig) -> list[str]:
    return sorted(each.spec["size"] for each in rig.made())


def _batches(rig: Rig) -> set[str]:
    return {each["spec"]["batch"]["id"] for each in rig.instances()}


def _was_no_failure(rig: Rig) -> None:
    """No back-off is due for it, and nothing stands in for it."""
    assert rig.obj("InstanceGroup", "shop-app")["status"].get("replacement") is None
    assert not any(each["metadata"].get("annotations") for each in rig.instances())


@pytest.mark.parametrize(
    ("value", "wrong", "reason", "right"),
    [
        pytest.param("a: b: c", _wrong(), "TemplateInvalid", _wrong("#cloud-config\npassword: {{ variables.pw | tojson }}\n"), id="quotes"),
        pytest.param("abc", _wrong(name="bd"), "SecretNotFound", _wrong(), id="the name of the Secret"),
        pytest.param(
            "".join(f"{number * 7919 % 104729:x}" for number in range(1500)),
            _wrong(),
            "UserDataTooLarge",
            _wrong("#cloud-config\npassword: {{ variables.pw | length }}\n"),
            id="too large",
        ),
    ],
)
def test_what_only_the_secret_showed_is_corrected(
    tmp_path: Path, value: str, wrong: list[Document], reason: str, right: list[Document]
) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(secret("db", pw=value), *wrong)
        await rig.until("Instance", "shop-app-0", reason, seconds=60)
        await _correct(rig, right[1])
        await rig.wait(rig.ready, 120)
        assert rig.why("InstanceGroup", "shop-app", "Progressing") == "Converged"
        assert await rig.told("RevisionChanged", "shop-app") == 3
        _was_no_failure(rig)
        await rig.unchanged(600)

    assert len(play(tmp_path, main, steady(user_data_limit_bytes=512)).made()) == 3


def test_a_wrong_size_that_the_limit_stopped_is_made_no_more(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*_sized("huge", 5, maxInstances=2))
        await rig.until("Instance", "shop-app-4", "LimitReached", seconds=60)
        await _correct(rig, _sized("small")[1])
        await rig.let_pass(60)
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 9}})
        await rig.wait(rig.ready, 120)
        assert _sizes(rig) == ["huge", "huge", "small", "small", "small"]
        assert rig.said("InstanceGroup", "shop-app", "Progressing")[1:] == (
            "RevisionChanged",
            "2 of 5 machines are of an older revision of the template",
        )
        await rig.unchanged(600)

    play(tmp_path, main)


def test_a_batch_that_waits_is_made_anew_as_a_whole(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(secret("db", pw="abc"), *_wrong(name="bd", number=30))
        await rig.wait(lambda: len(rig.instances()) == 30 and rig.why("Instance", "shop-app-7") == "SecretNotFound", 60)
        before = _batches(rig)
        await _correct(rig, _wrong()[1])
        await rig.wait(rig.ready, 120)
        assert len(before) == len(_batches(rig)) == 1
        assert not before & _batches(rig)
        assert await rig.told("BatchBroken") == 0
        assert rig.calls("create") == 1

    assert len(play(tmp_path, main, steady(most_per_call=100)).made()) == 30


@pytest.mark.parametrize("most", [pytest.param(1, id="singly"), pytest.param(100, id="as a batch")])
def test_a_field_for_which_the_launch_is_denied_is_taken_out(tmp_path: Path, most: int) -> None:
    async def main(rig: Rig) -> None:
        wrong, right = (template("app", implementations=[implementation(size=each)]) for each in ("large", "small"))
        old: set[str] = set()
        rig.world.fail("create", errors.Denied("not authorized to pass the role"), times=INF, where=lambda token: not old or token in old)
        await rig.make(cloud(), wrong, infrastructure(service("app", scaling={"min": 3})))
        await rig.until("Instance", "shop-app-2", "Denied", seconds=60)
        old |= _batches(rig)
        await rig.let_pass(60)
        await _correct(rig, right)
        await rig.wait(lambda: len(rig.live()) == 3, 5)
        # What was launched goes when it is proved that it made nothing.
        await rig.wait(lambda: rig.ready() and len(rig.instances()) == 3, 300)
        assert not old & _batches(rig)
        _was_no_failure(rig)
        await rig.unchanged(600)

    assert _sizes(play(tmp_path, main, steady(most_per_call=most))) == ["small"] * 3


@pytest.mark.parametrize("most", [pytest.param(1, id="singly"), pytest.param(100, id="as a batch")])
@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(errors.NoCapacity("there is none of this size"), id="no room"),
        pytest.param(errors.QuotaExceeded("there is none of this size"), id="quota"),
        pytest.param(errors.Invalid("size", "there is none such"), id="invalid"),
    ],
)
def test_what_the_cloud_refuses_waits_for_no_back_off(tmp_path: Path, refusal: errors.CloudError, most: int) -> None:
    async def main(rig: Rig) -> None:
        old: set[str] = set()
        rig.world.fail("create", refusal, times=INF, where=lambda token: not old or token in old)
        await rig.make(*_sized("huge"))
        await rig.until("InstanceGroup", "shop-app", "BackOff", "Progressing", 120)
        await rig.let_pass(900)
        assert rig.why("InstanceGroup", "shop-app", "Progressing") == "BackOff"
        old |= _batches(rig)
        await _correct(rig, _sized("small")[1])
        await rig.wait(rig.ready, 45)
        await rig.unchanged(600)

    assert _sizes(play(tmp_path, main, steady(most_per_call=most))) == ["small"] * 3


def test_a_denied_launch_whose_first_answer_was_lost_leaves_no_machine(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("lost"), after=True)
        old: set[str] = set()
        rig.world.fail("create", errors.Denied("not any more"), times=INF, where=lambda token: not old or token in old)
        await rig.make(*_sized("large", 1))
        await rig.until("Instance", "shop-app-0", "Denied", seconds=30)
        old |= _batches(rig)
        await _correct(rig, _sized("small")[1])
        await rig.wait(lambda: rig.ready() and len(rig.live()) == len(rig.instances()) == 1, 600)
        assert [each.spec["size"] for each in rig.live()] == ["small"]

    assert _sizes(play(tmp_path, main, steady(lag_seconds=40.0))) == ["large", "small"]


def test_what_is_launched_before_it_is_deleted_stays(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.hold("prepare", 3)
        await rig.make(*_sized("large", 1))
        await rig.wait(lambda: len(rig.instances()) == 1, 30)
        delete, asked = rig.store.delete, list[Key]()

        async def late(key: Key, **more: Any) -> Document | None:
            if key.kind == "Instance" and not asked:
                asked.append(key)
                await rig.let_pass(10)
            return await delete(key, **more)

        rig.store.delete = late  # type: ignore[method-assign]  # the group's deletion takes its time
        await _correct(rig, _sized("small")[1])
        await rig.wait(rig.ready, 120)
        assert asked
        assert rig.why("InstanceGroup", "shop-app", "Progressing") == "RevisionChanged"
        await rig.unchanged(300)

    assert _sizes(play(tmp_path, main)) == ["large"]


def test_a_launch_that_is_being_prepared_is_given_up(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.hold("prepare", 5)
        await rig.make(*_sized("large"))
        await rig.wait(lambda: len(rig.instances()) == 3, 30)
        await _correct(rig, _sized("small")[1])
        await rig.wait(rig.ready, 120)

    assert _sizes(play(tmp_path, main)) == ["small"] * 3


def test_many_corrections_in_a_row_come_to_the_last(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*_sized("size-0", maxInstances=3), infrastructure(service("app", scaling={"min": 3})))
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 1}})
        for number in range(1, 20):
            await _correct(rig, _sized(f"size-{number}")[1])
            await rig.let_pass(0.4 if number % 3 else 0.05)
        await rig.let_pass(60)
        assert {each["spec"]["implementation"]["simulated"]["size"] for each in rig.instances() if "launch" not in each["status"]} == {
            "size-19"
        }
        assert len(rig.instances()) == 3
        _was_no_failure(rig)
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 3}})
        await rig.wait(rig.ready, 120)

    assert len(play(tmp_path, main).made()) == 3


@pytest.mark.parametrize("how", [pytest.param("paused", id="paused"), pytest.param("wrong again", id="the correction is wrong too")])
def test_nothing_is_made_anew_while_the_group_is_held_back(tmp_path: Path, how: str) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(secret("db", pw="abc"), *_wrong(name="bd"))
        await rig.until("Instance", "shop-app-0", "SecretNotFound", seconds=60)
        before = _batches(rig)
        if how == "paused":
            await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
            await rig.until("InstanceGroup", "shop-app", "Paused")
        wrong = "#cloud-config\na: [{{ variables.pw }}\nb: 2\n"
        await _correct(rig, _wrong(READS if how == "paused" else wrong)[1])
        await rig.let_pass(120)
        assert rig.why("InstanceGroup", "shop-app") == ("Paused" if how == "paused" else "TemplateInvalid")
        assert _batches(rig) == before
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await _correct(rig, _wrong()[1])
        await rig.wait(rig.ready, 120)
        assert not before & _batches(rig)

    assert len(play(tmp_path, main).made()) == 3


def test_what_runs_is_not_made_anew(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*_sized("large"))
        await _correct(rig, _sized("small")[1])
        await rig.until("InstanceGroup", "shop-app", "RevisionChanged", "Progressing", 30)
        await rig.unchanged(600)

    play(tmp_path, main)


def test_what_a_restore_has_left_without_a_record_keeps_its_machine(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*_sized("large"))
        running = ids(rig.live())
        kept = [await rig.store.get(Key("Instance", "default", each["metadata"]["name"])) for each in rig.instances()]
        await rig.crash()
        rig.start()
        await _correct(rig, _sized("small")[1])
        patch = rig.store.patch

        async def late(key: Key, part: Document, **more: Any) -> Document:
            if "launch" in part.get("status", {}):
                await rig.let_pass(5)
            return await patch(key, part, **more)

        rig.store.patch = late  # type: ignore[method-assign]  # the record of the launch comes back late
        for each in kept:
            await rig.patch("Instance", each["metadata"]["name"], {"metadata": {"finalizers": None}})
            await rig.delete("Instance", each["metadata"]["name"])
            about = {name: each["metadata"][name] for name in ("name", "namespace", "labels", "ownerReferences", "finalizers")}
            await rig.store.create({**{part: value for part, value in each.items() if part != "status"}, "metadata": about})
        await rig.wait(rig.ready, 120)
        assert ids(rig.live()) == running
        await rig.unchanged(300)

    assert len(play(tmp_path, main).made()) == 3


def test_a_variable_of_the_infrastructure_is_corrected(tmp_path: Path) -> None:
    """That is no change of the template; addresses that come and go are none of the variables."""

    async def main(rig: Rig) -> None:
        def shop(name: str) -> Document:
            services = (service("db", scaling={"min": 2}), service("app", "db", scaling={"min": 3}))
            return infrastructure(*services, variables=_variable(name))

        reads = READS + "# {{ services.db.addresses | join(',') }}\n"
        await rig.make(secret("db", pw="abc"), cloud(), template("db"), template("app", reads), shop("bd"))
        await rig.until("Instance", "shop-app-0", "SecretNotFound", seconds=120)
        before = _batches(rig)
        await rig.patch("InstanceGroup", "shop-db", {"spec": {"replicas": 3}})
        await rig.wait(lambda: len(rig.live("db")) == 3 and rig.why("InstanceGroup", "shop-db") == "Ready", 120)
        await rig.let_pass(60)
        assert before <= _batches(rig)
        await rig.make(shop("db"))
        await rig.wait(rig.ready, 120)
        told = [each["message"] for each in await rig.events("InputChanged", "shop-app")]
        assert len([each for each in told if "its variables have changed before its launch" in each]) == 3
        _was_no_failure(rig)

    assert len(play(tmp_path, main, steady()).made("app")) == 3


@pytest.mark.parametrize("most", [pytest.param(1, id="singly"), pytest.param(100, id="as a batch")])
def test_what_was_not_launched_keeps_no_cloud_from_going(tmp_path: Path, most: int) -> None:
    """A Cloud's region cannot be changed: it is deleted, and made again."""

    async def main(rig: Rig) -> None:
        await rig.make(*_wrong())
        await rig.until("Instance", "shop-app-2", "SecretNotFound", seconds=60)
        await rig.delete("Cloud", "sim")
        await rig.wait(lambda: rig.find("Cloud", "sim") is None, 60)
        await rig.until("Infrastructure", "shop", "CloudNotFound", seconds=10)
        await rig.make(cloud(account="a2"), secret("db", pw="abc"))
        await rig.wait(rig.ready, 120)
        assert {each.account[0] for each in rig.live()} == {"a2"}
        _was_no_failure(rig)

    assert len(play(tmp_path, main, steady(most_per_call=most)).made()) == 3


def test_what_was_not_launched_on_a_cloud_that_goes_is_made_on_another(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        both = template("app", OWN, implementations=[implementation(), implementation("two", on="other")])
        await rig.make(cloud(maxInstances=2), cloud("other", "a2"), both, infrastructure(service("app", scaling={"min": 3})))
        await rig.until("Instance", "shop-app-2", "LimitReached", seconds=60)
        await rig.delete("Cloud", "sim")
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3, 120)
        assert sorted(each.account[0] for each in rig.live()) == ["a1", "a1", "a2"]
        await rig.unchanged(300)

    play(tmp_path, main)
