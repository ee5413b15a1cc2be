/* SPDX-License-Identifier: MIT */
/* Names of numbers, from their tables. */
#include "boot/error.h"
#include "boot/types.h"
#include "boot/vmx.h"

const char *error_name(enum error error)
{
    switch (error) {
    case OK:
        return "no error";
    case ERR_NO_MEMORY:
        return "out of memory";
    case ERR_BUSY:
        return "busy";
    case ERR_INVALID:
        return "invalid";
    case ERR_RANGE:
        return "out of range";
    case ERR_EXISTS:
        return "exists already";
    case ERR_NOT_FOUND:
        return "not found";
    case ERR_STATE:
        return "not allowed in this state";
    case ERR_UNSUPPORTED:
        return "not supported";
    case ERR_REFUSED:
        return "refused by the TDX module";
    }
    return "?";
}

const char *exit_reason_name(u32 reason)
{
    switch (reason) {
#define EXIT_REASON(name, number) \
    case number:                  \
        return #name;
#include "boot/exit_reasons.def"
#undef EXIT_REASON
    default:
        return "?";
    }
}

const char *vmcs_field_name(u32 encoding)
{
    switch (encoding) {
#define VMCS_FIELD(name, number) \
    case number:                 \
        return #name;
#include "boot/vmcs_fields.def"
#undef VMCS_FIELD
    default:
        return "?";
    }
}
