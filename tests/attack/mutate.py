"""Damage: a file whose bytes are changed at random."""

from __future__ import annotations

from random import Random

ABSURD = (0, 1, 0x7F, 0x80, 0xFF)


def damaged(content: bytes, rng: Random) -> bytes:
    """``content`` with one to eight changes."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        if not found:
            return b""
        at = rng.randrange(len(found))
        length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64)))
        match rng.randrange(7):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at] = rng.choice(ABSURD)
            case 2:
                del found[at:]
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = rng.randbytes(length)
            case 5:
                found[at : at + length] = bytes([rng.choice(ABSURD)]) * length
            case 6:
                other = rng.randrange(len(found))
                found[at:at] = found[other : other + length]
    return bytes(found)
