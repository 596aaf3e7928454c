"""What a host answers to a neighbour who sends frames straight to its network card; runs there, on Python alone.

usage: scan.py INTERFACE HOST ADDRESS...

HOST is the host's own address on the neighbour's network, IPv4 or IPv6; each ADDRESS (HOST itself, 127.0.0.1, a
container's on that host) is put into packets for all TCP ports, whatever routes say. Prints `ADDRESS PORT` for each
that accepts a connection. Needs root.
"""

from __future__ import annotations

import ipaddress
import random
import select
import socket
import struct
import subprocess
import sys
import time
from typing import Final

PORTS: Final = range(1, 65536)
# Another one each time: what an earlier scan was not told goes on being repeated.
SOURCE_PORT: Final = random.randrange(40000, 60000)  # noqa: S311  (no secret)
LAST_ANSWER_SECONDS: Final = 2.0
BURST: Final = 256
BREATH_SECONDS: Final = 0.005
ALL_FRAMES: Final = 3
SO_RCVBUFFORCE: Final = 33
BUFFER_BYTES: Final = 1 << 26
TCP: Final = 6
SYN: Final = 0x02
SYN_ACK: Final = 0x12
IPV4: Final = 0x0800
IPV6: Final = 0x86DD

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source: Address, target: Address, port: int) -> bytes:
    """An IP packet with a TCP SYN."""
    segment = struct.pack("!HHIIBBHHH", SOURCE_PORT, port, 1, 0, 5 << 4, SYN, 64240, 0, 0)
    if target.version == 4:
        pseudo = source.packed + target.packed + struct.pack("!BBH", 0, TCP, len(segment))
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), port, 0, 64, TCP, 0)
        header = header[:10] + struct.pack("!H", checksum(header + source.packed + target.packed))
        header += source.packed + target.packed
    else:
        pseudo = source.packed + target.packed + struct.pack("!IHBB", len(segment), 0, 0, TCP)
        header = struct.pack("!IHBB", 6 << 28, len(segment), TCP, 64) + source.packed + target.packed
    return header + segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]


def answer(frame: bytes) -> tuple[str, int] | None:
    """Address and port that accept a connection of ours, if that is what a received frame says."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == IPV4 and frame[23] == TCP:
        source, segment = frame[26:30], frame[14 + (frame[14] & 15) * 4 :]
    elif kind == IPV6 and frame[20] == TCP:
        source, segment = frame[22:38], frame[54:]
    else:
        return None
    port, ours = struct.unpack("!HH", segment[:4])
    accepted = ours == SOURCE_PORT and segment[13] & SYN_ACK == SYN_ACK
    return (str(ipaddress.ip_address(source)), port) if accepted else None


def neighbour(interface: str, host: str) -> tuple[bytes, Address]:
    """The host's hardware address, and ours towards it, of the same family."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        probe.send(b"who are you")  # makes the kernel ask
        own = ipaddress.ip_address(probe.getsockname()[0])
    for _ in range(50):
        shown = subprocess.run(
            ["ip", "neigh", "show", host, "dev", interface], capture_output=True, text=True, check=True
        )
        words = shown.stdout.split()
        if "lladdr" in words:
            return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", "")), own
        time.sleep(0.1)
    sys.exit(f"{host} has no hardware address on {interface}")


def scan(interface: str, host: str, addresses: list[str]) -> list[tuple[str, int]]:
    """Addresses and ports that accept a connection, in order."""
    there, own = neighbour(interface, host)
    found = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES)) as wire:
        wire.bind((interface, 0))
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        here = wire.getsockname()[4]

        def listen(seconds: float) -> None:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0 and select.select([wire], [], [], left)[0]:
                if accepted := answer(wire.recv(2048)):
                    found.add(accepted)

        for address in map(ipaddress.ip_address, addresses):
            frame = there + here + (IPV4 if address.version == 4 else IPV6).to_bytes(2, "big")
            for port in PORTS:
                wire.send(frame + packet(own, address, port))
                if port % BURST == 0:
                    listen(BREATH_SECONDS)
        listen(LAST_ANSWER_SECONDS)
    return sorted(found)


if __name__ == "__main__":
    for address, port in scan(sys.argv[1], sys.argv[2], sys.argv[3:]):
        sys.stdout.write(f"{address} {port}\n")
