# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.

# The module without the machine's side: seam_host.c stands for that.
SOFT_MACHINE_SOURCES := tdx/soft/seam.c tdx/soft/processor.c tdx/soft/offsets.c
SOFT_SOURCES := $(filter-out $(SOFT_MACHINE_SOURCES),$(wildcard tdx/soft/*.c)) boot/names.c

# replay < NAME.trace prints the module's answers, call by call.
REPLAY_SOURCES := tests/soft/replay.c tests/soft/seam_host.c $(SOFT_SOURCES) tests/host/machine.c

$(BUILD)/host/replay: $(patsubst %.c,$(BUILD)/host/%.o,$(REPLAY_SOURCES))
	$(HOSTCC) $(HOST_CFLAGS) $^ -o $@ -lpthread
