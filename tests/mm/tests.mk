# SPDX-License-Identifier: MIT
# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.
HOST_TESTS += pages caches ept mirror mirror_failures mirror_enumerated

MM_SOURCES := mm/pages.c mm/free_map.c mm/caches.c boot/lock.c
MIRROR_SOURCES := $(MM_SOURCES) $(wildcard mm/mirror*.c)

pages_TEST := tests/mm/pages_test.c
pages_SOURCES := $(MM_SOURCES)

caches_TEST := tests/mm/caches_test.c
caches_SOURCES := $(MM_SOURCES)

ept_TEST := tests/mm/ept_test.c
ept_SOURCES := $(MM_SOURCES) mm/ept.c mm/ept_change.c

mirror_TEST := tests/mm/mirror_test.c
mirror_SOURCES := $(MIRROR_SOURCES) tests/mm/external_model.c

mirror_failures_TEST := tests/mm/mirror_failures_test.c
mirror_failures_SOURCES := $(MIRROR_SOURCES) tests/mm/external_model.c

mirror_enumerated_TEST := tests/mm/mirror_enumerated_test.c
mirror_enumerated_SOURCES := $(MIRROR_SOURCES) tests/mm/external_model.c tests/mm/scenarios.c

# Its threads under the thread sanitizer, too.
HOST_TSAN_TESTS += mirror_failures

# The mirror itself is compiled as for the thread sanitizer, in a folder of its own, and linked
# with the test's answers to the sanitizer's calls: each store tells of itself.
HISTORY_MIRROR := $(filter mm/mirror%.c,$(MIRROR_SOURCES))
HISTORY_CFLAGS := $(filter-out -fsanitize=address%,$(HOST_CFLAGS)) \
                  -fsanitize=thread,undefined -Wno-tsan

$(BUILD)/host-history/%.o: %.c
	@mkdir -p $(@D)
	@echo '  HOST  $@'
	$(QUIET)$(HOSTCC) $(HISTORY_CFLAGS) -c $< -o $@

HOST_TESTS += history
history_TEST := tests/mm/history_test.c
history_SOURCES := $(MM_SOURCES) tests/mm/external_model.c tests/mm/scenarios.c \
                   tests/mm/history.c tests/mm/history_seam.c
$(BUILD)/host/history: $(HISTORY_MIRROR:%.c=$(BUILD)/host-history/%.o)
