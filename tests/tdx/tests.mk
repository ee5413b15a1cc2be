# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.

HOST_TESTS += seamcall

seamcall_TEST := tests/tdx/seamcall_test.c
seamcall_SOURCES := tdx/seamcall.c tdx/status.c
