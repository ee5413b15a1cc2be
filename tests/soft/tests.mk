# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.
# The vCPU side of the software module on a modelled processor.
HOST_TESTS += exits

exits_TEST := tests/soft/exits_test.c
exits_SOURCES := tests/soft/processor_model.c boot/names.c tdx/soft/exits.c tdx/soft/events.c \
                 tdx/soft/td_exit.c tdx/soft/cpuid.c tdx/soft/msr.c tdx/soft/interrupts.c \
                 tdx/soft/ept_violation.c tdx/soft/zero_step.c tdx/soft/guest_memory.c \
                 tdx/soft/instruction.c tdx/soft/vmcs_init.c tdx/soft/leaf.c tdx/soft/trylock.c \
                 tdx/soft/sept.c tdx/soft/objects.c tdx/soft/pamt.c tdx/soft/platform.c
