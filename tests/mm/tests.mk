HOST_TESTS += mirror

MM_SOURCES := mm/pages.c mm/caches.c
MIRROR_SOURCES := mm/mirror.c mm/mirror_remove.c mm/mirror_destroy.c mm/mirror_audit.c

mirror_TEST := tests/mm/mirror_test.c
mirror_SOURCES := $(MM_SOURCES) $(MIRROR_SOURCES) boot/lock.c boot/names.c tests/mm/external_model.c
