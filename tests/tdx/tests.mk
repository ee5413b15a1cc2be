# SPDX-License-Identifier: MIT
# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.

HOST_TESTS += seamcall spans tdmr start

seamcall_TEST := tests/tdx/seamcall_test.c
seamcall_SOURCES := tdx/seamcall.c tdx/status.c tests/tdx/call_forms.c

spans_TEST := tests/tdx/spans_test.c
spans_SOURCES := tdx/spans.c

# The machine around the driver, and a module that agrees to everything.
TDX_TEST_MACHINE := tests/tdx/environment.c boot/machine.c boot/lock.c mm/pages.c mm/free_map.c
TDX_TEST_FAKE := tests/tdx/fake_module.c tests/tdx/call_forms.c
TDX_START := tdx/seamcall.c tdx/status.c tdx/module.c tdx/hardware.c tdx/platform.c \
             tdx/module_fields.c tdx/packages.c tdx/keys.c tdx/tdmr.c tdx/spans.c tdx/handover.c \
             tdx/pamt.c tdx/pamt_audit.c mm/caches.c

tdmr_TEST := tests/tdx/tdmr_test.c
tdmr_SOURCES := $(TDX_START) $(TDX_TEST_MACHINE) $(TDX_TEST_FAKE)

start_TEST := tests/tdx/start_test.c
start_SOURCES := $(TDX_START) $(TDX_TEST_MACHINE) $(TDX_TEST_FAKE)

HOST_TESTS += td

TDX_LIFE := tdx/td.c tdx/td_params.c tdx/td_memory.c tdx/td_vcpu.c tdx/td_enter.c \
            tdx/td_teardown.c

td_TEST := tests/tdx/td_test.c
td_SOURCES := $(TDX_START) $(TDX_LIFE) $(TDX_TEST_MACHINE) $(TDX_TEST_FAKE) \
              $(wildcard mm/mirror*.c)

HOST_TESTS += enter

enter_TEST := tests/tdx/enter_test.c
enter_SOURCES := $(td_SOURCES)

HOST_TESTS += soft_life

# The software module's core; its seam to the hardware is tests/tdx/soft_module.c.
SOFT_CORE := $(filter-out tdx/soft/seam.c tdx/soft/processor.c tdx/soft/offsets.c, \
               $(wildcard tdx/soft/*.c))

SOFT_LIFE := $(TDX_START) $(TDX_LIFE) $(TDX_TEST_MACHINE) tests/tdx/soft_module.c \
             tests/tdx/call_forms.c $(wildcard mm/mirror*.c) boot/names.c $(SOFT_CORE)

soft_life_TEST := tests/tdx/soft_life_test.c
soft_life_SOURCES := $(SOFT_LIFE)

HOST_TESTS += pamt

pamt_TEST := tests/tdx/pamt_test.c
pamt_SOURCES := $(SOFT_LIFE)

HOST_TESTS += call

# The assembly itself, in a process of the host.
call_TEST := tests/tdx/call_test.c
call_SOURCES :=
$(BUILD)/host/call: $(BUILD)/host/tdx/seamcall.asm.o
$(BUILD)/host/tdx/seamcall.asm.o: tdx/seamcall.asm
	@mkdir -p $(@D)
	$(NASM) -f elf64 -Wall $< -o $@

HOST_TESTS += walks

walks_TEST := tests/tdx/walks_test.c
walks_SOURCES := $(SOFT_LIFE) tests/tdx/guest.c tests/tdx/walk_ops.c tests/tdx/walk_run.c \
                 tests/tdx/walk_memory.c tests/tdx/walk_reference.c tests/tdx/walk_shrink.c

# Threads on the same memory: under the thread sanitizer alone.
HOST_TSAN_TESTS += threads

threads_TEST := tests/tdx/threads_test.c
threads_SOURCES := $(SOFT_LIFE) tests/tdx/guest.c tests/tdx/walk_ops.c tests/tdx/threads_guest.c \
                   tests/tdx/threads_vmm.c

# Measures what initial_pages writes; tests/attest/test_mrtd.py compares.
SOFT_MRTD_SOURCES := tests/tdx/soft_mrtd.c $(SOFT_LIFE) tests/host/machine.c

$(BUILD)/host/soft_mrtd: $(SOFT_MRTD_SOURCES:%.c=$(BUILD)/host/%.o)
	@echo '  HOST  $@'
	$(QUIET)$(HOSTCC) $(HOST_CFLAGS) $^ -o $@ -lpthread
