# SPDX-License-Identifier: MIT
# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.

# The module without the machine's side: seam_host.c stands for that, on a memory of its own.
SOFT_MACHINE_SOURCES := tdx/soft/seam.c tdx/soft/processor.c tdx/soft/offsets.c
SOFT_SOURCES := $(filter-out $(SOFT_MACHINE_SOURCES),$(wildcard tdx/soft/*.c)) boot/names.c \
                tests/soft/sparse_memory.c

# replay < NAME.trace prints the module's answers, call by call; -e also the lines.
REPLAY_SOURCES := tests/soft/replay.c tests/soft/trace.c tests/soft/seam_host.c $(SOFT_SOURCES) \
                  tests/host/machine.c

$(BUILD)/host/replay: $(patsubst %.c,$(BUILD)/host/%.o,$(REPLAY_SOURCES))
	$(HOSTCC) $(HOST_CFLAGS) $^ -o $@ -lpthread

# The vCPU side of the module on a modelled processor.
HOST_TESTS += exits

exits_TEST := tests/soft/exits_test.c
exits_SOURCES := tests/soft/processor_model.c boot/names.c \
                 $(addprefix tdx/soft/,exits.c events.c td_exit.c cpuid.c msr.c interrupts.c \
                   ept_violation.c zero_step.c guest_memory.c instruction.c vmcs_init.c leaf.c \
                   trylock.c sept.c objects.c pamt.c pamt_pair.c platform.c)

.PHONY: replay
# All the traces of a folder: make replay TRACES=folder. Those here are part of make check.
TRACES ?= tests/soft/traces
replay: $(BUILD)/host/replay  ## what the software module answers otherwise than the traces say; TRACES=
	$(PYTHON) tests/soft/replay_compare.py --show 5 $< $(wildcard $(TRACES)/*.trace)
host-tests: | replay

HOST_TESTS += sha384
sha384_TEST := tests/soft/sha384_test.c
sha384_SOURCES := tdx/soft/sha384.c

HOST_TESTS += trylock
trylock_TEST := tests/soft/trylock_test.c
trylock_SOURCES := tdx/soft/trylock.c

HOST_TESTS += accept
accept_TEST := tests/soft/accept_test.c
accept_SOURCES := tests/soft/seam_host.c $(SOFT_SOURCES)

HOST_TESTS += tdcall
tdcall_TEST := tests/soft/tdcall_test.c
tdcall_SOURCES := tests/soft/td_model.c tests/soft/seam_host.c $(SOFT_SOURCES)
