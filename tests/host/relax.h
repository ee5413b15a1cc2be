/* SPDX-License-Identifier: MIT */
/*
 * Included before everything else where threads play processors: there may be more of them than
 * the host has, so that who waits lets others run.
 */
#ifndef TESTS_HOST_RELAX_H
#define TESTS_HOST_RELAX_H

#include <sched.h>

#include "boot/cpu.h"

#define cpu_relax() ((void)sched_yield())

#endif
