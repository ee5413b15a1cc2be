/* SPDX-License-Identifier: MIT */
/* TDREPORT_STRUCT. */
#ifndef TDX_SOFT_REPORT_H
#define TDX_SOFT_REPORT_H

#include "tdx/soft/td.h"

#define REPORT_DATA_BYTES 64
#define REPORT_MAC_BYTES 32

struct td_report {
    struct {
        u8 type, subtype, version, reserved_3;
        u8 reserved_4[12];
        u8 cpu_svn[16];
        u8 tcb_info_hash[48];
        u8 td_info_hash[48];
        u8 data[REPORT_DATA_BYTES];
        u8 reserved_192[32];
        u8 mac[REPORT_MAC_BYTES];
    } mac_struct;
    struct {
        u64 valid;
        u8 svn[16];
        u8 mrseam[48];
        u8 mrsignerseam[48];
        u64 attributes;
        u8 reserved_128[111];
        u8 reserved_239[17];
    } tcb_info;
    struct {
        u64 attributes, xfam;
        u8 mrtd[48], mrconfigid[48], mrowner[48], mrownerconfig[48];
        u8 rtmr[RTMR_COUNT][48];
        u8 servtd_hash[48];
        u8 reserved_448[64];
    } td_info;
};
#define REPORT_MAC_STRUCT_BYTES 256
_Static_assert(offsetof(struct td_report, tcb_info) == REPORT_MAC_STRUCT_BYTES, "TEE_TCB_INFO");
_Static_assert(offsetof(struct td_report, td_info) == 512, "TDINFO");
_Static_assert(sizeof(struct td_report) == 1024, "TDREPORT_STRUCT");

/*
 * The report of a TD now. Its MAC holds on this machine until it is started again: the key is
 * drawn once a run. False if there was no entropy for it.
 */
bool report_make(struct td_report *report, const struct tdcs *tdcs,
                 const u8 data[REPORT_DATA_BYTES]);

/*
 * Whether a REPORTMACSTRUCT is of a report that report_make made in this run. Of its fields the
 * MAC alone decides, but for CPUSVN, which names the key.
 */
enum report_verdict {
    REPORT_GENUINE,
    REPORT_OF_OTHER_CPU,
    REPORT_FORGED,
    REPORT_NO_ENTROPY,
};
enum report_verdict report_verify(const u8 mac_struct[REPORT_MAC_STRUCT_BYTES]);

#endif
