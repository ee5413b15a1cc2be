/* SPDX-License-Identifier: MIT */
/*
 * A VM's life: what is built in which order, and that nothing is left behind when any step is made
 * to fail; what the summary's last line says.
 */
#include <stdlib.h>
#include <string.h>

#include "boot/apic.h"
#include "boot/cpu.h"
#include "boot/interrupts.h"
#include "boot/phys.h"
#include "boot/time.h"
#include "boot/vmx.h"
#include "boot/x86.h"
#include "tdx/pamt.h"
#include "tests/host/cmocka.h"
#include "tests/host/machine.h"
#include "tests/vmm/fakes.h"
#include "vmm/guest_image.h"
#include "vmm/monitor.h"
#include "vmm/run.h"
#include "vmm/schedule.h"
#include "vmm/summary.h"
#include "vmm/vmx_interrupt.h"
#include "vmm/vmx_vm.h"

#define STEPS_MAX 64

const u8 shim_image[PAGE_BYTES] = {0x5a};

static u8 kernel[5000];
static struct machine described;
static struct guest_config config;
static struct vm vm;
static u32 steps, fail_at; /* steps of the build, and the one that fails (from 1) */
static u32 tds, epts, vcpus_created, finalized, caches_live;
static u32 vm_images, vmcs_live;
static gpa_t added[STEPS_MAX];
static u32 added_count;
static enum error destroy_error;
static const struct td_options *options_seen;

static enum error step(void)
{
    return ++steps == fail_at ? ERR_REFUSED : OK;
}

const struct tdx_module *tdx_module(void)
{
    static const struct tdx_module module = {.gpa_bits = 40};
    return &module;
}

enum error td_create(struct td *td, const struct td_options *options)
{
    static struct td_options copy;
    (void)td;
    enum error e = step();
    copy = *options;
    options_seen = &copy;
    tds += !e;
    return e;
}

enum error td_vcpu_create(struct td *td, struct td_vcpu *vcpu, u64 initial_rcx, hpa_t root)
{
    (void)td;
    (void)initial_rcx;
    assert_int_equal(root.raw, 0x77000);
    assert_int_equal(cpu_this()->index, CONTAINER_OF(vcpu, struct vcpu, td)->cpu);
    assert_int_equal(finalized, 0);
    enum error e = step();
    vcpus_created += !e;
    return e;
}

enum error td_add_page(struct td *td, struct vcpu_caches *caches, gpa_t address,
                       const void *content)
{
    u8 copy[PAGE_BYTES];
    (void)td;
    (void)caches;
    memcpy(copy, content, PAGE_BYTES); /* a whole page may be read */
    assert_int_equal(finalized, 0);
    enum error e = step();
    if (e)
        return e;
    if (address.raw == LAYOUT_FLAT_IMAGE + PAGE_BYTES) {
        assert_memory_equal(copy, kernel + PAGE_BYTES, sizeof kernel - PAGE_BYTES);
        for (u64 i = sizeof kernel - PAGE_BYTES; i < PAGE_BYTES; i++)
            assert_int_equal(copy[i], 0);
    }
    added[added_count++] = address;
    return OK;
}

enum error td_finalize(struct td *td)
{
    (void)td;
    enum error e = step();
    finalized += !e;
    return e;
}

enum error td_measurement(struct td *td, u8 mrtd[TD_MEASUREMENT_BYTES])
{
    (void)td;
    memset(mrtd, 0xab, TD_MEASUREMENT_BYTES);
    return step();
}

enum error td_destroy(struct td *td)
{
    (void)td;
    assert_int_equal(caches_live, 0);
    tds--;
    return destroy_error;
}

enum error ept_init(struct ept *ept, u32 gpa_bits, u32 features)
{
    assert_int_equal(features, EPT_FEATURE_2M);
    assert_int_equal(gpa_bits, 40);
    ept->root = hpa(0x77000);
    enum error e = step();
    epts += !e;
    return e;
}

void ept_destroy(struct ept *ept)
{
    (void)ept;
    assert_int_equal(tds, 0); /* the processor may walk it until the TD is gone */
    epts--;
}

u32 vmx_ept_features(void)
{
    return EPT_FEATURE_2M;
}

bool pamt_dynamic;

struct caches_stats vcpu_caches_statistics(const struct vcpu_caches *caches)
{
    (void)caches;
    return (struct caches_stats){.pages = 3, .refills = 2};
}

enum error mirror_audit(struct mirror *mirror, char message[AUDIT_MESSAGE_BYTES])
{
    (void)mirror;
    message[0] = 0;
    return OK;
}

enum error pamt_audit(char message[AUDIT_MESSAGE_BYTES])
{
    message[0] = 0;
    return OK;
}

void pamt_statistics(struct pamt_stats *stats)
{
    *stats = (struct pamt_stats){};
}

void vcpu_caches_init(struct vcpu_caches *caches, u32 metadata_pages)
{
    (void)metadata_pages;
    (void)caches;
    caches_live++;
}

void vcpu_caches_drain(struct vcpu_caches *caches)
{
    (void)caches;
    caches_live--;
}

void pages_statistics(struct pages_stats *stats)
{
    *stats = (struct pages_stats){0};
    stats->pages[PAGE_FREE] = 16 * MIB / PAGE_BYTES;
}

static u32 breaths;
void monitor_breathe(void)
{
    breaths++;
}

bool vcpu_can_run(struct vcpu *vcpu, u64 now)
{
    (void)now;
    return !vm_has_ended(vcpu->vm) && !vcpu->vm->paused;
}
u64 vcpu_wake_tsc(struct vcpu *vcpu)
{
    (void)vcpu;
    return ~0ull;
}
void vcpu_leave(const struct vcpu *vcpu)
{
    assert_false(vcpu->running);
}
void interrupts_window(void) {}
void apic_timer_arm(u64 tsc)
{
    assert_true(tsc > 0);
}
u64 time_us_to_tsc(u64 us)
{
    return us * 100;
}

void vcpu_run(struct vcpu *vcpu)
{
    if (!vm_is_td(vcpu->vm))
        assert_int_equal(vmcs_live, config.vcpus);
    guest_console_output(vcpu->vm, 'x');
    vm_end(vcpu->vm, VM_END_POWERED_OFF);
    vm_end(vcpu->vm, VM_END_TRIPLE_FAULT); /* the first counts */
}

enum error vmx_vm_create(struct vm *ordinary)
{
    enum error e = step();
    epts += !e;
    ordinary->has_direct = !e;
    return e;
}

enum error vmx_vm_add_image(struct vm *ordinary, const struct guest_image *image)
{
    assert_int_equal(ordinary->vcpu_count, config.vcpus);
    assert_int_equal(image->pages->shim.rdi, 0); /* no SHARED bit */
    assert_int_equal(image->pages->shim.rsi, config.memory_bytes);
    enum error e = step();
    vm_images += !e;
    return e;
}

u64 vmx_vm_pages(const struct vm *ordinary)
{
    return ordinary->vcpu_count + 41;
}

enum error vmx_vm_audit(struct vm *ordinary)
{
    (void)ordinary;
    return OK;
}

enum error vmx_vcpu_create(struct vcpu *vcpu, const struct shim_parameters *start)
{
    assert_true(hpa_is_none(vcpu->vmx.vmcs));
    assert_int_equal(start->entry, LAYOUT_FLAT_IMAGE);
    enum error e = step();
    vmcs_live += !e;
    if (!e)
        vcpu->vmx.vmcs = hpa(0x88000);
    return e;
}

void vmx_vcpu_destroy(struct vcpu *vcpu)
{
    vmcs_live -= !hpa_is_none(vcpu->vmx.vmcs);
    vcpu->vmx.vmcs = HPA_NONE;
}

/* As processors 0 and 1 do it, one after the other. */
static enum vm_end run_to_the_end(void)
{
    assert_int_equal(vm_start(&vm), OK);
    while (!vm_has_ended(&vm)) {
        for (u32 cpu = 0; cpu < cpu_count(); cpu++) {
            host_cpu_set(cpu);
            (void)schedule_run(~0ull);
        }
        host_cpu_set(0);
    }
    vm_stop(&vm);
    return vm.end;
}

bool vmx_post(struct vcpu *vcpu, u8 vector)
{
    return vlapic_post(&vcpu->vmx.apic, vector);
}

void vmx_signal(struct vcpu *vcpu, u32 signal)
{
    vlapic_signal(&vcpu->vmx.apic, signal);
}

const char *td_exit_kind_name(unsigned kind)
{
    (void)kind;
    return "kind";
}

const struct seamcall_count *seamcall_counts(void)
{
    static struct seamcall_count counts[TDH_LEAF_LIMIT];
    counts[2].calls = 5;
    counts[2].failures = 2;
    counts[2].busy = 1;
    return counts;
}

const char *tdh_leaf_name(u32 leaf)
{
    return leaf == 2 ? "TDH.TWO" : "?";
}

static struct broken_rules broken_rules;
static bool has_checker;

bool tdx_broken_rules(struct broken_rules *broken)
{
    *broken = broken_rules;
    return has_checker;
}

const char *tdx_rule_name(enum soft_rule rule)
{
    return rule == SOFT_RULE_KICK_MISSING ? "kick-missing" : "?";
}

static int set_up(void **state)
{
    (void)state;
    /* Its memory and page allocator are used; the VM itself is made here. */
    struct vm *unused = fake_vm_create(MIB, 0);
    guest_console_take_back(unused);
    memory_destroy(&unused->memory);
    free(unused);
    memset(&described, 0, sizeof described);
    strcpy(described.files[0].path, "guest.bin");
    described.files[0].data = kernel;
    described.files[0].len_bytes = sizeof kernel;
    described.file_count = 1;
    described.tsc_hz = 100000000;
    machine_set(&described);
    memset(kernel, 0x3c, sizeof kernel);
    config = (struct guest_config){
        .name = "small", .kernel = "guest.bin", .memory_bytes = 8 * MIB, .vcpus = 1};
    steps = fail_at = tds = epts = vcpus_created = finalized = caches_live = added_count = 0;
    vm_images = vmcs_live = 0;
    destroy_error = OK;
    host_cpu_count_set(2, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(fakes.pages_taken, 0);
    assert_int_equal(tds + epts + caches_live + vmcs_live, 0);
    host_memory_destroy();
    return 0;
}

static void a_vm_is_built_and_given_back(void **state)
{
    (void)state;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(vcpus_created, 1);
    assert_int_equal(finalized, 1);
    assert_int_equal(vm.initial_pages, added_count);
    assert_int_equal(added[added_count - 1].raw, LAYOUT_FLAT_IMAGE + PAGE_BYTES);
    assert_int_equal(vm.shared_bit.raw, 1ull << 39);
    assert_true(options_seen->attributes == TD_ATTRIBUTE_SEPT_VE_DISABLE);
    assert_int_equal(options_seen->tsc_hz, 100000000);
    assert_int_equal(run_to_the_end(), VM_END_POWERED_OFF);
    assert_int_equal(vm_destroy(&vm), OK);
    assert_int_equal(vm_destroy(&vm), OK); /* twice is once */
}

/* Every step of the build, then every page of it, is made to fail in turn. */
static void whatever_fails_nothing_is_left_behind(void **state)
{
    (void)state;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(vm_destroy(&vm), OK);
    u32 all = steps;
    assert_true(all > 10);
    for (u32 at = 1; at <= all; at++) {
        tear_down(NULL);
        set_up(NULL);
        fail_at = at;
        assert_int_equal(vm_create(&vm, &config), ERR_REFUSED);
        assert_int_equal(steps, at); /* nothing is tried after a failure */
        assert_non_null(strstr(host_log(), "tain: guest small was not built: "));
        assert_int_equal(fakes.pages_taken, 0);
        assert_int_equal(tds + epts + caches_live, 0);
    }
    u32 failures = 0;
    for (u64 limit = 0;; limit++) {
        tear_down(NULL);
        set_up(NULL);
        fakes.pages_limit = limit;
        enum error e = vm_create(&vm, &config);
        if (!e)
            break;
        failures++;
        assert_int_equal(e, ERR_NO_MEMORY);
        assert_int_equal(fakes.pages_taken, 0);
        assert_int_equal(tds + epts + caches_live, 0);
    }
    assert_true(failures >= 4);
    assert_int_equal(vm_destroy(&vm), OK);
}

static void refused(const char *line, enum error error)
{
    host_log_clear();
    assert_int_equal(vm_create(&vm, &config), error);
    assert_non_null(strstr(host_log(), line));
    assert_int_equal(steps, 0);
}

static void what_cannot_be_is_refused_in_one_line(void **state)
{
    (void)state;
    config.memory_bytes = 4 * GIB;
    refused("guest small: memory of 4194304 KiB is not between 2 MiB and 2048 MiB", ERR_RANGE);
    config.memory_bytes = 1 * GIB;
    refused("guest small: memory of 1024 MiB, but the machine has only 16 MiB left\n",
            ERR_NO_MEMORY);
    config.memory_bytes = 8 * MIB;
    config.vcpus = 0;
    refused("guest small: 0 vCPUs are not between 1 and 64\n", ERR_UNSUPPORTED);
    config.vcpus = 1;
    config.processors[0] = 1;
    config.processors[1] = 2;
    config.processor_count = 2;
    refused("guest small: processor 2, but the machine has 2\n", ERR_RANGE);
    config.processor_count = 0;
    strcpy(config.kernel, "none");
    refused("guest small: none was not loaded\n", ERR_NOT_FOUND);
}

static void last_line_is(const struct vm_result *result, const char *line, bool good)
{
    host_log_clear();
    summary_print(&vm, result);
    const char *log = host_log(), *last = log + strlen(log) - 1;
    while (last > log && last[-1] != '\n')
        last--;
    assert_string_equal(last, line);
    assert_int_equal(vm_result_is_good(&vm, result), good);
}

static void the_last_line_says_why(void **state)
{
    (void)state;
    struct vm_result result = {0};
    assert_int_equal(vm_create(&vm, &config), OK);
    (void)run_to_the_end();
    summary_collect(&result, &vm);
    assert_int_equal(vm_destroy(&vm), OK);
    last_line_is(&result, "tain: guest small ended: powered off\n", true);
    assert_non_null(strstr(host_log(), "SEAMCALL TDH.TWO: 5, failed 2 (busy 1)\n"));
    assert_non_null(strstr(host_log(), "MRTD abab"));
    assert_non_null(strstr(host_log(), "audit: mirror and external table agree\n"));
    assert_null(strstr(host_log(), "checker"));
    vm.td.mirror.stats.external_leaked = 3;
    last_line_is(&result, "tain: guest small ended: powered off; 3 pages were leaked\n", false);
    result.audit = ERR_STATE;
    strcpy(result.audit_message, "GFN 1 differs");
    last_line_is(&result, "tain: guest small ended: powered off; the audit failed: GFN 1 differs\n",
                 false);
    vm.td.mirror.stats.external_leaked = 0;
    result = (struct vm_result){.end = VM_END_TRIPLE_FAULT};
    last_line_is(&result, "tain: guest small ended: triple fault\n", false);
    result.end = VM_END_BY_USER;
    last_line_is(&result, "tain: guest small ended: ended from the console\n", true);
}

static void broken_rules_are_told_by_name(void **state)
{
    (void)state;
    struct vm_result result = {0};
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(vm_destroy(&vm), OK);
    has_checker = true;
    summary_print(&vm, &result);
    assert_non_null(strstr(host_log(), "summary: checker: rules broken 0 times\n"));
    broken_rules.sum = broken_rules.counts[SOFT_RULE_KICK_MISSING] = 2;
    host_log_clear();
    summary_print(&vm, &result);
    assert_non_null(strstr(host_log(), "summary: checker: rules broken 2 times\n"
                                       "summary: checker: kick-missing: 2\n"));
    has_checker = false;
}

/* Of a TD nothing is made for it. */
static void an_ordinary_vm_is_built_and_given_back(void **state)
{
    (void)state;
    struct vm_result result = {0};
    config.kind = GUEST_VM;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(tds + vcpus_created + finalized + added_count, 0);
    assert_int_equal(vm_images, 1);
    assert_int_equal(vmcs_live, 1);
    assert_int_equal(run_to_the_end(), VM_END_POWERED_OFF);
    vm.vcpus[0]->vmx.exits[EXIT_CPUID] = 7;
    assert_int_equal(vm_audit(&vm), OK);
    assert_non_null(strstr(host_log(), "tain: audit of guest small: every page is mapped once"));
    summary_collect(&result, &vm);
    assert_int_equal(vm_destroy(&vm), OK);
    last_line_is(&result, "tain: guest small ended: powered off\n", true);
    assert_non_null(strstr(host_log(), "summary: exits: CPUID: 7\n"));
    assert_non_null(strstr(host_log(), "summary: pages: 42 at the end;"));
    assert_null(strstr(host_log(), "SEAMCALL"));
    assert_null(strstr(host_log(), "MRTD"));
    result.audit = ERR_STATE;
    last_line_is(&result, "tain: guest small ended: powered off; the audit failed: \n", false);
}

static void whatever_fails_nothing_of_a_vm_is_left_behind(void **state)
{
    (void)state;
    config.kind = GUEST_VM;
    config.vcpus = 2;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(vm_destroy(&vm), OK);
    u32 all = steps;
    assert_int_equal(all, 4);
    for (u32 at = 1; at <= all; at++) {
        tear_down(NULL);
        set_up(NULL);
        config.kind = GUEST_VM;
        config.vcpus = 2;
        fail_at = at;
        assert_int_equal(vm_create(&vm, &config), ERR_REFUSED);
        assert_int_equal(steps, at);
        assert_non_null(strstr(host_log(), "tain: guest small was not built: "));
        assert_int_equal(fakes.pages_taken, 0);
        assert_int_equal(epts + caches_live + vmcs_live, 0);
    }
}

static void others_go_on_during_the_build(void **state)
{
    (void)state;
    breaths = 0;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(breaths, added_count);
    assert_int_equal(vm_destroy(&vm), OK);
}

static void vcpus_go_where_they_are_pinned_or_where_there_is_room(void **state)
{
    (void)state;
    config.vcpus = 3;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(vm.vcpus[0]->cpu, 0);
    assert_int_equal(vm.vcpus[1]->cpu, 1);
    assert_int_equal(vm.vcpus[2]->cpu, 0);
    assert_int_equal(vm_destroy(&vm), OK);
    finalized = 0;
    config.processors[0] = 1;
    config.processor_count = 1;
    assert_int_equal(vm_create(&vm, &config), OK);
    for (u32 i = 0; i < 3; i++)
        assert_int_equal(vm.vcpus[i]->cpu, 1);
    assert_int_equal(vm_destroy(&vm), OK);
}

static void interrupts_go_to_their_vcpus(void **state)
{
    (void)state;
    struct interrupt interrupt = {.kind = INTERRUPT_FIXED, .target = TARGET_ALL, .vector = 0x40};
    config.vcpus = 2;
    assert_int_equal(vm_create(&vm, &config), OK);
    vm_deliver(&vm, &interrupt, INTERRUPT_BROADCAST);
    assert_int_equal(fakes.posts, 2);
    /* One that sleeps on another processor is woken. */
    cpu_at(1)->kicked = false;
    vm.vcpus[1]->halted = true;
    interrupt = (struct interrupt){.kind = INTERRUPT_FIXED, .destination = 1, .vector = 0x41};
    vm_deliver(&vm, &interrupt, 0);
    assert_int_equal(fakes.posted_vcpu, 1);
    assert_true(cpu_at(1)->kicked);
    interrupt.kind = INTERRUPT_NMI;
    cpu_at(1)->kicked = false;
    vm_deliver(&vm, &interrupt, 0);
    assert_true(vm.vcpus[1]->nmi_wanted && !vm.vcpus[0]->nmi_wanted);
    assert_true(cpu_at(1)->kicked);
    assert_int_equal(fakes.posts, 3);
    assert_int_equal(vm_destroy(&vm), OK);
}

/* With an APIC of the VMM's own, which takes what a TD has no use for. */
static void interrupts_and_signals_go_to_the_vcpus_of_a_vm(void **state)
{
    (void)state;
    struct interrupt interrupt = {.kind = INTERRUPT_FIXED, .destination = 1, .vector = 0x41};
    config.kind = GUEST_VM;
    config.vcpus = 2;
    assert_int_equal(vm_create(&vm, &config), OK);
    assert_int_equal(vmcs_live, 2);
    struct vlapic *other = &vm.vcpus[1]->vmx.apic;
    cpu_at(1)->kicked = false;
    vm_deliver(&vm, &interrupt, 0);
    assert_int_equal(vlapic_next(other), 0x41);
    assert_true(cpu_at(1)->kicked);
    cpu_at(1)->kicked = false;
    vm_deliver(&vm, &interrupt, 0); /* it waits already */
    assert_false(cpu_at(1)->kicked);
    interrupt.kind = INTERRUPT_STARTUP;
    vm_deliver(&vm, &interrupt, 0);
    assert_true(cpu_at(1)->kicked);
    assert_int_equal(vlapic_take_signals(other), VLAPIC_STARTUP | 0x41);
    interrupt.kind = INTERRUPT_INIT;
    vm_deliver(&vm, &interrupt, 0);
    assert_int_equal(vlapic_take_signals(other), VLAPIC_INIT);
    interrupt.kind = INTERRUPT_NMI;
    vm_deliver(&vm, &interrupt, 0);
    assert_int_equal(vlapic_take_signals(other), VLAPIC_NMI);
    assert_int_equal(vlapic_take_signals(&vm.vcpus[0]->vmx.apic), 0);
    assert_int_equal(fakes.posts, 0);
    assert_int_equal(run_to_the_end(), VM_END_POWERED_OFF);
    assert_int_equal(vm_destroy(&vm), OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_vm_is_built_and_given_back),
        TEST(whatever_fails_nothing_is_left_behind),
        TEST(what_cannot_be_is_refused_in_one_line),
        TEST(the_last_line_says_why),
        TEST(broken_rules_are_told_by_name),
        TEST(others_go_on_during_the_build),
        TEST(vcpus_go_where_they_are_pinned_or_where_there_is_room),
        TEST(interrupts_go_to_their_vcpus),
        TEST(an_ordinary_vm_is_built_and_given_back),
        TEST(whatever_fails_nothing_of_a_vm_is_left_behind),
        TEST(interrupts_and_signals_go_to_the_vcpus_of_a_vm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
