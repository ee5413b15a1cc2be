# SPDX-License-Identifier: MIT
# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.
# Example:
#   HOST_TESTS += mirror
#   mirror_TEST := tests/mm/mirror_test.c
#   mirror_SOURCES := mm/mirror.c mm/caches.c
