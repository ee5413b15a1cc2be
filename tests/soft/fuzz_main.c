/* SPDX-License-Identifier: MIT */
/* What libFuzzer calls. FUZZ_SHOW=1 in the environment prints each operation and its answer. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/soft/fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t len_bytes);

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t len_bytes)
{
    char message[FUZZ_MESSAGE_BYTES];
    if (fuzz_run(bytes, len_bytes, message))
        return 0;
    fprintf(stderr, "fuzz: %s\n", message);
    abort();
}
