/* SPDX-License-Identifier: MIT */
/*
 * A processor for unit tests of the software module's vCPU side: the seams tdx/soft/seam.h and
 * tdx/soft/processor.h over an array that stands for the VMCS and the arena of tests/host/.
 */
#ifndef TESTS_SOFT_PROCESSOR_MODEL_H
#define TESTS_SOFT_PROCESSOR_MODEL_H

#include "tdx/soft/run.h"

struct processor_model {
    u64 vmcs[0x10000];            /* by field encoding */
    struct cpuid_values features; /* what every CPUID leaf answers */
    u32 interrupt_waiting;        /* a vector, or PROCESSOR_NO_INTERRUPT */
    u32 interrupts_ended;
    u64 cr2, xcr0, xss;
};
extern struct processor_model processor_model;

/* A fresh processor, and a vCPU of a fresh TD with 48-bit GPAs whose tables are all empty. */
void processor_model_reset(struct run *run);

#endif
