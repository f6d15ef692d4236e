"""Which addresses may be asked for a machine's health. Pure; called before a connection is made, and of its peer once it is.

An address comes from a cloud, or from whoever can make a cloud say it, and the answers of probes are seen by those who write
templates: so a probe must reach nothing that only the controller can reach (its own loopback, its metadata service).
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

_Address = IPv4Address | IPv6Address

#: Where clouds serve credentials and settings to their machines. Most are link-local too; these are not.
#: AWS (the instance services of Nitro), Google, Alibaba, Azure, Oracle.
_METADATA = tuple(
    map(ipaddress.ip_network, ("fd00:ec2::/32", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"))
)
#: "This network" (RFC 1122): Linux takes 0.0.0.0 for its own loopback, and no machine has another of these.
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")


def refusal(address: str, *, loopback: bool) -> str | None:
    """Why this address is not probed; None where it may be. `loopback`: the machines of this cloud live on loopback.

    Accepted are literals in their one canonical form: no names, no `127.1`, `0x7f000001` or `2130706433`, no scope ids.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "is not an IP address"
    if str(parsed) != address or getattr(parsed, "scope_id", None):
        return "is not an IP address in its canonical form"
    return _refused(parsed, loopback)


def _refused(address: _Address, loopback: bool) -> str | None:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return "is an IPv4 address in IPv6 form"
        for inner in _carried(address):
            if why := _refused(inner, loopback=False):
                return f"carries {inner}, which {why}"
    if address.is_loopback:
        # `::1` is reserved as well, by Python's table.
        return None if loopback else "is a loopback address"
    rules = (
        (any(address in network for network in _METADATA), "belongs to a cloud's metadata service"),
        (address.is_link_local, "is a link-local address"),
        (address.is_multicast, "is a multicast address"),
        (address.is_unspecified or address in _THIS_NETWORK, "is no machine's address"),
        (address.is_reserved, "is a reserved address"),
    )
    return next((why for applies, why in rules if applies), None)


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that 6to4 and Teredo deliver to."""
    carried = (address.sixtofour, *(address.teredo or ()))
    return tuple(each for each in carried if each is not None)


def same(first: str, second: str) -> bool:
    """Whether two literals name one address."""
    return ipaddress.ip_address(first) == ipaddress.ip_address(second)


__all__ = ["refusal", "same"]
