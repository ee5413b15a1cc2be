# SPDX-License-Identifier: MIT
#
# One non-recursive Makefile. Everything made is under build/.

CROSS_COMPILE ?= x86_64-linux-gnu-
CC      := $(CROSS_COMPILE)gcc
LD      := $(CROSS_COMPILE)ld
NM      := $(CROSS_COMPILE)nm
OBJCOPY := $(CROSS_COMPILE)objcopy
NASM    ?= nasm
HOSTCC  ?= gcc

BUILD := build

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef \
            -Wvla -Wframe-larger-than=2048

# --- Host tests -----------------------------------------------------------------------------
# tests/FLOOR/NAME_test.c is linked with NAME_SOURCES (the real sources) and tests/host/.

HOST_CFLAGS := -std=gnu2x -g -O1 $(WARNINGS) -Wno-frame-larger-than -I. -MMD -MP \
               -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

include $(wildcard tests/*/tests.mk)

HOST_SEAM := tests/host/machine.c

host_objects = $(patsubst %.c,$(BUILD)/host/%.o,$(1))

$(BUILD)/host/%.o: %.c
	@mkdir -p $(@D)
	$(HOSTCC) $(HOST_CFLAGS) -c $< -o $@

define HOST_TEST_RULE
$(BUILD)/host/$(1): $(call host_objects,$($(1)_TEST) $($(1)_SOURCES) $(HOST_SEAM))
	$(HOSTCC) $(HOST_CFLAGS) $$^ -o $$@ -lcmocka -lpthread
endef
$(foreach test,$(HOST_TESTS),$(eval $(call HOST_TEST_RULE,$(test))))

.PHONY: host-tests
host-tests: $(addprefix $(BUILD)/host/,$(HOST_TESTS))
	@set -e; for test in $^; do echo "== $$test"; $$test; done

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
