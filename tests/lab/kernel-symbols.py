#!/usr/bin/env python3
"""Writes the Module.symvers of a stripped User Mode Linux binary without symbol versions.

Each exported symbol is a `struct kernel_symbol` of three 8-byte addresses: value, name, namespace. Which ones are for GPL
modules alone is told by a section of their own (6.x) or by bit 0 of a table of flags beside them (7.x).
"""

import re
import struct
import subprocess
import sys

ENTRY = struct.Struct("<QQQ")


def read_sections(path):
    """Name to (address, offset in the file, size)."""
    listing = subprocess.check_output(["readelf", "-SW", path], text=True)
    pattern = re.compile(r"\s*\[\s*\d+\]\s+(\S+)\s+\S+\s+([0-9a-f]+)\s+([0-9a-f]+)\s+([0-9a-f]+)")
    found = (pattern.match(line) for line in listing.splitlines())
    return {match[1]: tuple(int(word, 16) for word in match.groups()[1:]) for match in found if match}


def text_at(binary, sections, address):
    """The text that ends with NUL at an address; empty for no address."""
    for start, offset, size in sections.values():
        if start and start <= address < start + size:
            begin = offset + address - start
            return binary[begin : binary.index(b"\0", begin)].decode()
    return ""


def main(path):
    with open(path, "rb") as file:
        binary = file.read()
    sections = read_sections(path)
    for table in ("__ksymtab", "__ksymtab_gpl"):
        if table not in sections:
            continue
        _, offset, size = sections[table]
        count = size // ENTRY.size
        flags = None
        if "__kflagstab" in sections:
            _, flags_offset, flags_size = sections["__kflagstab"]
            if flags_size != count:
                sys.exit(f"{flags_size} flags for {count} symbols: this kernel's format is unknown")
            flags = binary[flags_offset : flags_offset + flags_size]
        for number in range(count):
            _, name, namespace = ENTRY.unpack_from(binary, offset + ENTRY.size * number)
            is_gpl = flags[number] & 1 if flags else table.endswith("_gpl")
            kind = "EXPORT_SYMBOL_GPL" if is_gpl else "EXPORT_SYMBOL"
            words = text_at(binary, sections, name), "vmlinux", kind, text_at(binary, sections, namespace)
            print("0x00000000", *words, sep="\t")


if __name__ == "__main__":
    main(sys.argv[1])
