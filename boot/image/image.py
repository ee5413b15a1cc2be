#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes the USB image: a GPT disk whose one partition, an EFI system partition, holds the files.

    image.py OUT PATH=FILE...     PATH inside the partition, FILE on the host

The same files give the same bytes: identifiers and times are fixed.
"""
import os
import subprocess
import sys

SECTOR_BYTES = 512
MIB = 1 << 20
PARTITION_START_BYTES = MIB
GPT_BACKUP_BYTES = MIB
DISK_GUID = "54414944-0000-4000-8000-000000000001"
PARTITION_GUID = "54414944-0000-4000-8000-000000000002"
VOLUME_SERIAL = "7461696e"
TIME_S = 1704067200  # 2024-01-01; FAT knows no time before 1980


def tool(*command):
    """Runs one tool with the time fixed; its own words are shown only if it fails."""
    environment = dict(os.environ, SOURCE_DATE_EPOCH=str(TIME_S), TZ="UTC", MTOOLS_SKIP_CHECK="1",
                       LC_ALL="C")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit("image.py: %s: %s" % (" ".join(command), done.stdout.strip()))


def folders_of(paths):
    """The folders that the paths are in, outer ones first."""
    folders = []
    for path in paths:
        parts = path.split("/")[:-1]
        for i in range(len(parts)):
            folder = "/".join(parts[: i + 1])
            if folder not in folders:
                folders.append(folder)
    return folders


def image_write(out, files):
    """`files` maps a path inside the partition to a file on the host."""
    content_bytes = sum(os.path.getsize(file) for file in files.values())
    partition_bytes = (content_bytes * 9 // 8 + 4 * MIB) // MIB * MIB
    new = out + ".new"
    if os.path.exists(new):
        os.unlink(new)
    with open(new, "wb") as disk:
        disk.truncate(PARTITION_START_BYTES + partition_bytes + GPT_BACKUP_BYTES)
    start = PARTITION_START_BYTES // SECTOR_BYTES
    sectors = partition_bytes // SECTOR_BYTES
    tool("/sbin/sgdisk", "-a", "1", "-n", "1:%d:%d" % (start, start + sectors - 1), "-t", "1:ef00",
         "-c", "1:tain", "-U", DISK_GUID, "-u", "1:" + PARTITION_GUID, new)
    volume = "%s@@%d" % (new, PARTITION_START_BYTES)
    tool("mformat", "-i", volume, "-T", str(sectors), "-h", "64", "-s", "32", "-H", str(start),
         "-N", VOLUME_SERIAL, "-v", "TAIN", "::")
    for folder in folders_of(files):
        tool("mmd", "-i", volume, "::/" + folder)
    for path, file in files.items():
        tool("mcopy", "-i", volume, file, "::/" + path)
    os.rename(new, out)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    image_write(sys.argv[1], dict(argument.split("=", 1) for argument in sys.argv[2:]))
