# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.
VMM_DEVICES := vmm/uart.c vmm/ioapic.c vmm/lapic.c vmm/ports.c vmm/msrs.c vmm/console.c \
               vmm/vmcall.c vmm/memory.c vmm/cpuid.c boot/machine.c boot/lock.c boot/names.c \
               tests/vmm/fakes.c

HOST_TESTS += vmcall
vmcall_TEST := tests/vmm/vmcall_test.c
vmcall_SOURCES := $(VMM_DEVICES)

HOST_TESTS += map_gpa
map_gpa_TEST := tests/vmm/map_gpa_test.c
map_gpa_SOURCES := $(VMM_DEVICES)
