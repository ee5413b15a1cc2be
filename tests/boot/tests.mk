HOST_TESTS += config format lock machine acpi

config_TEST := tests/boot/config_test.c
config_SOURCES := boot/config.c

# boot/format.c is what it tests: the seam's own printf steps aside.
format_TEST := tests/boot/format_test.c
format_SOURCES := boot/format.c

lock_TEST := tests/boot/lock_test.c
lock_SOURCES := boot/lock.c

machine_TEST := tests/boot/machine_test.c
machine_SOURCES := boot/machine.c

acpi_TEST := tests/boot/acpi_test.c
acpi_SOURCES := boot/acpi.c
