# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.

HOST_TESTS += seamcall

seamcall_TEST := tests/tdx/seamcall_test.c
seamcall_SOURCES := tdx/seamcall.c tdx/status.c

HOST_TESTS += spans

spans_TEST := tests/tdx/spans_test.c
spans_SOURCES := tdx/spans.c

TDX_TEST_ENVIRONMENT := tests/tdx/environment.c tests/tdx/plain_pages.c boot/machine.c tdx/seamcall.c \
                        tdx/status.c

HOST_TESTS += tdmr

tdmr_TEST := tests/tdx/tdmr_test.c
tdmr_SOURCES := tdx/tdmr.c tdx/spans.c tests/tdx/environment.c tests/tdx/plain_pages.c \
                tests/tdx/fake_module.c boot/machine.c tdx/seamcall.c tdx/status.c
