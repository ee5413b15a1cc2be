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
ept_SOURCES := $(MM_SOURCES) mm/ept.c

mirror_TEST := tests/mm/mirror_test.c
mirror_SOURCES := $(MIRROR_SOURCES) tests/mm/external_model.c

mirror_failures_TEST := tests/mm/mirror_failures_test.c
mirror_failures_SOURCES := $(MIRROR_SOURCES) tests/mm/external_model.c

mirror_enumerated_TEST := tests/mm/mirror_enumerated_test.c
mirror_enumerated_SOURCES := $(MIRROR_SOURCES) tests/mm/external_model.c

# Its threads under the thread sanitizer, too.
HOST_TSAN_TESTS += mirror_failures
