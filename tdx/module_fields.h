/* SPDX-License-Identifier: MIT */
/* What the module says of itself (SYS.RD). */
#ifndef TDX_MODULE_FIELDS_H
#define TDX_MODULE_FIELDS_H

#include "tdx/module.h"
#include "tdx/tdmr.h"

/* The whole of `module` that comes from SYS.RD. ERR_REFUSED, ERR_UNSUPPORTED, with a line. */
enum error module_fields_read(struct tdx_module *module);
/* With Dynamic PAMT if `module` is to use it. */
enum error module_limits_read(const struct tdx_module *module, struct tdmr_limits *limits);
enum error module_cmrs_read(struct span_list *convertible);

#endif
