# SPDX-License-Identifier: MIT
# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.
VMM_DEVICES := vmm/uart.c vmm/ioapic.c vmm/lapic.c vmm/ports.c vmm/fw_cfg.c vmm/mmio.c vmm/msrs.c vmm/console.c \
               vmm/vmcall.c vmm/measure.c vmm/measure_calls.c vmm/memory.c vmm/conversion.c vmm/cpuid.c boot/machine.c boot/lock.c boot/names.c \
               tests/vmm/fakes.c

HOST_TESTS += vmcall
vmcall_TEST := tests/vmm/vmcall_test.c
vmcall_SOURCES := $(VMM_DEVICES)

HOST_TESTS += map_gpa
map_gpa_TEST := tests/vmm/map_gpa_test.c
map_gpa_SOURCES := $(VMM_DEVICES)

HOST_TESTS += uart
uart_TEST := tests/vmm/uart_test.c
uart_SOURCES := vmm/uart.c

HOST_TESTS += apic
apic_TEST := tests/vmm/apic_test.c
apic_SOURCES := vmm/ioapic.c vmm/lapic.c boot/machine.c

HOST_TESTS += acpi_tables
acpi_tables_TEST := tests/vmm/acpi_tables_test.c
acpi_tables_SOURCES := vmm/acpi_tables.c

HOST_TESTS += linux
linux_TEST := tests/vmm/linux_test.c
linux_SOURCES := vmm/linux.c vmm/multiboot.c vmm/guest_image.c vmm/acpi_tables.c boot/machine.c

HOST_TESTS += run
run_TEST := tests/vmm/run_test.c
run_SOURCES := vmm/run.c $(VMM_DEVICES)

HOST_TESTS += vm
vm_TEST := tests/vmm/vm_test.c
vm_SOURCES := vmm/vm.c vmm/schedule.c vmm/vlapic.c vmm/summary.c vmm/guest_image.c vmm/linux.c vmm/multiboot.c vmm/acpi_tables.c \
              $(VMM_DEVICES)

# The boot shim for an address that a process may have; the test reads it when it runs.
HOST_TESTS += shim
shim_TEST := tests/vmm/shim_test.c
shim_SOURCES :=
$(BUILD)/host/shim: | $(BUILD)/host/shim.bin
$(BUILD)/host/shim.bin: vmm/shim.asm
	@mkdir -p $(@D)
	$(NASM) -f bin -DSHIM_BASE=0x70000000 -DPARAMETERS=0x6ffff000 $< -o $@

HOST_TESTS += cpuid
cpuid_TEST := tests/vmm/cpuid_test.c
cpuid_SOURCES := vmm/cpuid.c boot/machine.c

HOST_TESTS += vmx_policy
vmx_policy_TEST := tests/vmm/vmx_policy_test.c
vmx_policy_SOURCES := vmm/vmx_policy.c vmm/cpuid.c boot/machine.c

HOST_TESTS += vmx_vm
vmx_vm_TEST := tests/vmm/vmx_vm_test.c
vmx_vm_SOURCES := vmm/vmx_vm.c mm/ept.c mm/ept_change.c mm/caches.c mm/pages.c mm/free_map.c boot/lock.c boot/names.c

HOST_TESTS += measure
measure_TEST := tests/vmm/measure_test.c
measure_SOURCES := $(VMM_DEVICES)

HOST_TESTS += schedule
schedule_TEST := tests/vmm/schedule_test.c
schedule_SOURCES := vmm/schedule.c

# The guests of tain.cfg, the line and its commands, over VMs that only say what was done to them.
HOST_TESTS += monitor
monitor_TEST := tests/vmm/monitor_test.c
monitor_SOURCES := vmm/monitor.c vmm/commands.c vmm/guests.c vmm/console.c vmm/uart.c vmm/ioapic.c \
                   boot/machine.c boot/lock.c boot/names.c

HOST_TESTS += vlapic
vlapic_TEST := tests/vmm/vlapic_test.c
vlapic_SOURCES := vmm/vlapic.c

# The assembler's encodings, and the numbers that the decoder has for operations; read when it runs.
HOST_TESTS += mmio
mmio_TEST := tests/vmm/mmio_test.c
mmio_SOURCES := vmm/mmio_decode.c vmm/guest_walk.c
$(BUILD)/host/mmio: | $(BUILD)/host/mmio_instructions.bin
$(BUILD)/host/mmio_operations.inc: vmm/mmio_decode.h
	@mkdir -p $(@D)
	@sed -n 's/^    \(MMIO_[A-Z_]*\),.*/\1/p' $< | awk '{ print $$1 " equ " NR - 1 }' > $@
$(BUILD)/host/mmio_instructions.bin: tests/vmm/mmio_instructions.asm $(BUILD)/host/mmio_operations.inc
	$(NASM) -f bin $< -o $@

HOST_TESTS += xapic
xapic_TEST := tests/vmm/xapic_test.c
xapic_SOURCES := vmm/xapic.c vmm/lapic.c vmm/vlapic.c boot/machine.c

HOST_TESTS += multiboot
multiboot_TEST := tests/vmm/multiboot_test.c
multiboot_SOURCES := vmm/multiboot.c vmm/fw_cfg.c vmm/guest_image.c vmm/linux.c vmm/acpi_tables.c boot/machine.c

HOST_TESTS += vmx_msrs
vmx_msrs_TEST := tests/vmm/vmx_msrs_test.c
vmx_msrs_SOURCES := vmm/vmx_msrs.c vmm/vlapic.c vmm/lapic.c boot/machine.c boot/names.c

# Devices: what they see of the rest of vmm/ is vmm/device.h alone.
VMM_PCI := vmm/pci.c vmm/msix.c tests/vmm/device_guest.c

HOST_TESTS += pci
pci_TEST := tests/vmm/pci_test.c
pci_SOURCES := $(VMM_PCI)

HOST_TESTS += virtqueue
virtqueue_TEST := tests/vmm/virtqueue_test.c
virtqueue_SOURCES := vmm/virtqueue.c $(VMM_PCI)

VMM_VIRTIO := vmm/virtio.c vmm/virtio_pci.c vmm/virtqueue.c $(VMM_PCI) tests/vmm/virtio_driver.c

HOST_TESTS += virtio_transport
virtio_transport_TEST := tests/vmm/virtio_transport_test.c
virtio_transport_SOURCES := vmm/virtio_console.c $(VMM_VIRTIO)

HOST_TESTS += virtio_block
virtio_block_TEST := tests/vmm/virtio_block_test.c
virtio_block_SOURCES := vmm/virtio_block.c mm/pages.c mm/free_map.c boot/lock.c boot/names.c $(VMM_VIRTIO)

HOST_TESTS += virtio_console
virtio_console_TEST := tests/vmm/virtio_console_test.c
virtio_console_SOURCES := vmm/virtio_console.c vmm/virtio_entropy.c $(VMM_VIRTIO)

HOST_TESTS += virtio_net
virtio_net_TEST := tests/vmm/virtio_net_test.c
virtio_net_SOURCES := vmm/virtio_net.c vmm/net_switch.c boot/lock.c boot/names.c $(VMM_VIRTIO)

VMM_VIRTIO_ALL := vmm/virtio_block.c vmm/virtio_console.c vmm/virtio_entropy.c vmm/virtio_net.c vmm/net_switch.c \
                  mm/pages.c mm/free_map.c boot/lock.c boot/names.c $(VMM_VIRTIO) tests/vmm/device_set.c

HOST_TESTS += virtio_hostile
virtio_hostile_TEST := tests/vmm/virtio_hostile_test.c
virtio_hostile_SOURCES := $(VMM_VIRTIO_ALL)

HOST_TESTS += virtio_fuzz
virtio_fuzz_TEST := tests/vmm/virtio_fuzz_test.c
virtio_fuzz_SOURCES := $(VMM_VIRTIO_ALL)

HOST_TSAN_TESTS += net_switch_threads
net_switch_threads_TEST := tests/vmm/net_switch_threads_test.c
net_switch_threads_SOURCES := vmm/net_switch.c boot/lock.c boot/names.c

HOST_TESTS += virtio_threads
virtio_threads_TEST := tests/vmm/virtio_threads_test.c
virtio_threads_SOURCES := vmm/virtio_console.c $(VMM_VIRTIO)
