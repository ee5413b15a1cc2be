# SPDX-License-Identifier: MIT
# HOST_TESTS names the tests of this folder; NAME_SOURCES are the real sources that each links.
