#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes the guest's initramfs: busybox, a link for each of its commands, and /init.

    initramfs.py OUT BUSYBOX INIT

A cpio archive in the "newc" format (the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst), written here so that it needs no root and has no times, inodes or owners of
the machine it was made on. Not compressed: unpacking costs more in an emulator than reading.
"""
import os
import stat
import subprocess
import sys


class Archive:
    def __init__(self):
        self.data = bytearray()
        self.inode = 0

    def add(self, name, mode, content=b"", device=(0, 0)):
        self.inode += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        self._entry(self.inode, name, mode, links, content, device)

    def _entry(self, inode, name, mode, links, content, device):
        name_bytes = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, device[0], device[1],
                  len(name_bytes), 0)
        self.data += b"070701" + b"".join(b"%08X" % field for field in fields) + name_bytes
        self._pad()
        self.data += content
        self._pad()

    def _pad(self):
        self.data += bytes(-len(self.data) % 4)

    def finish(self):
        self._entry(0, "TRAILER!!!", 0, 1, b"", (0, 0))
        return bytes(self.data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    out, busybox, init = sys.argv[1:]
    archive = Archive()
    for folder in ("bin", "dev", "proc", "root", "sys", "tmp"):
        archive.add(folder, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("init", stat.S_IFREG | 0o755, read(init))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, read(busybox))
    commands = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True)
    for command in sorted(set(commands.stdout.split()) - {"busybox"}):
        archive.add("bin/" + command, stat.S_IFLNK | 0o777, b"busybox")
    with open(out + ".new", "wb") as file:
        file.write(archive.finish())
    os.rename(out + ".new", out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main()
