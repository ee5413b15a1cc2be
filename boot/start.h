/* SPDX-License-Identifier: MIT */
/*
 * The one upcall of the ground floor: boot/ calls vmm_main once, on processor 0, when the machine
 * is ours (own tables, every processor online and idle, interrupts disabled), and powers off with
 * what it returns.
 */
#ifndef BOOT_START_H
#define BOOT_START_H

/* The exit status of the whole run: 0 if everything that was asked for was done. */
int vmm_main(void);

#endif
