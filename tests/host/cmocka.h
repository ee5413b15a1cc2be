/* SPDX-License-Identifier: MIT */
/* cmocka and what it wants included before it. */
#ifndef TESTS_HOST_CMOCKA_H
#define TESTS_HOST_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
