/* SPDX-License-Identifier: MIT */
/* The top floor's entry: what happens, in order. */
#include "boot/start.h"

#include "boot/cpu.h"
#include "boot/error.h"
#include "boot/log.h"
#include "boot/machine.h"
#include "boot/phys.h"
#include "boot/string.h"
#include "boot/vmx.h"
#include "tdx/module.h"
#include "tdx/pamt.h"
#include "vmm/layout.h"
#include "vmm/measure.h"
#include "vmm/summary.h"
#include "vmm/vm.h"
#include "vmm/vmx_vm.h"

#define STATUS_GOOD 0
#define STATUS_BAD 1

/* Self-tests of the VMM by the name that tain.cfg gives. */
#define TEST_CORRUPT_MIRROR "corrupt-mirror"
#define TEST_TOUCH_PRIVATE "touch-private"

static bool test_is(const char *name)
{
    return strcmp(machine()->config.test, name) == 0;
}

static void enable_vmx_here(void *argument)
{
    _Atomic u32 *failures = argument;
    if (vmx_enable())
        ++*failures;
}

static enum error enable_vmx(void)
{
    _Atomic u32 failures = 0;
    cpu_run_on_all(enable_vmx_here, (void *)&failures);
    if (failures == 0)
        return OK;
    log_line("tain: %u of %u processors cannot run guests", failures, cpu_count());
    return ERR_UNSUPPORTED;
}

/* Below 1 MiB firmware and trampolines have their habits: not worth the risk. */
static void add_memory(void)
{
    u64 total = 0;
    for (u32 i = 0; i < machine()->range_count; i++) {
        const struct memory_range *range = &machine()->ranges[i];
        u64 start = range->start < MIB ? MIB : range->start;
        if (range->kind != MEMORY_FREE || start >= range->end)
            continue;
        pages_add_range(hpa(start), hpa(range->end));
        total += range->end - start;
    }
    log_line("tain: %llu MiB of memory to give", (unsigned long long)(total / MIB));
}

static enum error add_injections(void)
{
    const struct config *config = &machine()->config;
    enum error e = OK;
    for (u32 i = 0; i < config->inject_count && !e; i++)
        e = seamcall_inject(&config->inject[i]);
    return e;
}

/* In strict mode this is a page fault, and its panic names the page. */
static void touch_private_page(struct vm *vm)
{
    hpa_t page = mirror_lookup(&vm->td.mirror, gpa_to_gfn(gpa(LAYOUT_SHIM)), NULL);
    log_line("tain: test %s: writing to %#llx, a private page of guest %s", TEST_TOUCH_PRIVATE,
             (unsigned long long)page.raw, vm->config->name);
    _Atomic u64 *word = phys_to_virt(page);
    u64 held = atomic_fetch_add(word, 0); /* a write that changes nothing */
    log_line("tain: test %s: it could be written: %#llx", TEST_TOUCH_PRIVATE,
             (unsigned long long)held);
}

static void audit(struct vm *vm, struct vm_result *result)
{
    if (!vm_is_td(vm)) {
        result->audit = vmx_vm_audit(vm);
        return;
    }
    if (test_is(TEST_CORRUPT_MIRROR) &&
        mirror_corrupt_for_test(&vm->td.mirror, gpa_to_gfn(gpa(LAYOUT_SHIM))))
        log_line("tain: test %s: there was nothing to corrupt", TEST_CORRUPT_MIRROR);
    result->audit = mirror_audit(&vm->td.mirror, result->audit_message);
    if (!result->audit)
        result->audit = pamt_audit(result->audit_message);
}

static enum error run_guest(const struct guest_config *config)
{
    static struct vm vm;
    static struct vm_result result;
    enum error e = vm_create(&vm, config);
    if (e)
        return e;
    if (vm_is_td(&vm) && test_is(TEST_TOUCH_PRIVATE))
        touch_private_page(&vm);
    result = (struct vm_result){0};
    (void)vm_run(&vm);
    audit(&vm, &result);
    summary_collect(&result, &vm);
    result.destroyed = measure_is_on() ? measure_destroy(&vm) : vm_destroy(&vm);
    summary_print(&vm, &result);
    return vm_result_is_good(&vm, &result) ? OK : ERR_STATE;
}

static enum error check_test_name(void)
{
    const char *name = machine()->config.test;
    if (!name[0] || test_is(TEST_CORRUPT_MIRROR) || test_is(TEST_TOUCH_PRIVATE) || measure_is_on())
        return OK;
    log_line("tain.cfg: test = %s: there is %s, %s and %s", name, TEST_CORRUPT_MIRROR,
             TEST_TOUCH_PRIVATE, TEST_MEASURE);
    return ERR_INVALID;
}

static enum error start(void)
{
    enum error e = check_test_name();
    if (!e)
        e = enable_vmx();
    if (e)
        return e;
    add_memory();
    seamcall_measure(measure_is_on());
    e = add_injections();
    if (!e)
        e = tdx_module_start();
    return e;
}

int vmm_main(void)
{
    const struct config *config = &machine()->config;
    log_line("tain: a VMM for Intel TDX; %u guest%s in tain.cfg", config->guest_count,
             config->guest_count == 1 ? "" : "s");
    enum error e = start();
    if (e) {
        log_line("tain: no guest was run: %s", error_name(e));
        return STATUS_BAD;
    }
    int status = STATUS_GOOD;
    for (u32 i = 0; i < config->guest_count; i++) {
        if (run_guest(&config->guests[i]))
            status = STATUS_BAD;
    }
    struct broken_rules broken;
    return tdx_broken_rules(&broken) && broken.sum ? STATUS_BAD : status;
}
