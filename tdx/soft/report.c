/* SPDX-License-Identifier: MIT */
#include "tdx/soft/report.h"

#include <stdatomic.h>

#include "boot/string.h"

#define REPORT_TYPE_TDX 0x81
#define KEY_QWORDS 6
#define HMAC_INNER 0x36
#define HMAC_OUTER 0x5c

/* TEE_TCB_INFO.VALID: which of its fields say something. This module is not measured. */
#define TCB_INFO_VALID_NONE 0
/* In place of the module's measurement: whoever reads the bytes shall see whose MAC this is. */
static const char label[] = "Tain's software TDX module: no attestation";
_Static_assert(sizeof label <= SHA384_BYTES, "MRSEAM");

static _Atomic u64 key[KEY_QWORDS]; /* 0: not drawn yet */

/* Processors that draw at once agree on whose came first. */
static bool key_draw(void)
{
    for (u32 i = 0; i < KEY_QWORDS; i++) {
        u64 fresh, none = 0;
        if (atomic_load(&key[i]))
            continue;
        if (!seam_random(&fresh))
            return false;
        atomic_compare_exchange_strong(&key[i], &none, fresh | 1);
    }
    return true;
}

static void digest(const void *data, size_t len_bytes, u8 out[SHA384_BYTES])
{
    struct sha384 sha;
    sha384_start(&sha);
    sha384_update(&sha, data, len_bytes);
    sha384_finish(&sha, out);
}

static void keyed_start(struct sha384 *sha, u8 pad)
{
    u8 block[SHA384_BLOCK_BYTES];

    memset(block, 0, sizeof block);
    for (u32 i = 0; i < KEY_QWORDS; i++) {
        u64 word = atomic_load(&key[i]);
        memcpy(block + i * sizeof word, &word, sizeof word);
    }
    for (u32 i = 0; i < sizeof block; i++)
        block[i] ^= pad;
    sha384_start(sha);
    sha384_update(sha, block, sizeof block);
}

/* HMAC-SHA-384 of what precedes the MAC, cut to its width. */
static void mac(const u8 *mac_struct, u8 out[REPORT_MAC_BYTES])
{
    u8 inner[SHA384_BYTES], outer[SHA384_BYTES];
    struct sha384 sha;

    keyed_start(&sha, HMAC_INNER);
    sha384_update(&sha, mac_struct, offsetof(struct td_report, mac_struct.mac));
    sha384_finish(&sha, inner);
    keyed_start(&sha, HMAC_OUTER);
    sha384_update(&sha, inner, sizeof inner);
    sha384_finish(&sha, outer);
    memcpy(out, outer, REPORT_MAC_BYTES);
}

bool report_make(struct td_report *report, const struct tdcs *tdcs,
                 const u8 data[REPORT_DATA_BYTES])
{
    if (!key_draw())
        return false;
    memset(report, 0, sizeof *report);
    report->tcb_info.valid = TCB_INFO_VALID_NONE;
    memcpy(report->tcb_info.mrseam, label, sizeof label);
    report->td_info.attributes = tdcs->attributes;
    report->td_info.xfam = tdcs->xfam;
    memcpy(report->td_info.mrtd, tdcs->mrtd, sizeof tdcs->mrtd);
    memcpy(report->td_info.mrconfigid, tdcs->mrconfigid, sizeof tdcs->mrconfigid);
    memcpy(report->td_info.mrowner, tdcs->mrowner, sizeof tdcs->mrowner);
    memcpy(report->td_info.mrownerconfig, tdcs->mrownerconfig, sizeof tdcs->mrownerconfig);
    memcpy(report->td_info.rtmr, tdcs->rtmr, sizeof tdcs->rtmr);
    memcpy(report->td_info.servtd_hash, tdcs->servtd_hash, sizeof tdcs->servtd_hash);

    report->mac_struct.type = REPORT_TYPE_TDX;
    memcpy(report->mac_struct.data, data, REPORT_DATA_BYTES);
    digest(&report->tcb_info, offsetof(struct td_report, tcb_info.reserved_239) - 256,
           report->mac_struct.tcb_info_hash);
    digest(&report->td_info, sizeof report->td_info, report->mac_struct.td_info_hash);
    mac((const u8 *)&report->mac_struct, report->mac_struct.mac);
    return true;
}

static bool bytes_are_equal(const u8 *a, const u8 *b, size_t len_bytes)
{
    u8 difference = 0;
    for (size_t i = 0; i < len_bytes; i++)
        difference |= a[i] ^ b[i];
    return !difference;
}

enum report_verdict report_verify(const u8 mac_struct[REPORT_MAC_STRUCT_BYTES])
{
    static const u8 own_cpu_svn[sizeof(((struct td_report *)0)->mac_struct.cpu_svn)];
    const u8 *cpu_svn = mac_struct + offsetof(struct td_report, mac_struct.cpu_svn);
    u8 expected[REPORT_MAC_BYTES];

    /* Without a key of its own an all-zero one would vouch for anybody's report. */
    if (!key_draw())
        return REPORT_NO_ENTROPY;
    if (!bytes_are_equal(cpu_svn, own_cpu_svn, sizeof own_cpu_svn))
        return REPORT_OF_OTHER_CPU;
    mac(mac_struct, expected);
    bool is_genuine = bytes_are_equal(mac_struct + offsetof(struct td_report, mac_struct.mac),
                                      expected, sizeof expected);
    return is_genuine ? REPORT_GENUINE : REPORT_FORGED;
}
