/* SPDX-License-Identifier: MIT */
/* TD_PARAMS: what a TD is to be, within what the module allows. */
#ifndef TDX_TD_PARAMS_H
#define TDX_TD_PARAMS_H

#include "tdx/td.h"

/* `params` is zeroed before. ERR_UNSUPPORTED with a line if module and options do not agree. */
enum error td_params_fill(struct td_params *params, const struct td_options *options);

#endif
