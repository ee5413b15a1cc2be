/* SPDX-License-Identifier: MIT */
/*
 * Our own errors. The enum is [[nodiscard]]: a result that is dropped does not compile.
 * A message with the particulars is logged where the error arises, once.
 */
#ifndef BOOT_ERROR_H
#define BOOT_ERROR_H

enum [[nodiscard]] error{
    OK = 0,          ERR_NO_MEMORY, /* no page, no table slot, no key left */
    ERR_BUSY,                       /* lost a race or the module said BUSY: try again */
    ERR_INVALID,     /* the caller's arguments, or input from outside, make no sense */
    ERR_RANGE,       /* outside what exists */
    ERR_EXISTS,      /* already there */
    ERR_NOT_FOUND,   /* not there */
    ERR_STATE,       /* not allowed in the present state */
    ERR_UNSUPPORTED, /* this machine or this version cannot */
    ERR_REFUSED,     /* the TDX module refused; the log says how */
};

const char *error_name(enum error error);

#endif
