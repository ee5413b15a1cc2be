/* SPDX-License-Identifier: MIT */
/* What the module says of itself (SYS.RD). */
#ifndef TDX_METADATA_H
#define TDX_METADATA_H

#include "tdx/module.h"
#include "tdx/tdmr.h"

/* The whole of `module` that comes from SYS.RD. ERR_REFUSED, ERR_UNSUPPORTED, with a line. */
enum error metadata_read(struct tdx_module *module);
enum error metadata_read_tdmr_limits(struct tdmr_limits *limits);
enum error metadata_read_cmrs(struct span_list *convertible);

#endif
