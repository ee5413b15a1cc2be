# SPDX-License-Identifier: MIT
# MRTD on the host: mrtd.py hashes what initial_pages lays out with the VMM's own code.
INITIAL_PAGES_SOURCES := tests/attest/initial_pages.c vmm/guest_image.c vmm/linux.c vmm/multiboot.c \
                         vmm/acpi_tables.c boot/config.c boot/machine.c tests/host/machine.c

$(BUILD)/host/initial_pages: $(INITIAL_PAGES_SOURCES:%.c=$(BUILD)/host/%.o)
	@echo '  HOST  $@'
	$(QUIET)$(HOSTCC) $(HOST_CFLAGS) $^ -o $@ -lpthread

.PHONY: mrtd
IMAGE ?= $(BUILD)/tain.img
mrtd:  ## MRTD of each TD, from the files in IMAGE= alone
	@.ci/packages
	@$(MAKE) -s --no-print-directory $(BUILD)/host/initial_pages $(IMAGE) </dev/null >&2
	@tests/attest/mrtd.py $(IMAGE)

# The emulator cases compare it with what the running TD reports.
guests: $(BUILD)/host/initial_pages
