"""Which addresses may be probed: everything that reaches only what the controller can reach is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.health import guard

NEVER = {
    "names": ["localhost", "metadata.google.internal", "example.org", "localhost.", "127.0.0.1.nip.io", "xn--nxasmq6b", "*"],
    "not-an-address": [
        "",
        " ",
        "10.0.0.1 ",
        " 10.0.0.1",
        "10.0.0.1\n",
        "10.0.0.1\0",
        "10.0.0.1:80",
        "[fd00::1]",
        "http://10.0.0.1",
        "10.0.0.1/32",
    ],
    "other-numbers": [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "10.1",
        "010.0.0.1",
        "10.0.0.01",
        "0",
    ],
    "other-digits": ["\u0661\u0660.0.0.1", "\uff11\uff10.0.0.1", "10\u30020\u30020\u30021", "10.0.0.256", "10.0.0.-1", "1e1.0.0.1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
    "link-local": ["169.254.0.1", "169.254.170.2", "169.254.255.255", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fe80::1%eth0"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "no-machine": ["0.0.0.0", "0.0.0.1", "0.255.255.255", "::", "255.255.255.255", "240.0.0.1", "254.1.1.1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "::ffff:0:0"],
    "carried": [
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "::7f00:1",
        "::127.0.0.1",
        "2001::5601:5601",
    ],
    "scoped": ["fd00::1%1", "2001:db8::1%lo", "::1%lo"],
    "reserved": ["100::1", "4000::1", "1::1"],
    "not-canonical": ["FD00::1", "fd00:0:0:0:0:0:0:1", "fd00::0001", "0:0:0:0:0:0:0:1", "::0", "2001:DB8::1", "2001:db8:0::1"],
}
LOOPBACK = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "127.84.3.2", "::1"]
MACHINES = [
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "8.8.8.8",
    "192.0.2.1",
    "198.18.0.1",
    "fd00::1",
    "2001:db8::1",
    "2a00:1450::1",
]


@pytest.mark.parametrize("loopback", [pytest.param(False, id="plain"), pytest.param(True, id="loopback-allowed")])
@pytest.mark.parametrize("address", [pytest.param(each, id=f"{kind}-{each!a}") for kind, group in NEVER.items() for each in group])
def test_never(address: str, loopback: bool) -> None:
    assert guard.refusal(address, loopback=loopback)


@pytest.mark.parametrize("address", [pytest.param(each, id=each) for each in LOOPBACK])
def test_loopback_is_for_clouds_that_live_there(address: str) -> None:
    assert guard.refusal(address, loopback=False)
    assert guard.refusal(address, loopback=True) is None


@pytest.mark.parametrize("address", [pytest.param(each, id=each) for each in MACHINES])
def test_machines(address: str) -> None:
    assert guard.refusal(address, loopback=False) is None


@given(st.ip_addresses())
def test_what_is_let_pass_is_an_ordinary_address(parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if guard.refusal(str(parsed), loopback=False) is None:
        kinds = (parsed.is_loopback, parsed.is_link_local, parsed.is_multicast, parsed.is_unspecified, parsed.is_reserved)
        assert not any(kinds)
        assert getattr(parsed, "ipv4_mapped", None) is None


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd11::/16") | st.ip_addresses(network="2600::/12"))
def test_networks_of_machines_pass(parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert guard.refusal(str(parsed), loopback=False) is None


@given(st.ip_addresses(v=4))
def test_no_ipv6_form_gets_an_address_past_what_refuses_its_ipv4_form(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    forms = (0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x64FF9B << 96 | number, number, 0x20010000 << 96 | number ^ 0xFFFFFFFF)
    if guard.refusal(str(inner), loopback=False):
        for form in forms:
            assert guard.refusal(str(ipaddress.IPv6Address(form)), loopback=False)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    if guard.refusal(text, loopback=False) is None:
        assert str(ipaddress.ip_address(text)) == text


def test_same() -> None:
    assert guard.same("fd00::1", "fd00:0::1")
    assert not guard.same("10.0.0.1", "10.0.0.2")
    assert not guard.same("127.0.0.1", "::1")
