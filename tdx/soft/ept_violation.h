/* SPDX-License-Identifier: MIT */
#ifndef TDX_SOFT_EPT_VIOLATION_H
#define TDX_SOFT_EPT_VIOLATION_H

#include "tdx/soft/run.h"

enum outcome ept_violation_handle(struct run *run);
enum outcome ept_misconfiguration_handle(struct run *run);

#endif
