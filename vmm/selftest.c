/* SPDX-License-Identifier: MIT */
#include "vmm/selftest.h"

#include "boot/log.h"
#include "boot/machine.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "vmm/layout.h"
#include "vmm/measure.h"
#include "vmm/vm.h"

#define TEST_CORRUPT_MIRROR "corrupt-mirror"
#define TEST_TOUCH_PRIVATE "touch-private"

static bool test_is(const char *name)
{
    return strcmp(machine()->config.test, name) == 0;
}

enum error selftest_check_name(void)
{
    const char *name = machine()->config.test;
    if (!name[0] || test_is(TEST_CORRUPT_MIRROR) || test_is(TEST_TOUCH_PRIVATE) || measure_is_on())
        return OK;
    log_line("tain.cfg: test = %s: there is %s, %s and %s", name, TEST_CORRUPT_MIRROR,
             TEST_TOUCH_PRIVATE, TEST_MEASURE);
    return ERR_INVALID;
}

void selftest_before_start(struct vm *vm)
{
    if (!vm_is_td(vm) || !test_is(TEST_TOUCH_PRIVATE))
        return;
    hpa_t page = mirror_lookup(&vm->td.mirror, gpa_to_gfn(gpa(LAYOUT_SHIM)), NULL);
    log_line("tain: test %s: writing to %#llx, a private page of guest %s", TEST_TOUCH_PRIVATE,
             (unsigned long long)page.raw, vm->config->name);
    _Atomic u64 *word = phys_to_virt(page);
    u64 held = atomic_fetch_add(word, 0); /* a write that changes nothing */
    log_line("tain: test %s: it could be written: %#llx", TEST_TOUCH_PRIVATE,
             (unsigned long long)held);
}

void selftest_before_audit(struct vm *vm)
{
    if (test_is(TEST_CORRUPT_MIRROR) &&
        mirror_corrupt_for_test(&vm->td.mirror, gpa_to_gfn(gpa(LAYOUT_SHIM))))
        log_line("tain: test %s: there was nothing to corrupt", TEST_CORRUPT_MIRROR);
}
