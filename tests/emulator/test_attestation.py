# SPDX-License-Identifier: MIT
"""What a TD shows as evidence of itself is what the image's files and its own acts say."""
import hashlib
import re

from mrtd import image_mrtds
from test_guests import assert_survived

# What tests/guests/report.asm does: (RTMR, digest).
EXTENDED = [(2, b"\x11" * 48), (2, b"\x22" * 48), (3, b"\x22" * 48)]
REPORT_DATA = bytes(range(64))
REPORT_TYPE_TDX = 0x81
RTMRS = 4


class Report:
    """TDREPORT_STRUCT: REPORTMACSTRUCT, TEE_TCB_INFO and TDINFO."""

    def __init__(self, text):
        report = bytes.fromhex(text)
        self.type = report[0]
        self.cpu_svn = report[16:32]
        self.tcb_info_hash, self.td_info_hash = report[32:80], report[80:128]
        self.data = report[128:192]
        self.mac = report[224:256]
        self.tcb_info, self.td_info = report[256:256 + 239], report[512:]
        self.tcb_valid = self.tcb_info[:8]
        self.mrseam = self.tcb_info[24:72]
        self.mrtd = self.td_info[16:64]
        self.rtmrs = [self.td_info[208 + 48 * i:256 + 48 * i] for i in range(RTMRS)]


def test_a_report_says_what_was_loaded_and_what_was_done(boot_guest):
    machine = boot_guest("report")
    machine.expect("guest: PASS")
    assert machine.finish() == 0, machine.tail()
    assert_survived(machine)
    reports = [Report(text) for text in
               re.findall(r"^guest: TDREPORT ([0-9a-f]{2048})$", machine.text(), re.M)]
    assert len(reports) == 2, machine.tail()

    from_files = image_mrtds(machine.emulator.image)["report"]
    assert re.findall(r"summary: MRTD (\w+)", machine.text()) == [from_files]
    rtmrs = [bytes(48)] * RTMRS
    assert reports[0].rtmrs == rtmrs
    for index, digest in EXTENDED:
        rtmrs[index] = hashlib.sha384(rtmrs[index] + digest).digest()
    assert reports[1].rtmrs == rtmrs

    for report in reports:
        assert report.mrtd.hex() == from_files
        assert report.type == REPORT_TYPE_TDX and report.data == REPORT_DATA
        assert report.tcb_info_hash == hashlib.sha384(report.tcb_info).digest()
        assert report.td_info_hash == hashlib.sha384(report.td_info).digest()
        # A verifier has to see that the MAC is none of a processor's.
        assert report.tcb_valid == bytes(8) and report.cpu_svn == bytes(16)
        assert b"software TDX module: no attestation" in report.mrseam
    assert reports[0].mac != reports[1].mac and bytes(32) not in (reports[0].mac, reports[1].mac)
