"""Every limit that danmpy enforces, each with the standard or kernel constant it comes from."""

from __future__ import annotations

from typing import Final

VLAN_MIN: Final = 1
VLAN_MAX: Final = 4094
"""IEEE 802.1Q, 9.6: VID 0 is priority tagging and 4095 is reserved."""

VNI_MIN: Final = 1
VNI_MAX: Final = 16_777_215
"""RFC 7348, section 5: the VNI has 24 bits; 0 is left out because it means "none" in DANM."""

IFNAME_MAX_BYTES: Final = 15
"""linux/if.h: IFNAMSIZ is 16 with the closing NUL."""

IFALIAS_MAX_BYTES: Final = 255
"""linux/if.h: IFALIASZ is 256 with the closing NUL."""

MTU_MIN: Final = 68
"""RFC 791: every IPv4 module must forward 68 octets; the kernel's ETH_MIN_MTU."""

IPV6_MTU_MIN: Final = 1280
"""RFC 8200, section 5; below it the kernel removes IPv6 from the link."""

MTU_MAX: Final = 65_535
"""linux/if_ether.h: ETH_MAX_MTU."""

VXLAN_OVERHEAD_V4: Final = 50
"""RFC 7348, section 5: inner Ethernet 14 + VXLAN 8 + UDP 8 + outer IPv4 20."""

VXLAN_OVERHEAD_V6: Final = 70
"""As above with the outer IPv6 header of 40 bytes."""

VXLAN_PORT: Final = 4789
"""IANA's port for VXLAN."""

RT_TABLE_MAX: Final = 2_147_483_647
"""The API's int32. The kernel's tables have 32 bits (rtnetlink(7), RTA_TABLE); DANM's schema stops
at 255, but manifests of its own examples do not."""

KERNEL_TABLES: Final = range(253, 256)
"""linux/rtnetlink.h: RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL."""

NETWORK_ID_MAX: Final = 10
"""DANM: 10 characters + "." + a four digit VID make the 15 bytes of a link name."""

IPV4_PREFIX_MIN: Final = 8
"""The largest IPv4 pool is a /8. (DANM stops at /9 because its bitmap must fit an etcd object.)"""

DYNAMIC_TYPES: Final = frozenset({"ipvlan", "macvlan", "sriov"})
"""NetworkTypes whose configuration DANM derives from the network object."""

DEFAULT_NETWORK_TYPE: Final = "ipvlan"

DEFAULT_NETWORK_NAME: Final = "default"
"""DANM: the network of a pod that declares no interfaces."""

QUOTA_MAX: Final = 2_147_483_647
"""The API's int32; a quota that nobody reaches is better left out."""

FINALIZER: Final = "danm.k8s.io/network"
"""Kept on a network until nobody holds an address of it and no pod is on it (Kubernetes,
"Finalizers"): else one that is deleted in the second of an ADD would leave both behind."""
