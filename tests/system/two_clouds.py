"""Two Clouds of one account, each with keys of its own: what their tests have in common."""

from __future__ import annotations

from tests.simulated.on_ec2 import KEYS
from tests.system.documents import cloud, implementation, infrastructure, secret, service, template
from tests.system.ec2 import Ec2Rig

#: The access key of the Cloud `other`, in the Secret `more`; that of `sim` is AKIDMAIN.
MORE = "AKIDMORE"


async def on_another_cloud(rig: Ec2Rig) -> None:
    """Three machines by a second Cloud of the account, with keys of its own."""
    rig.light.keys[MORE] = rig.light.keys["AKIDMAIN"]
    await rig.make(cloud(), cloud("other"), secret("more", **{**KEYS, "AWS_ACCESS_KEY_ID": MORE}))
    await rig.patch("Cloud", "other", {"spec": {"ec2": {"credentials": {"secretRef": {"name": "more"}}}}})
    both = template("app", implementations=[implementation("two", on="other"), implementation("one")])
    await rig.make(both, infrastructure(service("app", scaling={"min": 3})))
    await rig.wait(rig.ready, 200)
    assert {each["spec"]["implementation"]["cloudRef"]["name"] for each in rig.instances()} == {"other"}
    await rig.let_pass(60)


__all__ = ["MORE", "on_another_cloud"]
