/* SPDX-License-Identifier: MIT */
/*
 * What has to hold in the software module between two calls, whatever was called before: page
 * metadata against secure EPTs, KeyIDs against TDs, counts against what they count, no lock held
 * but for the vCPUs that are inside.
 */
#ifndef TESTS_SOFT_AUDIT_H
#define TESTS_SOFT_AUDIT_H

#include "boot/types.h"

#define SOFT_AUDIT_BYTES 256

/*
 * True if all of it holds; else `message` says the first thing that does not. Looks at the memory
 * touched since machine_load: there must be no TD in what was kept.
 */
bool soft_audit(char message[SOFT_AUDIT_BYTES]);

#endif
