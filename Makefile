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

# `make V=1` shows the commands.
QUIET := $(if $(V),,@)

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
CFLAGS += -ffile-prefix-map="$$PWD"=.

# GNU-EFI's headers: 16-bit characters, and the firmware's calling convention by attribute.
EFI_CFLAGS := -fshort-wchar -DGNU_EFI_USE_MS_ABI -maccumulate-outgoing-args \
              -isystem /usr/include/efi -isystem /usr/include/efi/x86_64

# --- The image --------------------------------------------------------------------------------

SOURCES  := $(sort $(wildcard boot/*.c mm/*.c tdx/*.c tdx/soft/*.c vmm/*.c))
SOURCES  := $(filter-out %/offsets.c,$(SOURCES))
ASSEMBLY := $(sort $(filter-out vmm/shim.asm,$(wildcard boot/*.asm tdx/*.asm tdx/soft/*.asm vmm/*.asm)))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/%.o) $(ASSEMBLY:%.asm=$(BUILD)/%.asm.o)
# The annex is a program of its own: linked by itself first, with its two doors left global.
ANNEX    := $(filter $(BUILD)/tdx/soft/%,$(OBJECTS))
OBJECTS  := $(filter-out $(ANNEX),$(OBJECTS)) $(BUILD)/annex.o
OFFSETS  := $(BUILD)/offsets.inc

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC    $@'
	$(QUIET)$(CC) $(CFLAGS) $(if $(filter boot/efi.c,$<),$(EFI_CFLAGS)) -c $< -o $@

$(BUILD)/%.asm.o: %.asm $(OFFSETS)
	@mkdir -p $(@D)
	@echo '  NASM  $@'
	$(QUIET)$(NASM) -f elf64 -Wall -I $(BUILD)/ -MD $(@:.o=.d) $< -o $@

# Structure offsets for NASM, computed by the compiler: each */offsets.c is compiled to assembly,
# where a line "->NAME value" stands for one constant.
$(OFFSETS): $(wildcard */offsets.c */*/offsets.c) $(wildcard */*.h tdx/*/*.h)
	@mkdir -p $(@D)
	@for f in $(filter %.c,$^); do $(CC) $(filter-out -MMD -MP -g,$(CFLAGS)) -S $$f -o - || exit 1; done \
	    | sed -n 's/^.*->\([A-Z0-9_]*\) \$$*\(-*[0-9]*\).*/\1 equ \2/p' > $@

# The boot shim of TDs: a flat binary that vmm/shim_image.asm includes.
$(BUILD)/shim.bin: vmm/shim.asm
	@mkdir -p $(@D)
	@echo '  NASM  $@'
	$(QUIET)$(NASM) -f bin $< -o $@
$(BUILD)/vmm/shim_image.asm.o: $(BUILD)/shim.bin

$(BUILD)/annex.o: $(ANNEX)
	@echo '  LD    $@'
	$(QUIET)$(LD) -r $^ -o $@
	$(QUIET)$(OBJCOPY) --keep-global-symbol=soft_install --keep-global-symbol=soft_seamcall_entry $@

LDFLAGS := -nostdlib -znocombreloc -z noexecstack -T linker.ld -shared -Bsymbolic --no-undefined \
           --build-id=none
CRT0    := /usr/lib/crt0-efi-x86_64.o

# The symbol table names the functions of the image that holds it: linked twice. It is the last
# thing in the image, so that its size moves nothing; the second link is compared with the first.
$(BUILD)/tain-1.so: $(OBJECTS) $(BUILD)/symbols-0.o linker.ld
	@echo '  LD    $@'
	$(QUIET)$(LD) $(LDFLAGS) $(CRT0) $(OBJECTS) $(BUILD)/symbols-0.o -o $@ -L/usr/lib -lgnuefi
$(BUILD)/tain.so: $(BUILD)/tain-1.so $(BUILD)/symbols-1.o
	@echo '  LD    $@'
	$(QUIET)$(LD) $(LDFLAGS) $(CRT0) $(OBJECTS) $(BUILD)/symbols-1.o -o $@ -L/usr/lib -lgnuefi
	@$(NM) $< | grep -i ' t ' > $(BUILD)/names-1; $(NM) $@ | grep -i ' t ' > $(BUILD)/names-2; \
	    cmp $(BUILD)/names-1 $(BUILD)/names-2
$(BUILD)/symbols-0.c: boot/symbols.py
	@mkdir -p $(@D)
	@$(PYTHON) boot/symbols.py < /dev/null > $@
$(BUILD)/symbols-1.c: $(BUILD)/tain-1.so boot/symbols.py
	@$(NM) $< | $(PYTHON) boot/symbols.py > $@
$(BUILD)/symbols-%.o: $(BUILD)/symbols-%.c
	@echo '  CC    $@'
	$(QUIET)$(CC) $(CFLAGS) -c $< -o $@

# What the firmware's loader needs; .eh_frame, debugging and symbol sections stay behind.
EFI_SECTIONS := .text .data .symbols .dynamic .dynsym .rela .rela.* .rel .rel.* .reloc
$(BUILD)/tain.efi: $(BUILD)/tain.so
	@echo '  PE    $@'
	$(QUIET)$(OBJCOPY) $(EFI_SECTIONS:%=-j %) --target=efi-app-x86_64 $< $@

# --- The USB image and the guest's files ------------------------------------------------------
# KERNEL=, INITRD= and CMDLINE= replace what the guest runs; MEMORY= and VCPUS= what it has.

KERNEL  ?= $(BUILD)/guest/kernel
INITRD  ?= $(BUILD)/guest/initrd
CMDLINE ?= console=ttyS0 panic=-1 reboot=t cryptomgr.notests \
           initcall_blacklist=jent_mod_init,init_kprobes,init_kprobe_trace,trace_eval_init,$\
           tracer_init_tracefs,bpf_tcp_ca_kfunc_init,load_system_certificate_list
MEMORY  ?= 256M
VCPUS   ?= 1
export CMDLINE

$(BUILD)/guest/kernel: boot/image/kernel
	@mkdir -p $(@D)
	@boot/image/kernel $@ $(BUILD)/cache
$(BUILD)/guest/initrd: boot/image/initramfs.py boot/image/init $(wildcard /bin/busybox)
	@mkdir -p $(@D)
	@echo '  IMG   $@'
	$(QUIET)$(PYTHON) boot/image/initramfs.py $@ /bin/busybox boot/image/init

# Files of the user's own: nothing makes them.
$(sort $(filter-out $(BUILD)/guest/%,$(KERNEL) $(INITRD))):
	@echo "no file $@ (KERNEL= or INITRD=)" >&2; exit 1

# Variables have no times: the file is made each time, and replaced only where it differs.
$(BUILD)/tain.cfg: boot/image/tain.cfg FORCE
	@mkdir -p $(@D)
	@$(PYTHON) boot/image/fill.py $< MEMORY=$(MEMORY) VCPUS=$(VCPUS) CMDLINE="$$CMDLINE" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
# The same for the names of the files that go in.
$(BUILD)/inputs: FORCE
	@mkdir -p $(@D)
	@echo '$(KERNEL) $(INITRD)' > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
.PHONY: FORCE
FORCE:

$(BUILD)/tain.img: boot/image/image.py $(BUILD)/tain.efi $(BUILD)/tain.cfg $(KERNEL) $(INITRD) $(BUILD)/inputs
	@echo '  IMG   $@'
	$(QUIET)$(PYTHON) boot/image/image.py $@ EFI/BOOT/BOOTX64.EFI=$(BUILD)/tain.efi tain.cfg=$(BUILD)/tain.cfg \
	    guest/kernel=$(KERNEL) guest/initrd=$(INITRD)

# --- Host tests -------------------------------------------------------------------------------
# tests/FLOOR/NAME_test.c is linked with NAME_SOURCES (the real sources) and tests/host/.

HOST_CFLAGS := -std=gnu2x -g -O1 $(filter-out -Wframe-larger-than=2048,$(WARNINGS)) -I. -MMD -MP \
               -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

include $(wildcard tests/*/tests.mk) tests/guests/guests.mk

HOST_SEAM := tests/host/machine.c
SEED      ?= 1

host_objects = $(patsubst %.c,$(BUILD)/host/%.o,$(1))

$(BUILD)/host/%.o: %.c
	@mkdir -p $(@D)
	@echo '  HOST  $@'
	$(QUIET)$(HOSTCC) $(HOST_CFLAGS) -c $< -o $@

define HOST_TEST_RULE
$(BUILD)/host/$(1): $(call host_objects,$($(1)_TEST) $($(1)_SOURCES) $(HOST_SEAM))
	@echo '  HOST  $@'
	$(QUIET)$(HOSTCC) $(HOST_CFLAGS) $$^ -o $$@ -lcmocka -lpthread
endef
$(foreach test,$(HOST_TESTS),$(eval $(call HOST_TEST_RULE,$(test))))

# HOST_TSAN_TESTS are built under the thread sanitizer: build/host-tsan/NAME.
HOST_TSAN_CFLAGS := $(filter-out -fsanitize=% -fno-sanitize-recover=%,$(HOST_CFLAGS)) \
                    -fsanitize=thread -Wno-tsan -include tests/host/relax.h

$(BUILD)/host-tsan/%.o: %.c
	@mkdir -p $(@D)
	@echo '  TSAN  $@'
	$(QUIET)$(HOSTCC) $(HOST_TSAN_CFLAGS) -c $< -o $@

tsan_objects = $(patsubst %.c,$(BUILD)/host-tsan/%.o,$(1))

define HOST_TSAN_TEST_RULE
$(BUILD)/host-tsan/$(1): $(call tsan_objects,$($(1)_TEST) $($(1)_SOURCES) $(HOST_SEAM))
	@echo '  TSAN  $@'
	$(QUIET)$(HOSTCC) $(HOST_TSAN_CFLAGS) $$^ -o $$@ -lcmocka -lpthread
endef
$(foreach test,$(HOST_TSAN_TESTS),$(eval $(call HOST_TSAN_TEST_RULE,$(test))))

HOST_BINARIES := $(HOST_TESTS:%=$(BUILD)/host/%) $(HOST_TSAN_TESTS:%=$(BUILD)/host-tsan/%)

.PHONY: host-tests
host-tests: $(HOST_BINARIES)  ## unit tests on the host, under ASan and UBSan, or TSan
	@set -e; for test in $^; do echo "== $$test"; $$test; done

.PHONY: list-host-tests
list-host-tests:
	@for test in $(HOST_BINARIES); do echo $$test; done

.PHONY: stress
stress: $(BUILD)/host/walks $(BUILD)/host-tsan/threads  ## a million random operations, a minute of threads; SEED=
	$(BUILD)/host/walks --operations 1000000 --seed $(SEED)
	$(BUILD)/host-tsan/threads --seconds 60 --seed $(SEED)

# --- Running and checking ---------------------------------------------------------------------
# CPUS= processors of the emulated machine, RAM_MIB= its memory; TIMEOUT_S= ends a run that hangs.

CPUS      ?= 1
RAM_MIB   ?= 1024
TIMEOUT_S ?= 0
RUN := tests/emulator/run.py $(BUILD)/tain.img --cpus $(CPUS) --memory-mib $(RAM_MIB)

# These install what is missing first, and only then know that all tools are there.
.PHONY: run qemu gdb usb packages
packages:  ## install what packages.txt names and the machine lacks
	@.ci/packages
run:  ## build, and run the image in Bochs; this terminal is the guest's console
	@.ci/packages
	@$(MAKE) --no-print-directory all </dev/null
	@$(RUN) --timeout-s $(TIMEOUT_S)
qemu:  ## the same in QEMU: KVM with nested VMX where there is one; else up to where VMX is needed
	@.ci/packages
	@$(MAKE) --no-print-directory all </dev/null
	@$(RUN) --timeout-s $(TIMEOUT_S) --emulator qemu
gdb:  ## gdb on QEMU's stub, stopped where Tain starts, symbols at the right address
	@.ci/packages
	@$(MAKE) --no-print-directory all </dev/null
	@$(PYTHON) tests/emulator/gdb.py $(BUILD)/tain.img $(BUILD)/tain.so
usb: $(BUILD)/tain.img  ## print how to write the image to a USB stick
	@echo "Find the stick with 'lsblk -d -o NAME,SIZE,MODEL,TRAN' (TRAN is usb), then as root:"
	@echo "  dd if='$(CURDIR)/$(BUILD)/tain.img' of=/dev/STICK bs=4M conv=fsync status=progress"
	@echo "That overwrites all of /dev/STICK. On a server: switch Secure Boot off, TDX on, boot it."
	@echo "Tain's log and the guest's console are on COM1, 115200 baud."

# STRICT=yes measures with private pages hidden from the VMM.
STRICT ?= no
.PHONY: bench
bench:  ## measure in Bochs: a table, build/bench.json; fails where a goal is missed
	@.ci/packages
	@$(MAKE) --no-print-directory $(BUILD)/tain.efi guests </dev/null
	@$(PYTHON) tests/emulator/bench.py --strict $(STRICT)

.PHONY: check lint model mutants reproducible clean guests
guests: $(GUESTS)  ## what the emulator cases need besides the image
check:  ## lint, host tests, traces, the model and emulator cases; the last line is "N passed, N failed"
	@.ci/packages
	@$(PYTHON) tests/check.py
model:  ## check the Spin model of the mirror, its states and its mutants
	@.ci/packages
	@$(PYTHON) tests/model.py
mutants:  ## break the mirror and the software module: a host test must fail each time
	@$(PYTHON) tests/mutants.py
lint:  ## floors, headers, formatting, names; warnings are errors with GCC and Clang
	@$(PYTHON) tests/lint/lint.py --cc "$(CC)" --flags "$(LINT_CFLAGS)" --efi-flags "$(EFI_CFLAGS)"
# What both compilers are asked to accept.
LINT_CFLAGS = $(filter-out -MMD -MP -g -ffile-prefix-map=%,$(CFLAGS))

reproducible: $(BUILD)/tain.img  ## build in a second folder and compare the images byte by byte
	@rm -rf $(BUILD)/second && mkdir -p $(BUILD)/second/build
	@git ls-files -z --cached --others --exclude-standard | xargs -0 cp -a --parents -t $(BUILD)/second
	@cp -a $(BUILD)/guest $(BUILD)/second/build/guest
	@$(MAKE) --no-print-directory -s -C $(BUILD)/second all
	@cmp $(BUILD)/tain.img $(BUILD)/second/build/tain.img && rm -rf $(BUILD)/second
	@echo "two folders, the same bytes: $$(sha256sum < $(BUILD)/tain.img | cut -c 1-64)"

clean:  ## remove everything made, but not the packages fetched
	find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} + 2>/dev/null || true

-include $(shell find $(BUILD) -path $(BUILD)/second -prune -o -name '*.d' -print 2>/dev/null)
