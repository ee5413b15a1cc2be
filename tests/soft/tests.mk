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

HOST_TESTS += platform
platform_TEST := tests/soft/platform_test.c
platform_SOURCES := tests/soft/td_model.c tests/soft/seam_host.c $(SOFT_SOURCES)

HOST_TESTS += newer
newer_TEST := tests/soft/newer_test.c
newer_SOURCES := tests/soft/td_model.c tests/soft/seam_host.c $(SOFT_SOURCES)

# Sequences of calls: a few, the same each time, as a host test; and as many as wanted with
# libFuzzer, which keeps what it found worth keeping in build/fuzz/corpus.
FUZZ_SOURCES := $(addprefix tests/soft/,fuzz_play.c fuzz_world.c fuzz_seed.c audit.c trace.c) \
                tests/soft/seam_host.c $(SOFT_SOURCES)

HOST_TESTS += fuzz
fuzz_TEST := tests/soft/fuzz_test.c
fuzz_SOURCES := $(FUZZ_SOURCES)

HOST_TESTS += refusals
refusals_TEST := tests/soft/refusals_test.c
refusals_SOURCES := tests/soft/fuzz_world.c tests/soft/trace.c tests/soft/seam_host.c $(SOFT_SOURCES)

FUZZ_CC := clang
FUZZ_CFLAGS = $(HOST_CFLAGS) -fsanitize=fuzzer-no-link
fuzz_objects = $(patsubst %.c,$(BUILD)/fuzz/%.o,$(1))
SECONDS ?= 300

$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@echo '  FUZZ  $@'
	$(QUIET)$(FUZZ_CC) $(FUZZ_CFLAGS) -c $< -o $@

$(BUILD)/fuzz/calls: $(call fuzz_objects,tests/soft/fuzz_main.c $(FUZZ_SOURCES) tests/host/machine.c)
	@echo '  FUZZ  $@'
	$(QUIET)$(FUZZ_CC) $(HOST_CFLAGS) -fsanitize=fuzzer $^ -o $@ -lpthread

.PHONY: fuzz
fuzz: $(BUILD)/fuzz/calls $(BUILD)/host/fuzz  ## calls in any order on the software module, audited (libFuzzer); SECONDS=300
	@mkdir -p $(BUILD)/fuzz/corpus $(BUILD)/fuzz/seeds
	@$(BUILD)/host/fuzz --seeds $(BUILD)/fuzz/seeds $(wildcard tests/soft/traces/*.trace)
	$(BUILD)/fuzz/calls -max_total_time=$(SECONDS) -max_len=2048 -len_control=20 -timeout=20 \
	    -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/ \
	    $(BUILD)/fuzz/corpus $(BUILD)/fuzz/seeds
