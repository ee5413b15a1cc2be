# SPDX-License-Identifier: MIT
#
# One non-recursive Makefile; everything made is under build/. `make help` lists the targets.

CROSS_COMPILE ?= x86_64-linux-gnu-
CC      := $(CROSS_COMPILE)gcc
LD      := $(CROSS_COMPILE)ld
NM      := $(CROSS_COMPILE)nm
OBJCOPY := $(CROSS_COMPILE)objcopy
NASM    ?= nasm
HOSTCC  ?= gcc
PYTHON  := /usr/bin/python3

BUILD := build

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

.PHONY: all help
all: $(BUILD)/tain.img  ## the USB image, build/tain.img (the default)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

# --- Flags, each with its reason --------------------------------------------------------------

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef \
            -Wvla
# Kernel stacks are 32 KiB: no function may take more than a sixteenth.
WARNINGS += -Wframe-larger-than=2048

CFLAGS := -std=gnu2x -O2 -g $(WARNINGS) -I. -MMD -MP
# No C library; memcpy and its kind are boot/string.c's, and loops in there stay loops.
CFLAGS += -ffreestanding -fno-tree-loop-distribute-patterns
# The firmware loads the image anywhere.
CFLAGS += -fpic -fvisibility=hidden
# Vector and floating-point registers belong to guests.
CFLAGS += -mgeneral-regs-only
# Interrupts use the stack that they find.
CFLAGS += -mno-red-zone
# A backtrace follows RBP.
CFLAGS += -fno-omit-frame-pointer
# No C library to report to.
CFLAGS += -fno-stack-protector
# Table entries are read as words of several kinds.
CFLAGS += -fno-strict-aliasing
# The same bytes from any folder.
CFLAGS += -ffile-prefix-map=$(CURDIR)=.

# GNU-EFI's headers: 16-bit characters, and the firmware's calling convention by attribute.
EFI_CFLAGS := -fshort-wchar -DGNU_EFI_USE_MS_ABI -maccumulate-outgoing-args \
              -isystem /usr/include/efi -isystem /usr/include/efi/x86_64

# --- The image --------------------------------------------------------------------------------

SOURCES  := $(sort $(wildcard boot/*.c mm/*.c tdx/*.c tdx/soft/*.c vmm/*.c))
SOURCES  := $(filter-out %/offsets.c,$(SOURCES))
ASSEMBLY := $(sort $(filter-out vmm/shim.asm,$(wildcard boot/*.asm tdx/*.asm tdx/soft/*.asm vmm/*.asm)))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/%.o) $(ASSEMBLY:%.asm=$(BUILD)/%.asm.o)
OFFSETS  := $(BUILD)/offsets.inc

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(if $(filter boot/efi.c,$<),$(EFI_CFLAGS)) -c $< -o $@

$(BUILD)/%.asm.o: %.asm $(OFFSETS)
	@mkdir -p $(@D)
	$(NASM) -f elf64 -Wall -I $(BUILD)/ -MD $(@:.o=.d) $< -o $@

# Structure offsets for NASM, computed by the compiler: each */offsets.c is compiled to assembly,
# where a line "->NAME value" stands for one constant.
$(OFFSETS): $(wildcard */offsets.c */*/offsets.c) $(wildcard boot/*.h tdx/abi/*.h tdx/soft/*.h)
	@mkdir -p $(@D)
	@for f in $(filter %.c,$^); do $(CC) $(filter-out -MMD -MP -g,$(CFLAGS)) -S $$f -o - || exit 1; done \
	    | sed -n 's/^.*->\([A-Z0-9_]*\) \$$*\(-*[0-9]*\).*/\1 equ \2/p' > $@

# The boot shim of TDs: a flat binary that vmm/shim_image.asm includes.
$(BUILD)/shim.bin: vmm/shim.asm
	@mkdir -p $(@D)
	$(NASM) -f bin $< -o $@
$(BUILD)/vmm/shim_image.asm.o: $(BUILD)/shim.bin

LDFLAGS := -nostdlib -znocombreloc -z noexecstack -T linker.ld -shared -Bsymbolic --no-undefined \
           --build-id=none
CRT0    := /usr/lib/crt0-efi-x86_64.o

# The symbol table names the functions of the image that holds it: linked twice. It is the last
# thing in the image, so that its size moves nothing; the second link is compared with the first.
$(BUILD)/tain-1.so: $(OBJECTS) $(BUILD)/symbols-0.o linker.ld
	$(LD) $(LDFLAGS) $(CRT0) $(OBJECTS) $(BUILD)/symbols-0.o -o $@ -L/usr/lib -lgnuefi
$(BUILD)/tain.so: $(BUILD)/tain-1.so $(BUILD)/symbols-1.o
	$(LD) $(LDFLAGS) $(CRT0) $(OBJECTS) $(BUILD)/symbols-1.o -o $@ -L/usr/lib -lgnuefi
	@$(NM) $< | grep -i ' t ' > $(BUILD)/names-1; $(NM) $@ | grep -i ' t ' > $(BUILD)/names-2; \
	    cmp $(BUILD)/names-1 $(BUILD)/names-2
$(BUILD)/symbols-0.c: boot/symbols.py
	@mkdir -p $(@D)
	$(PYTHON) boot/symbols.py < /dev/null > $@
$(BUILD)/symbols-1.c: $(BUILD)/tain-1.so boot/symbols.py
	$(NM) $< | $(PYTHON) boot/symbols.py > $@
$(BUILD)/symbols-%.o: $(BUILD)/symbols-%.c
	$(CC) $(CFLAGS) -c $< -o $@

EFI_SECTIONS := .text .data .symbols .dynamic .dynsym .rela .rela.* .rel .rel.* .reloc
$(BUILD)/tain.efi: $(BUILD)/tain.so
	$(OBJCOPY) $(EFI_SECTIONS:%=-j %) --target=efi-app-x86_64 $< $@

# --- Host tests -------------------------------------------------------------------------------
# tests/FLOOR/NAME_test.c is linked with NAME_SOURCES (the real sources) and tests/host/.

HOST_CFLAGS := -std=gnu2x -g -O1 $(filter-out -Wframe-larger-than=2048,$(WARNINGS)) -I. -MMD -MP \
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
host-tests: $(addprefix $(BUILD)/host/,$(HOST_TESTS))  ## unit tests on the host, under ASan and UBSan
	@set -e; for test in $^; do echo "== $$test"; $$test; done

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
